"""Embeds for many documents at once: requests are as large as allowed, several in flight, and never wait for more."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from redoubt.clients.vllm import Embedder
from redoubt.errors import EmbedderDown
from redoubt.model import Vector, Vectors


class Batcher:
    """`embed` for the pipeline: texts of different documents share requests while the embedder is busy."""

    def __init__(self, embedder: Embedder, *, dimensions: int, batch: int, in_flight: int) -> None:
        self._embedder = embedder
        self._dimensions = dimensions
        self._batch = batch
        self._in_flight = in_flight
        self._waiting: list[tuple[str, asyncio.Future[Vector]]] = []
        self._running: set[asyncio.Task[None]] = set()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors: float32 (len(texts), dimensions), L2-normalised; `EmbedderDown` if that cannot be had."""
        if not texts:
            return np.zeros((0, self._dimensions), np.float32)
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in texts]
        self._waiting += zip(texts, futures, strict=True)
        self._send()
        return np.stack(await asyncio.gather(*futures))

    def _send(self) -> None:
        while self._waiting and len(self._running) < self._in_flight:
            part, self._waiting = self._waiting[: self._batch], self._waiting[self._batch :]
            task = asyncio.create_task(self._request(part))
            self._running.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._send()

    async def _request(self, part: list[tuple[str, asyncio.Future[Vector]]]) -> None:
        try:
            vectors = await self._embedder.embed([text for text, _ in part])
            if vectors.shape != (len(part), self._dimensions):
                raise EmbedderDown(
                    "the embedder gives vectors of another size",
                    why=f"{vectors.shape[1] if vectors.ndim == 2 else 0} dimensions, the index has {self._dimensions}",
                    fix="serve the model that the index was built with, or reindex",
                )
        except Exception as error:
            for _, future in part:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), vector in zip(part, vectors, strict=True):
            if not future.done():
                future.set_result(vector)


Embed = Callable[[Sequence[str]], Awaitable[Vectors]]
