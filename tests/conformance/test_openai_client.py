"""The real `openai` package against a real gateway: what it sends is accepted, what it gets it can read."""

from collections.abc import AsyncIterator

import openai
import pytest

from gateway_site import Corpus, Served

pytestmark = pytest.mark.anyio

TEXT = "The night shift begins at 21:30 and ends at 06:15.\n\nThe canteen is closed at night."
QUESTION = [{"role": "user", "content": "When does the night shift begin?"}]


@pytest.fixture
async def client(gateway: Served, corpus: Corpus) -> AsyncIterator[openai.AsyncOpenAI]:
    await corpus.add("shifts.md", TEXT)
    async with openai.AsyncOpenAI(
        api_key=await corpus.key("app"), base_url=f"{gateway.url}/v1", max_retries=0
    ) as client:
        yield client


def is_cited(content: str, annotations: list, redoubt: dict) -> None:
    (cited,) = redoubt["citations"]
    assert "21:30" in cited["quote"]
    start, end = cited["span"]
    assert TEXT[start:end] == cited["quote"]
    (annotation,) = annotations
    found = annotation["url_citation"]
    assert annotation["type"] == "url_citation"
    assert content[found["start_index"] : found["end_index"]] == f"“{cited['quote']}” [1]"
    assert found["title"] == "shifts.md"
    assert found["url"].endswith(f"/v1/documents/{cited['document_id']}/versions/1#char={start},{end}")
    assert "[1] shifts.md" in content


async def test_a_completion(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="main", messages=QUESTION, temperature=0, max_tokens=200, user="someone"
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "stop"
    assert answer.usage.total_tokens == 0
    is_cited(
        choice.message.content, [a.model_dump() for a in choice.message.annotations], answer.model_extra["redoubt"]
    )


async def test_a_stream(client: openai.AsyncOpenAI) -> None:
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model="main:quote", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    ]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    content = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    carrying = [at for at, chunk in enumerate(chunks) if "redoubt" in (chunk.model_extra or {})]
    last_content = max(at for at, chunk in enumerate(chunks) if chunk.choices and chunk.choices[0].delta.content)
    assert carrying == [last_content]
    last = chunks[last_content]
    is_cited(content, last.choices[0].delta.model_extra["annotations"], last.model_extra["redoubt"])
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 0


async def test_both_forms_say_the_same(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="main", messages=QUESTION)
    stream = await client.chat.completions.create(model="main", messages=QUESTION, stream=True)
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(pieces) == whole.choices[0].message.content


async def test_a_refusal_is_a_normal_answer(client: openai.AsyncOpenAI) -> None:
    question = [{"role": "user", "content": "What is the boiling point of tungsten?"}]
    answer = await client.chat.completions.create(model="main", messages=question)
    assert answer.model_extra["redoubt"]["outcome"] == "refused"
    assert "Searched:" in answer.choices[0].message.content
    stream = await client.chat.completions.create(model="main", messages=question, stream=True)
    last = [chunk async for chunk in stream if chunk.model_extra]
    assert last[0].model_extra["redoubt"]["outcome"] == "refused"


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["main", "main:quote"]
    assert (await client.models.retrieve("main")).id == "main"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-4")


async def test_embeddings(client: openai.AsyncOpenAI) -> None:
    """The client asks for base64 unless told otherwise, and decodes it itself."""
    model = "all-minilm-l6-v2"
    packed = await client.embeddings.create(model=model, input=["one text", "another"])
    plain = await client.embeddings.create(model=model, input=["one text", "another"], encoding_format="float")
    assert len(packed.data) == 2
    assert packed.usage.prompt_tokens > 0
    for a, b in zip(packed.data, plain.data, strict=True):
        assert len(a.embedding) == 384
        assert a.embedding == pytest.approx(b.embedding, abs=1e-6)
        assert sum(x * x for x in a.embedding) == pytest.approx(1, abs=1e-5)


async def test_errors_are_the_client_s_own(client: openai.AsyncOpenAI, gateway: Served) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="main", messages=QUESTION, tools=[tool])
    assert caught.value.param == "tools"
    assert caught.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="main", messages=QUESTION, n=2)
    assert caught.value.param == "n"
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="nothing", messages=QUESTION)
    async with openai.AsyncOpenAI(api_key="sk-wrong", base_url=f"{gateway.url}/v1", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as denied:
            await stranger.models.list()
    assert denied.value.code == "unauthorized"


async def test_the_package_s_own_stream_helper_accumulates_our_chunks(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(model="main", messages=QUESTION) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    assert "21:30" in final.choices[0].message.content
    assert final.choices[0].finish_reason == "stop"
