"""One row a request, before its answer, whatever becomes of it; never the question, never a text, never a key."""

import asyncio
import hashlib
import json
from contextlib import suppress
from uuid import UUID

import pytest

from gateway_site import Corpus, Served
from redoubt.gateway import pipeline

pytestmark = pytest.mark.anyio

TEXT = "The pharmacy is open from eight to eighteen on weekdays."
QUESTION = "When is the pharmacy open on weekdays?"


def chat(question: str = QUESTION, **more: object) -> dict:
    return {"model": "main:quote", "messages": [{"role": "user", "content": question}], **more}


async def test_each_request_leaves_one_row(gateway: Served, corpus: Corpus) -> None:
    document = await corpus.add("pharmacy.md", TEXT)
    key = await corpus.key("anna")
    ((key_id,),) = [tuple(row.values()) for row in await corpus.execute("SELECT id FROM api_key")]
    async with gateway.client(key) as client, gateway.client() as stranger:
        answered = await client.post("/v1/chat/completions", json=chat())
        await client.post("/v1/chat/completions", json=chat(stream=True))
        await client.post("/v1/chat/completions", json=chat("What is the boiling point of tungsten?"))
        await client.post("/v1/chat/completions", json=chat(n=2))
        await client.post("/v1/chat/completions", content=b"{", headers={"Content-Type": "application/json"})
        await client.post("/v1/search", json={"query": QUESTION})
        await client.post("/v1/embeddings", json={"model": "all-minilm-l6-v2", "input": QUESTION})
        await client.get("/v1/models")
        await client.get(f"/v1/documents/{document}/versions/1")
        await client.get(f"/v1/documents/{document}/versions/2")
        await client.get("/v1/no/such/route")
        await client.put("/v1/models")
        await stranger.get("/v1/models")
        await client.get("/health/live")
        await client.get("/docs")
    rows = await corpus.audit()
    assert [(r["route"], r["outcome"], r["status"], r["reason"]) for r in rows] == [
        ("/v1/chat/completions", "answered", 200, None),
        ("/v1/chat/completions", "answered", 200, None),
        ("/v1/chat/completions", "refused", 200, "low_score"),
        ("/v1/chat/completions", "rejected", 400, "bad-input"),
        ("/v1/chat/completions", "rejected", 400, "bad-input"),
        ("/v1/search", "answered", 200, None),
        ("/v1/embeddings", "answered", 200, None),
        ("/v1/models", "answered", 200, None),
        ("/v1/documents/{document_id}/versions/{version}", "answered", 200, None),
        ("/v1/documents/{document_id}/versions/{version}", "rejected", 404, "not-found"),
        ("unknown", "rejected", 404, None),
        ("/v1/models", "rejected", 405, None),
        ("/v1/models", "rejected", 401, "unauthorized"),
    ]
    shown = [[str(document), 1]]
    assert [r["documents"] for r in rows] == [shown, shown, [], [], [], shown, [], [], shown, [], [], [], []]
    assert [r["key_id"] for r in rows] == [key_id] * 12 + [None]
    first = rows[0]
    assert first["question_hash"] == hashlib.sha256(QUESTION.encode()).digest()
    assert (first["index"], first["model"]) == ("main", "main:quote")
    assert first["request_id"] == UUID(answered.headers["x-request-id"])
    assert str(first["request_id"]) == answered.json()["redoubt"]["request_id"]
    assert first["duration_ms"] > 0
    everything = json.dumps(rows, default=str)
    for secret in (QUESTION, "pharmacy", "tungsten", key):
        assert secret not in everything


async def test_without_its_row_no_answer_leaves(gateway: Served, corpus: Corpus) -> None:
    await corpus.add("pharmacy.md", TEXT)
    key = await corpus.key("anna")
    await corpus.execute("REVOKE INSERT ON audit FROM redoubt_gateway")
    async with gateway.client(key) as client, gateway.client() as stranger:
        for response in (
            await client.post("/v1/chat/completions", json=chat()),
            await client.post("/v1/chat/completions", json=chat(stream=True)),
            await client.post("/v1/search", json={"query": QUESTION}),
            await client.get("/v1/models"),
            await stranger.get("/v1/models"),
        ):
            assert response.status_code == 503
            assert set(response.json()) == {"error"}
            assert "audit" in response.json()["error"]["message"]
            assert "pharmacy" not in response.text
        await corpus.execute("GRANT INSERT ON audit TO redoubt_gateway")
        assert (await client.post("/v1/chat/completions", json=chat())).status_code == 200
    assert len(await corpus.audit()) == 1


async def test_the_row_is_there_when_the_first_content_is(gateway: Served, corpus: Corpus) -> None:
    await corpus.add("pharmacy.md", TEXT)
    async with (
        gateway.client(await corpus.key("anna")) as client,
        client.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as response,
    ):
        async for _ in response.aiter_lines():
            (row,) = await corpus.audit()
            assert row["outcome"] == "answered"
            break


async def test_a_client_that_leaves_before_the_answer_is_cancelled(
    gateway: Served, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await corpus.add("pharmacy.md", TEXT)
    key = await corpus.key("anna")
    reached, stopped = asyncio.Event(), asyncio.Event()

    async def endless(*_: object) -> None:
        reached.set()
        try:
            await asyncio.sleep(3600)
        finally:
            stopped.set()

    monkeypatch.setattr(pipeline, "answer", endless)
    async with gateway.client(key) as client:
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=chat()))
        await reached.wait()
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
    await asyncio.wait_for(stopped.wait(), 5)
    async with asyncio.timeout(5):
        while not (rows := await corpus.audit()):
            await asyncio.sleep(0.01)
    (row,) = rows
    assert (row["outcome"], row["status"], row["documents"]) == ("cancelled", 499, [])
    assert await metric(gateway, 'redoubt_requests_total{outcome="cancelled"}') == 1


async def test_a_client_that_leaves_mid_stream_is_on_record_with_what_was_released(
    gateway: Served, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = await corpus.add("pharmacy.md", TEXT)
    key = await corpus.key("anna")
    from redoubt.gateway import routes

    stopped = asyncio.Event()

    async def slowly(events: object):
        try:
            for at, event in enumerate(events):
                yield event
                if at == 1:
                    await asyncio.sleep(3600)
        finally:
            stopped.set()

    monkeypatch.setattr(routes, "_each", slowly)
    async with (
        gateway.client(key) as client,
        client.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as response,
    ):
        async for line in response.aiter_lines():
            if "pharmacy" in line:
                break
    await asyncio.wait_for(stopped.wait(), 5)
    async with asyncio.timeout(5):
        while await metric(gateway, 'redoubt_requests_total{outcome="cancelled"}') != 1:
            await asyncio.sleep(0.01)
    (row,) = await corpus.audit()
    assert (row["outcome"], row["documents"]) == ("answered", [[str(document), 1]])


async def metric(served: Served, name: str) -> float | None:
    async with served.client() as client:
        text = (await client.get("/metrics")).text
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)), None)


async def test_metrics_tell_of_outcomes_stages_and_scores(gateway: Served, corpus: Corpus) -> None:
    await corpus.add("pharmacy.md", TEXT)
    async with gateway.client(await corpus.key("anna")) as client:
        await client.post("/v1/chat/completions", json=chat())
        await client.post("/v1/chat/completions", json=chat("What is the boiling point of tungsten?", stream=True))
        await client.get("/v1/nothing")
    expected = {
        'redoubt_requests_total{outcome="answered"}': 1,
        'redoubt_requests_total{outcome="refused"}': 1,
        'redoubt_requests_total{outcome="rejected"}': 1,
        'redoubt_refusals_total{reason="low_score"}': 1,
        'redoubt_request_duration_seconds_count{route="/v1/chat/completions",stream="false"}': 1,
        'redoubt_request_duration_seconds_count{route="/v1/chat/completions",stream="true"}': 1,
        'redoubt_request_duration_seconds_count{route="unknown",stream="false"}': 1,
        'redoubt_stage_duration_seconds_count{stage="auth"}': 3,
        'redoubt_stage_duration_seconds_count{stage="embed"}': 2,
        'redoubt_stage_duration_seconds_count{stage="retrieve"}': 2,
        'redoubt_stage_duration_seconds_count{stage="ground"}': 2,
        'redoubt_stage_duration_seconds_count{stage="cite"}': 1,
        'redoubt_stage_duration_seconds_count{stage="audit"}': 3,
        'redoubt_retrieval_hits_count{index="main"}': 2,
        'redoubt_retrieval_top_score_ratio_count{index="main"}': 2,
    }
    assert {name: await metric(gateway, name) for name in expected} == expected
