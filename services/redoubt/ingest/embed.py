"""Embeds for many documents at once: requests are as large as allowed, several in flight, and never wait for more."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from redoubt.clients.vllm import Embedder
from redoubt.errors import EmbedderDown, InputError
from redoubt.model import Vector, Vectors

_OF_A_TEXT = {"5xx", "garbage"}  # kinds of failure that one text may bring upon all that share its request


@dataclass(frozen=True, slots=True)
class _Waiting:
    text: str
    vector: asyncio.Future[Vector]


class Batcher:
    """`embed` for the pipeline: texts of different documents share requests while the embedder is busy."""

    def __init__(self, embedder: Embedder, *, batch: int, in_flight: int) -> None:
        self._embedder = embedder
        self._batch = batch
        self._in_flight = in_flight
        self._urgent: deque[_Waiting] = deque()
        self._backfill: deque[_Waiting] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def embed(self, texts: Sequence[str], dimensions: int, *, urgent: bool = False) -> Vectors:
        """Vectors: float32 (len(texts), dimensions), L2-normalised; `EmbedderDown` if that cannot be had.

        Urgent texts go before all others that wait. `InputError`: the embedder refuses one of these texts.
        """
        if not texts:
            return np.zeros((0, dimensions), np.float32)
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(text, loop.create_future()) for text in texts]
        (self._urgent if urgent else self._backfill).extend(waiting)
        self._send()
        results = await asyncio.gather(*(one.vector for one in waiting), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        found = [result for result in results if not isinstance(result, BaseException)]
        if sizes := {len(vector) for vector in found} - {dimensions}:
            raise EmbedderDown(
                "the embedder gives vectors of another size",
                why=f"{max(sizes)} dimensions, the index has {dimensions}",
                fix="serve the model that the index was built with, or reindex",
                kind="garbage",
            )
        return np.stack(found)

    def _send(self) -> None:
        while (self._urgent or self._backfill) and len(self._running) < self._in_flight:
            part: list[_Waiting] = []
            for queue in (self._urgent, self._backfill):
                taken = list(islice(queue, self._batch - len(part)))
                for _ in taken:
                    queue.popleft()
                part += [one for one in taken if not one.vector.done()]  # whoever waited may have been cancelled
            if part:
                task = asyncio.create_task(self._request(part))
                self._running.add(task)
                task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._send()

    async def _request(self, part: list[_Waiting]) -> None:
        try:
            vectors = await self._embedder.embed([one.text for one in part])
        except (EmbedderDown, InputError) as error:
            if len(part) > 1 and (isinstance(error, InputError) or error.kind in _OF_A_TEXT):
                half = len(part) // 2  # it may be one text's doing: the others shall not suffer for it
                await self._request(part[:half])
                await self._request(part[half:])
            else:
                _fail(part, error)
        except Exception as error:
            _fail(part, error)
        else:
            for one, vector in zip(part, vectors, strict=True):
                if not one.vector.done():
                    one.vector.set_result(vector)


def _fail(part: list[_Waiting], error: Exception) -> None:
    for one in part:
        if not one.vector.done():
            one.vector.set_exception(error)
