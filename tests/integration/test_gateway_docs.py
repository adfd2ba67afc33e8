"""The API's reference works inside the gap: no script, nothing from elsewhere, every operation in it."""

import re

import pytest

from gateway_site import Served

pytestmark = pytest.mark.anyio


async def test_the_page_refers_to_nothing_outside(gateway: Served) -> None:
    async with gateway.client() as client:
        page = await client.get("/docs")
        document = (await client.get("/openapi.json")).json()
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert not re.search(r"https?:|//|<script|<iframe|style=|\son[a-z]+=", page.text)
        for path in document["paths"]:
            assert f"<code>{path}</code>" in page.text
        for name in ("model", "messages", "stream", "top_k", "encoding_format"):
            assert f"<code>{name}</code>" in page.text
        references = set(re.findall(r'(?:href|src)="([^"#]+)"', page.text))
        assert references == {"/docs/style.css", "/openapi.json"}
        for path in references:
            found = await client.get(path)
            assert found.status_code == 200
            assert "http" not in found.text or path == "/openapi.json"


async def test_what_it_is_made_from_is_whole(gateway: Served) -> None:
    async with gateway.client() as client:
        document = (await client.get("/openapi.json")).json()
    assert not re.search(r"https?://", str(document))
    assert {
        "/v1/chat/completions", "/v1/models", "/v1/models/{model}", "/v1/embeddings", "/v1/search",
        "/v1/documents/{document_id}/versions/{version}", "/health/live", "/health/ready", "/metrics",
    } == set(document["paths"])  # fmt: skip
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
