"""A bound on waiting holds even for work that ignores being cancelled."""

import asyncio
from time import monotonic

import pytest

from redoubt.errors import CatalogDown
from redoubt.gateway.deadline import within

pytestmark = pytest.mark.anyio


async def test_work_in_time_gives_its_result() -> None:
    async def work() -> int:
        return 7

    assert await within(1, work()) == 7


async def test_stubborn_work_is_left_behind() -> None:
    released = asyncio.Event()

    async def stubborn() -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    began = monotonic()
    with pytest.raises(CatalogDown) as caught:
        await within(0.05, stubborn())
    assert monotonic() - began < 1
    assert caught.value.kind == "timeout"
    released.set()


async def test_an_error_of_the_work_is_passed_on() -> None:
    async def work() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await within(1, work())
