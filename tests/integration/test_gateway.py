"""A question's whole journey through a real gateway: Postgres, vLLM, HTTP."""

import pytest

from gateway_site import Corpus, Served

pytestmark = pytest.mark.anyio

LEAVE = "# Leave\n\nEmployees receive 30 days of annual leave per year.\n\nThe canteen serves lunch from noon."


async def ask(served: Served, key: str, question: str, model: str = "main") -> dict:
    async with served.client(key) as client:
        response = await client.post(
            "/v1/chat/completions", json={"model": model, "messages": [{"role": "user", "content": question}]}
        )
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_question_is_answered_with_a_citation(gateway: Served, corpus: Corpus) -> None:
    document = await corpus.add("hr/leave.md", LEAVE, page=2)
    key = await corpus.key("anna")
    answer = await ask(gateway, key, "How many days of annual leave do employees receive?")
    message, redoubt = answer["choices"][0]["message"], answer["redoubt"]
    assert redoubt["outcome"] == "answered"
    assert redoubt["mode"] == "quote"
    citation = redoubt["citations"][0]
    assert citation["document"] == "hr/leave.md"
    assert citation["document_id"] == str(document)
    assert citation["version"] == 1
    assert citation["page"] == 2
    assert citation["as_of"] == "2025-03-01T00:00:00Z"
    start, end = citation["span"]
    assert LEAVE[start:end] == citation["quote"]
    assert "30 days" in citation["quote"]
    assert citation["quote"] in message["content"]
    assert "[1] hr/leave.md" in message["content"]
    cited = message["annotations"][0]["url_citation"]
    assert message["content"][cited["start_index"] : cited["end_index"]] == f"“{citation['quote']}” [1]"
    assert cited["url"] == f"{gateway.url}/v1/documents/{document}/versions/1#char={start},{end}"
    assert redoubt["searched"][0]["source"] == "docs"
    assert redoubt["searched"][0]["documents"] == 1
    assert {"auth", "embed", "retrieve", "ground", "cite"} <= set(redoubt["stages"])


async def test_a_question_without_support_is_refused(gateway: Served, corpus: Corpus) -> None:
    await corpus.add("hr/leave.md", LEAVE)
    answer = await ask(gateway, await corpus.key("anna"), "What is the boiling point of tungsten?")
    assert answer["redoubt"]["outcome"] == "refused"
    assert answer["redoubt"]["reason"] == "low_score"
    assert answer["redoubt"]["citations"] == []
    text = answer["choices"][0]["message"]["content"]
    assert "docs: 1 document, newest as of 2025-03-01, last checked" in text
