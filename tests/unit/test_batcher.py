"""Texts of many documents in shared requests: full, bounded, urgent ones first, one bad text alone."""

import asyncio
from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest

from redoubt.clients.vllm import Embedder
from redoubt.errors import EmbedderDown, InputError
from redoubt.ingest.embed import Batcher
from redoubt.ingest.feed import Room
from redoubt.model import Vectors

pytestmark = pytest.mark.anyio


class Scripted:
    """Holds requests until told; fails as the texts say."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.running = self.most = 0
        self.open = asyncio.Event()
        self.open.set()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.requests.append(list(texts))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            await self.open.wait()
        finally:
            self.running -= 1
        for text in texts:
            if text.startswith("refused"):
                raise InputError("the embedder refused the request")
            if text.startswith("nan"):
                raise EmbedderDown("no embedding", kind="garbage")
            if text.startswith("down"):
                raise EmbedderDown("no answer", kind="connection")
        return np.array([[float(len(text)), 1.0] for text in texts], np.float32)


def batcher(script: Scripted, **options: int) -> Batcher:
    return Batcher(cast("Embedder", script), **({"batch": 4, "in_flight": 2} | options))


async def test_each_gets_its_own_vectors_back() -> None:
    script = Scripted()
    shared = batcher(script)
    results = await asyncio.gather(*(shared.embed(["x" * (n + k) for k in range(n)], 2) for n in range(6)))
    for n, vectors in enumerate(results):
        assert vectors.shape == (n, 2)
        assert vectors[:, 0].tolist() == [n + k for k in range(n)]
    assert max(map(len, script.requests)) == 4
    assert script.most == 2


async def test_urgent_texts_overtake_all_that_wait() -> None:
    script = Scripted()
    shared = batcher(script, in_flight=1)
    script.open.clear()
    backfill = asyncio.create_task(shared.embed([f"old {n}" for n in range(12)], 2))
    await asyncio.sleep(0)
    urgent = asyncio.create_task(shared.embed(["urgent"], 2, urgent=True))
    await asyncio.sleep(0)
    script.open.set()
    await urgent
    assert "urgent" in script.requests[1]
    assert not backfill.done()
    await backfill


@pytest.mark.parametrize("bad", ["refused", "nan"])
async def test_one_bad_text_fails_alone(bad: str) -> None:
    script = Scripted()
    shared = batcher(script, batch=8, in_flight=1)
    results = await asyncio.gather(
        *(shared.embed([text], 2) for text in ("a", "b", f"{bad} text", "c", "d")), return_exceptions=True
    )
    assert [isinstance(result, Exception) for result in results] == [False, False, True, False, False]


async def test_an_outage_is_not_asked_about_text_by_text() -> None:
    script = Scripted()
    shared = batcher(script, batch=8, in_flight=1)
    results = await asyncio.gather(*(shared.embed([f"down {n}"], 2) for n in range(8)), return_exceptions=True)
    assert all(isinstance(result, EmbedderDown) for result in results)
    assert sum(map(len, script.requests)) == 8


async def test_vectors_of_another_size_are_refused() -> None:
    with pytest.raises(EmbedderDown, match="another size"):
        await batcher(Scripted()).embed(["a"], 3)


async def test_who_stopped_waiting_is_not_embedded_for() -> None:
    script = Scripted()
    shared = batcher(script, in_flight=1)
    script.open.clear()
    first = asyncio.create_task(shared.embed(["first"], 2))
    second = asyncio.create_task(shared.embed(["second"], 2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second.cancel()
    script.open.set()
    await first
    await shared.embed(["third"], 2)
    assert script.requests == [["first"], ["third"]]


async def test_room_is_bounded_and_one_giant_passes_alone() -> None:
    room, inside, most = Room(10), [0], [0]

    async def one(size: int) -> None:
        async with room.of(size):
            inside[0] += size
            most[0] = max(most[0], inside[0])
            await asyncio.sleep(0)
            inside[0] -= size

    await asyncio.gather(*(one(4) for _ in range(8)))
    assert most[0] == 8
    async with asyncio.timeout(5):
        await asyncio.gather(one(25), one(4), one(25))
    assert most[0] == 25
