"""Whatever is sent, the answer is an error that says what is wrong, in OpenAI's form, and never a 500."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest

from gateway_site import Corpus, Served, serving
from redoubt import settings

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hello"}]
GOOD = {"model": "main", "messages": HELLO}

BODIES = {
    "empty": b"",
    "not JSON": b"{nope",
    "truncated": b'{"model": "main", "messages": [',
    "invalid UTF-8": b'{"model": "\xff\xfe", "messages": []}',
    "lone surrogate": b'{"model": "main", "messages": [{"role": "user", "content": "\\ud800"}]}',
    "lone surrogate in a name": b'{"model": "main", "messages": [{"role": "user", "content": "x"}], "\\udfff": 1}',
    "NUL": b'{"model": "main", "messages": [{"role": "user", "content": "a\\u0000b"}]}',
    "NUL in the model": b'{"model": "ma\\u0000in", "messages": [{"role": "user", "content": "a"}]}',
    "deep": b"[" * 100_000,
    "deep and closed": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "deep in metadata": json.dumps(GOOD)[:-1].encode() + b', "metadata": ' + b'{"a":' * 900 + b"1" + b"}" * 901,
    "a number": b"7",
    "null": b"null",
    "a list": b"[]",
    "NaN": b'{"model": "main", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
    "huge integer": b'{"model": "main", "messages": [{"role": "user", "content": "x"}], "n": ' + b"9" * 5000 + b"}",
    "n": json.dumps(GOOD | {"n": 10**6}).encode(),
    "negative max_tokens": json.dumps(GOOD | {"max_tokens": -5}).encode(),
    "unknown field": json.dumps(GOOD | {"frobnicate": 1}).encode(),
    "tools": json.dumps(GOOD | {"tools": [{"type": "function", "function": {"name": "f"}}]}).encode(),
    "tool_choice": json.dumps(GOOD | {"tool_choice": {"type": "function"}}).encode(),
    "image": json.dumps(
        GOOD | {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]}
    ).encode(),
}


def is_openai_error(response: object, secret: str) -> None:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert secret not in response.text
    assert "X-Request-Id" in response.headers


async def test_a_malformed_question_is_a_400(gateway: Served, corpus: Corpus) -> None:
    key = await corpus.key("anna")
    headers = {"Content-Type": "application/json"}
    async with gateway.client(key) as client:
        for name, body in BODIES.items():
            response = await client.post("/v1/chat/completions", content=body, headers=headers)
            assert response.status_code == 400, (name, response.text)
            is_openai_error(response, key)


async def test_requests_that_fit_no_route(gateway: Served, corpus: Corpus) -> None:
    key = await corpus.key("anna")
    async with gateway.client(key) as client:
        for method, path, status in [
            ("GET", "/v1/nothing", 404),
            ("GET", "/v1/chat/completions", 405),
            ("DELETE", "/v1/models", 405),
            ("GET", "/v1/models/", 404),
            ("GET", "/v1/models/%00", 404),
            ("GET", "/v1/models/nothing", 404),
            ("GET", "/v1/documents/not-a-uuid/versions/1", 404),
            ("GET", "/v1/documents/00000000-0000-0000-0000-000000000000/versions/1", 404),
            ("GET", "/v1/documents/00000000-0000-0000-0000-000000000000/versions/0", 404),
            ("GET", "/v1/documents/00000000-0000-0000-0000-000000000000/versions/-1", 404),
            ("GET", f"/v1/documents/00000000-0000-0000-0000-000000000000/versions/{10**30}", 404),
            ("GET", "/v1/documents/00000000-0000-0000-0000-000000000000/versions/" + "9" * 5000, 404),
            ("GET", "/v1/documents/00000000-0000-0000-0000-000000000000/versions/x", 404),
            ("GET", "/v1/../v1/models", 200),
        ]:
            response = await client.request(method, path)
            assert response.status_code == status, path
            if status != 200:
                is_openai_error(response, key)
        assert (await client.request("GET", "/v1/chat/completions")).headers["allow"] == "POST"


OTHERS = [
    ("/v1/search", {"query": "x", "top_k": 0}),
    ("/v1/search", {"query": ""}),
    ("/v1/search", {"query": "  "}),
    ("/v1/search", {"query": "a\x00"}),
    ("/v1/search", {"query": "x", "everything": True}),
    ("/v1/search", {"query": "x" * 20_001}),
    ("/v1/search", {"query": "x", "index": "a\x00"}),
    ("/v1/embeddings", {"model": "all-minilm-l6-v2", "input": [1, 2]}),
    ("/v1/embeddings", {"model": "all-minilm-l6-v2", "input": []}),
    ("/v1/embeddings", {"model": "text-embedding-3", "input": "x"}),
    ("/v1/embeddings", {"model": "all-minilm-l6-v2", "input": "x", "dimensions": 3}),
    ("/v1/embeddings", {"model": "all-minilm-l6-v2", "input": "x", "encoding_format": "int8"}),
    ("/v1/embeddings", {"model": "all-minilm-l6-v2", "input": "word " * 2000}),
]


async def test_other_bodies_are_checked_too(gateway: Served, corpus: Corpus) -> None:
    key = await corpus.key("anna")
    async with gateway.client(key) as client:
        for path, body in OTHERS:
            response = await client.post(path, json=body)
            assert response.status_code == 400, (body, response.text)
            is_openai_error(response, key)


VALUES = [
    None, True, 0, -1, 1.5, 10**40, "", "x", "\ud800", "\x00", "main", [], {}, [None], ["user"], {"role": "user"},
    [{"role": "user", "content": [{}]}], [{"role": "user", "content": [{"type": "text", "text": {"a": 1}}]}],
    [{"role": {}, "content": "x"}], {"type": []}, {"include_usage": 3}, "auto", [[[]]], {"": ""},
]  # fmt: skip


async def test_any_value_is_served_or_refused(gateway: Served, corpus: Corpus) -> None:
    """Over HTTP for the fields that are read; the unit tests try every field."""
    key = await corpus.key("anna")
    embed = {"model": "all-minilm-l6-v2", "input": "x"}
    bodies = [("/v1/chat/completions", GOOD | {name: v}) for name in ("model", "messages", "stream") for v in VALUES]
    bodies += [("/v1/search", {"query": "x"} | {name: value}) for name in ("index", "query") for value in VALUES]
    bodies += [("/v1/embeddings", embed | {"input": value}) for value in VALUES]
    async with gateway.client(key) as client:
        for path, body in bodies:
            content = json.dumps(body)
            response = await client.post(path, content=content, headers={"Content-Type": "application/json"})
            assert response.status_code in {200, 400, 404}, (path, body, response.text)


async def test_an_unknown_index_is_a_404(gateway: Served, corpus: Corpus) -> None:
    async with gateway.client(await corpus.key("anna")) as client:
        chat = await client.post("/v1/chat/completions", json=GOOD | {"model": "nothing"})
        search = await client.post("/v1/search", json={"query": "x", "index": "nothing"})
    assert (chat.status_code, search.status_code) == (404, 404)


async def test_a_question_longer_than_the_embedder_reads_is_still_answered(gateway: Served, corpus: Corpus) -> None:
    await corpus.add("a.md", "The archive is open on Mondays.")
    async with gateway.client(await corpus.key("anna")) as client:
        long = "When is the archive open? " * 200
        response = await client.post(
            "/v1/chat/completions", json=GOOD | {"messages": [{"role": "user", "content": long}]}
        )
    assert response.status_code == 200


async def raw(served: Served, request: bytes, *, then: float = 10) -> bytes:
    parts = urlsplit(served.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(request)
    await writer.drain()
    try:
        return await asyncio.wait_for(reader.read(4096), then)
    finally:
        writer.close()


async def test_a_huge_body_is_refused_before_it_is_sent(gateway: Served, corpus: Corpus) -> None:
    key = await corpus.key("anna")
    head = f"POST /v1/search HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    declared = await raw(gateway, f"{head}Content-Length: 50000000000\r\n\r\n".encode())
    assert declared.startswith(b"HTTP/1.1 413")
    part = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    chunked = await raw(gateway, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + part)
    assert chunked.startswith(b"HTTP/1.1 413")
    assert b'"code":"too-large"' in chunked


async def test_a_body_that_never_comes_is_given_up(site: settings.Site, corpus: Corpus) -> None:
    key = await corpus.key("anna")
    async with serving(site, body_timeout_s=0.2) as served:
        head = f"POST /v1/search HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: 10\r\n\r\n{{"
        assert (await raw(served, head.encode())).startswith(b"HTTP/1.1 408")


async def test_every_response_carries_security_headers(gateway: Served, corpus: Corpus) -> None:
    async with gateway.client(await corpus.key("anna")) as client:
        for path in ("/v1/models", "/v1/nothing", "/docs", "/health/live", "/openapi.json", "/nothing"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["content-security-policy"].startswith("default-src 'self'")
            assert "server" not in headers
