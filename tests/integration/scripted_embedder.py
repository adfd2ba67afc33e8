"""An embedder that misbehaves on demand, which a real one cannot be made to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from redoubt import settings

DIMENSIONS = 384


@dataclass
class Scripted:
    """Answers with vectors that depend on the text, or as `mode` says; holds every answer back while `gate` is shut."""

    mode: str = "well"
    asked: int = 0
    seconds: float = 0.0  # a request takes
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def answer(self, request: web.Request) -> web.Response:
        texts = (await request.json())["input"]
        probe = texts == ["ready"]
        if self.mode == "gone" or (self.mode == "down" and not probe):
            return web.Response(status=500)
        mode = "well" if probe else self.mode
        if not probe:
            self.asked += 1
            await asyncio.sleep(self.seconds)
            await self.gate.wait()
        if mode == "slow":
            await asyncio.sleep(30)
        if mode == "picky" and any("poison" in text for text in texts):
            return web.json_response({"error": {"message": "no"}}, status=400)
        size = DIMENSIONS - (mode == "dimension")
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


@asynccontextmanager
async def scripted_embedder(model: Path) -> AsyncIterator[tuple[Scripted, settings.Embedder]]:
    """The script, and how the embedder that follows it is reached."""
    script = Scripted()
    app = web.Application()
    app.router.add_post("/v1/embeddings", script.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    port = runner.addresses[0][1]
    yield script, settings.Embedder(url=f"http://127.0.0.1:{port}", model="scripted", path=model)
    script.gate.set()
    await runner.cleanup()
