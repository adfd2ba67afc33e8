"""No hit, citation, count, error, source or model from a document that one may not read; several principals."""

import asyncio
import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from gateway_site import Corpus, Served

pytestmark = pytest.mark.anyio

OPEN = "Visitors may park in the north garage for two hours."
SECRET = "The merger with Quillstone Partners closes on 14 November at a price of 81 million."
BOARD = "The board approved the merger budget of 90 million in its closed session."
QUESTION = "When does the merger with Quillstone Partners close, and at what price?"


class Reader:
    def __init__(self, served: Served, key: str) -> None:
        self.served, self.key = served, key

    async def get(self, path: str):
        async with self.served.client(self.key) as client:
            return await client.get(path)

    async def ask(self, question: str, model: str = "main", **more: object):
        body = {"model": model, "messages": [{"role": "user", "content": question}], **more}
        async with self.served.client(self.key) as client:
            return await client.post("/v1/chat/completions", json=body)

    async def search(self, query: str, **more: object):
        async with self.served.client(self.key) as client:
            return await client.post("/v1/search", json={"query": query, **more})


@pytest.fixture
async def readers(gateway: Served, corpus: Corpus) -> dict[str, Reader]:
    keys = {"nobody": [], "finance": ["finance"], "board": ["board", "finance"]}
    return {name: Reader(gateway, await corpus.key(name, *groups)) for name, groups in keys.items()}


async def test_each_principal_sees_its_own_and_nothing_of_the_rest(readers: dict[str, Reader], corpus: Corpus) -> None:
    documents = {
        "park.md": await corpus.add("park.md", OPEN),
        "deal.md": await corpus.add("deal.md", SECRET, ["finance"], source="deals"),
        "board.md": await corpus.add("board.md", BOARD, ["board"], source="deals"),
        "hidden.md": await corpus.add("hidden.md", SECRET, [], source="vault"),
    }
    visible = {
        "nobody": {"park.md": "docs"},
        "finance": {"park.md": "docs", "deal.md": "deals"},
        "board": {"park.md": "docs", "deal.md": "deals", "board.md": "deals"},
    }
    for name, seen in visible.items():
        reader = readers[name]
        hits = (await reader.search("merger price budget parking", top_k=100)).json()["hits"]
        assert {hit["document"] for hit in hits} == set(seen)
        for path, id_ in documents.items():
            assert (await reader.get(f"/v1/documents/{id_}/versions/1")).status_code == (200 if path in seen else 404)
        response = await reader.ask(QUESTION)
        redoubt = response.json()["redoubt"]
        assert redoubt["outcome"] == ("refused" if name == "nobody" else "answered")
        assert {cited["document"] for cited in redoubt["citations"]} <= set(seen)
        counts = {source: sum(of == source for of in seen.values()) for source in seen.values()}
        assert {s["source"]: s["documents"] for s in redoubt["searched"]} == counts
        for path in documents.keys() - seen.keys():
            assert path not in response.text
            assert str(documents[path]) not in response.text
    refusal = await readers["nobody"].ask(QUESTION)
    for word in ("deals", "vault", "Quillstone", "14 November", "deal.md"):
        assert word not in refusal.text


async def test_what_is_forbidden_reads_like_what_does_not_exist(readers: dict[str, Reader], corpus: Corpus) -> None:
    secret = await corpus.add("deal.md", SECRET, ["finance"])

    def told(response) -> object:
        return response.status_code, response.text

    nobody = readers["nobody"]
    unknown = UUID(int=7)
    forbidden = told(await nobody.get(f"/v1/documents/{secret}/versions/1"))
    assert forbidden == told(await nobody.get(f"/v1/documents/{unknown}/versions/1"))
    assert forbidden == told(await nobody.get(f"/v1/documents/{secret}/versions/99"))
    assert forbidden == told(await nobody.get("/v1/documents/nonsense/versions/1"))


async def test_an_answer_is_the_same_with_and_without_what_one_may_not_read(
    readers: dict[str, Reader], corpus: Corpus
) -> None:
    await corpus.add("park.md", OPEN)

    async def told() -> str:
        answer = (await readers["nobody"].ask("How long may visitors park in the garage?")).json()
        redoubt = answer["redoubt"]
        assert redoubt["outcome"] == "answered"
        cited = [{k: v for k, v in c.items() if k != "score"} for c in redoubt["citations"]]
        sources = [{k: v for k, v in s.items() if k != "last_success_at"} for s in redoubt["searched"]]
        return json.dumps([answer["choices"][0]["message"], cited, redoubt["conflicts"], sources])

    before = await told()
    await corpus.add("deal.md", SECRET, ["finance"])
    await corpus.add("park-3h.md", "Visitors may park in the north garage for three hours.", ["finance"])
    assert await told() == before


async def test_indexes_are_listed_for_those_who_can_read_something_in_them(
    readers: dict[str, Reader], corpus: Corpus
) -> None:
    await corpus.add("deal.md", SECRET, ["finance"], source="deals", index="mergers")
    await corpus.index("vacant")

    async def listed(name: str) -> list[str]:
        return [model["id"] for model in (await readers[name].get("/v1/models")).json()["data"]]

    assert await listed("nobody") == ["main", "main:quote"]
    assert await listed("finance") == ["main", "main:quote", "mergers", "mergers:quote"]
    assert (await readers["finance"].get("/v1/models/mergers:quote")).json()["id"] == "mergers:quote"
    hidden = await readers["nobody"].ask(QUESTION, "mergers")
    absent = await readers["nobody"].ask(QUESTION, "nothing")
    assert (hidden.status_code, hidden.text) == (absent.status_code, absent.text)
    assert hidden.status_code == 404
    searched = await readers["nobody"].search("merger", index="mergers")
    assert (searched.status_code, searched.text) == (404, hidden.text)
    model = await readers["nobody"].get("/v1/models/mergers")
    assert (model.status_code, model.text) == (404, hidden.text)


async def test_a_revoked_document_is_gone_on_the_next_query(readers: dict[str, Reader], corpus: Corpus) -> None:
    secret = await corpus.add("deal.md", SECRET, ["finance"])
    finance = readers["finance"]
    assert (await finance.ask(QUESTION)).json()["redoubt"]["outcome"] == "answered"
    await corpus.regroup(secret, ["board"])
    refused = (await finance.ask(QUESTION)).json()["redoubt"]
    assert refused["outcome"] == "refused"
    assert refused["searched"] == []
    assert (await finance.search("merger")).json()["hits"] == []
    assert (await finance.get(f"/v1/documents/{secret}/versions/1")).status_code == 404
    assert (await readers["board"].ask(QUESTION)).json()["redoubt"]["outcome"] == "answered"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE document SET acl_id = NULL WHERE id = %s",
        "UPDATE document SET deleted_at = now() WHERE id = %s",
        "UPDATE document SET version = 2 WHERE id = %s",
        "UPDATE source SET removed_at = now() WHERE id = (SELECT source_id FROM document WHERE id = %s)",
    ],
)
async def test_the_catalogue_has_the_last_word_over_the_store(
    readers: dict[str, Reader], corpus: Corpus, statement: str
) -> None:
    """A store that lags behind (as one outside Postgres may) gives nothing away."""
    secret = await corpus.add("deal.md", SECRET, ["finance"])
    finance = readers["finance"]
    assert (await finance.search("merger")).json()["hits"]
    await corpus.execute(statement, secret)
    assert (await finance.search("merger")).json()["hits"] == []
    assert (await finance.ask(QUESTION)).json()["redoubt"]["outcome"] == "refused"


async def test_a_quote_that_no_longer_stands_in_the_text_is_not_cited(
    readers: dict[str, Reader], corpus: Corpus
) -> None:
    secret = await corpus.add("deal.md", SECRET, ["finance"])
    await corpus.execute("UPDATE document_version SET text = 'replaced' WHERE document_id = %s", secret)
    redoubt = (await readers["finance"].ask(QUESTION)).json()["redoubt"]
    assert (redoubt["outcome"], redoubt["reason"]) == ("refused", "citation_check")


async def test_a_superseded_version_keeps_its_evidence_but_not_its_text(
    readers: dict[str, Reader], corpus: Corpus
) -> None:
    id_ = await corpus.add("deal.md", SECRET, ["finance"])
    first = (await readers["finance"].get(f"/v1/documents/{id_}/versions/1")).json()
    assert (first["text"], first["current"], first["gone"]) == (SECRET, True, None)
    await corpus.add("deal.md", "The merger was called off.", ["finance"], id_=id_)
    old = (await readers["finance"].get(f"/v1/documents/{id_}/versions/1")).json()
    new = (await readers["finance"].get(f"/v1/documents/{id_}/versions/2")).json()
    assert (old["text"], old["current"]) == (None, False)
    assert "superseded" in old["gone"]
    assert old["content_hash"] == first["content_hash"]
    assert old["ended_at"] is not None
    assert old["version"] == 1
    assert new["text"] == "The merger was called off."
    await corpus.regroup(id_, ["board"])
    assert (await readers["finance"].get(f"/v1/documents/{id_}/versions/1")).status_code == 404


async def test_requests_at_the_same_time_do_not_mix(readers: dict[str, Reader], corpus: Corpus) -> None:
    await corpus.add("park.md", OPEN)
    await corpus.add("deal.md", SECRET, ["finance"])
    names = ["nobody", "finance"] * 15
    answers = await asyncio.gather(*(readers[name].ask(QUESTION, stream=at % 3 == 0) for at, name in enumerate(names)))
    for name, response in zip(names, answers, strict=True):
        assert response.status_code == 200
        assert ("14 November" in response.text) == (name == "finance")
    rows = await corpus.audit()
    assert len({row["request_id"] for row in rows}) == len(names)
    assert {(row["key_id"], row["outcome"]) for row in rows} == {
        (row["key_id"], "answered" if row["documents"] else "refused") for row in rows
    }


async def test_documents_that_disagree_are_both_shown(readers: dict[str, Reader], corpus: Corpus) -> None:
    await corpus.add("old.md", "Employees receive 28 days of annual leave.", as_of=datetime(2022, 1, 1, tzinfo=UTC))
    await corpus.add("new.md", "Employees receive 30 days of annual leave.", as_of=datetime(2025, 1, 1, tzinfo=UTC))
    response = await readers["nobody"].ask("How many days of annual leave do employees receive?")
    redoubt = response.json()["redoubt"]
    (conflict,) = redoubt["conflicts"]
    by_number = {cited["number"]: cited for cited in redoubt["citations"]}
    assert [by_number[number]["document"] for number in conflict["citations"]] == ["new.md", "old.md"]
    assert "disagree" in response.json()["choices"][0]["message"]["content"]
