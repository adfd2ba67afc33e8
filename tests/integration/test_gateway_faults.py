"""What the gateway needs may be down, hang, fail or talk garbage: each has its answer, and none of them is a 500."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import psycopg
import pytest
from aiohttp import web

from gateway_site import Corpus, Served, end_backends, serving
from redoubt import settings
from redoubt.store.catalog.connect import single

pytestmark = pytest.mark.anyio

TEXT = "The pharmacy is open from eight to eighteen on weekdays."
ASK = {"model": "main", "messages": [{"role": "user", "content": "When is the pharmacy open on weekdays?"}]}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def false_embedder(folder: Path, handler: Handler) -> AsyncIterator[str]:
    """Something that answers in the embedder's place."""
    app = web.Application()
    app.router.add_post("/v1/embeddings", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    path = folder / "false.sock"
    await web.UnixSite(runner, str(path)).start()
    try:
        yield f"unix://{path}"
    finally:
        await runner.cleanup()


def vector(value: object) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=f'{{"data": [{{"index": 0, "embedding": {value}}}]}}', content_type="application/json")

    return handler


async def hang(_: web.Request) -> web.Response:
    await asyncio.sleep(3600)
    raise AssertionError


async def fail(_: web.Request) -> web.Response:
    return web.Response(status=500, text="CUDA error: secret question was ...")


async def drop(request: web.Request) -> web.Response:
    request.transport.close()
    return web.Response()


async def prose(_: web.Request) -> web.Response:
    return web.Response(text="<html>hello</html>", content_type="text/html")


EMBEDDERS = {
    "hang": (hang, "timeout"),
    "500": (fail, "5xx"),
    "drop": (drop, "connection"),
    "HTML": (prose, "garbage"),
    "NaN": (vector("[" + "NaN," * 383 + "NaN]"), "garbage"),
    "zeros": (vector([0.0] * 384), "garbage"),
    "text": (vector('"abc"'), "garbage"),
    "no vector": (vector("null"), "garbage"),
}


@pytest.mark.parametrize("name", EMBEDDERS)
async def test_a_failing_embedder_is_a_503_that_says_so(
    site: settings.Site, corpus: Corpus, tmp_path: Path, name: str
) -> None:
    handler, kind = EMBEDDERS[name]
    await corpus.add("pharmacy.md", TEXT)
    key = await corpus.key("anna")
    async with false_embedder(tmp_path, handler) as url:
        broken = site.model_copy(update={"embedder": site.embedder.model_copy(update={"url": url})})
        async with serving(broken, embed_timeout_s=0.3) as served, served.client(key) as client:
            chat = await client.post("/v1/chat/completions", json=ASK)
            stream = await client.post("/v1/chat/completions", json=ASK | {"stream": True})
            search = await client.post("/v1/search", json={"query": "pharmacy"})
            ready = await client.get("/health/ready")
            metrics = (await client.get("/metrics")).text
            models = await client.get("/v1/models")
    for response in (chat, stream, search):
        assert response.status_code == 503
        error = response.json()["error"]
        assert "embedder" in error["message"]
        assert error["code"] == "embedder-down"
        assert "secret question" not in response.text
        assert "retry-after" in response.headers
    assert ready.status_code == 503
    assert ready.json()["parts"]["catalog"] == "up"
    assert ready.json()["parts"]["embedder"].startswith("down: ")
    assert models.status_code == 200
    assert f'redoubt_upstream_errors_total{{kind="{kind}",upstream="embedder"}} 3.0' in metrics
    assert [row["outcome"] for row in await corpus.audit()] == ["error"] * 3 + ["answered"]


async def test_a_vector_of_the_wrong_size_is_no_500(site: settings.Site, corpus: Corpus, tmp_path: Path) -> None:
    await corpus.add("pharmacy.md", TEXT)
    key = await corpus.key("anna")
    async with false_embedder(tmp_path, vector([1.0] * 7)) as url:
        broken = site.model_copy(update={"embedder": site.embedder.model_copy(update={"url": url})})
        async with serving(broken) as served, served.client(key) as client:
            response = await client.post("/v1/chat/completions", json=ASK)
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "embedder-down"


async def test_an_index_of_another_embedder_is_refused(gateway: Served, corpus: Corpus) -> None:
    await corpus.add("pharmacy.md", TEXT)
    await corpus.execute("UPDATE generation SET embedder_digest = 'sha256:other'")
    async with gateway.client(await corpus.key("anna")) as client:
        response = await client.post("/v1/chat/completions", json=ASK)
    assert response.status_code == 409
    assert response.json()["error"]["code"] == "embedder-mismatch"


async def test_connections_cut_by_a_restart_are_made_anew(
    site: settings.Site, corpus: Corpus, database: settings.Catalog
) -> None:
    await corpus.add("pharmacy.md", TEXT)
    key = await corpus.key("anna")
    async with serving(site) as served, served.client(key) as client:
        assert (await client.post("/v1/chat/completions", json=ASK)).status_code == 200
        assert await end_backends(database, "redoubt-gateway") >= 1
        assert (await client.post("/v1/chat/completions", json=ASK)).status_code == 200


async def test_a_catalogue_that_is_gone_is_a_503(
    site: settings.Site, corpus: Corpus, database: settings.Catalog
) -> None:
    await corpus.add("pharmacy.md", TEXT)
    key = await corpus.key("anna")
    async with serving(site, catalog_timeout_s=0.5) as served, served.client(key) as client:
        assert (await client.post("/v1/chat/completions", json=ASK)).status_code == 200
        admin = database.dsn.replace(database.dsn.rpartition("dbname=")[2], "postgres")
        name = database.dsn.rpartition("dbname=")[2]
        async with single(f"{admin} user={database.admin_role}", service="test") as connection:
            await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
            try:
                await end_backends_of(connection, name)
                for _ in range(2):
                    response = await client.post("/v1/chat/completions", json=ASK)
                    assert response.status_code == 503
                    assert "pharmacy is open" not in response.text
                ready = await client.get("/health/ready")
                assert ready.status_code == 503
                assert ready.json()["parts"]["catalog"].startswith("down: ")
                assert (await client.get("/health/live")).status_code == 200
            finally:
                await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
        async with asyncio.timeout(20):
            while (await client.post("/v1/chat/completions", json=ASK)).status_code != 200:
                await asyncio.sleep(0.1)


async def end_backends_of(connection: psycopg.AsyncConnection, name: str) -> None:
    await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))


async def test_a_catalogue_that_hangs_is_a_503_in_time(
    site: settings.Site, corpus: Corpus, database: settings.Catalog
) -> None:
    """Every backend of the gateway is stopped, as a stalled disk would stop it."""
    await corpus.add("pharmacy.md", TEXT)
    key = await corpus.key("anna")
    async with serving(site, catalog_timeout_s=0.5) as served, served.client(key) as client:
        assert (await client.post("/v1/chat/completions", json=ASK)).status_code == 200
        rows = await corpus.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s AND datname = current_database()",
            "redoubt-gateway%",
        )
        pids = [row["pid"] for row in rows]
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            began = monotonic()
            response = await client.post("/v1/chat/completions", json=ASK)
            assert response.status_code == 503
            assert monotonic() - began < 3
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(30):
            while (await client.post("/v1/chat/completions", json=ASK)).status_code != 200:
                await asyncio.sleep(0.1)


async def test_readiness_needs_no_key_and_names_the_parts(gateway: Served) -> None:
    async with gateway.client() as client:
        ready = await client.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json() == {"status": "ready", "parts": {"catalog": "up", "embedder": "up"}}
