"""An embedder that is down, slow, or answers nonsense: nothing is lost, nothing wrong gets in, and it is said.

The embedder here is scripted: a real one cannot be made to misbehave on demand.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from ingest_site import IngestSite, ingest_site
from redoubt import settings

pytestmark = pytest.mark.anyio


@dataclass
class Scripted:
    """Answers with vectors that depend on the text, or as `mode` says."""

    mode: str = "well"
    asked: int = 0
    runner: web.AppRunner | None = field(default=None)

    async def answer(self, request: web.Request) -> web.Response:
        texts = (await request.json())["input"]
        if texts != ["ready"]:
            self.asked += 1
        mode = "well" if texts == ["ready"] else self.mode
        if mode == "down":
            return web.Response(status=500)
        if mode == "slow":
            await asyncio.sleep(30)
        size = 383 if mode == "dimension" else 384
        vectors = [[1.0 + (hash((text, i)) % 7) for i in range(size)] for text in texts]
        if mode == "nan":
            vectors[0][0] = float("nan")
        if mode == "zero":
            vectors = [[0.0] * size for _ in texts]
        if mode == "few":
            vectors = vectors[:-1]
        if mode == "garbage":
            return web.json_response({"hello": "world"})
        return web.json_response({"data": [{"index": i, "embedding": v} for i, v in enumerate(vectors)], "usage": {}})


@pytest.fixture
async def scripted(database: settings.Catalog, model_path: object) -> AsyncIterator[tuple[Scripted, IngestSite]]:
    script = Scripted()
    app = web.Application()
    app.router.add_post("/v1/embeddings", script.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    port = runner.addresses[0][1]
    part = settings.Embedder(url=f"http://127.0.0.1:{port}", model="scripted", path=model_path)  # type: ignore[arg-type]
    async with ingest_site(database, part) as site:
        yield script, site
    await runner.cleanup()


MODES = ("down", "slow", "dimension", "nan", "zero", "few", "garbage")


async def test_parked_with_its_reason_and_taken_up_again(scripted: tuple[Scripted, IngestSite]) -> None:
    script, site = scripted
    await site.add_source()
    async with site.worker(REDOUBT_INGEST_ATTEMPTS="2", REDOUBT_INGEST_EMBED_TIMEOUT_S="1"):
        for number, mode in enumerate(MODES, start=1):
            script.mode = mode
            path = f"{mode}.txt"
            (site.folder / path).write_text(f"The words of document {mode} stay out of messages.")
            detail = ""

            async def parked(path: str = path) -> bool:
                nonlocal detail
                rows = await site.rows("SELECT reason, detail FROM pending WHERE path = %s AND state = 'failed'", path)
                detail = rows[0]["detail"] if rows else ""
                return bool(rows) and rows[0]["reason"] == "embedder"

            await site.until(parked, what=f"{mode}: parked after two tries")
            assert detail
            assert "stay out" not in detail
            assert path not in await site.documents()
            script.mode = "well"

            async def searchable(number: int = number) -> bool:
                return len(await site.documents()) == number

            await site.until(searchable, what=f"{mode}: searchable once the embedder is back")
    assert "stay out" not in site.file.with_suffix(".log").read_text()
