"""A bound on waiting that holds: what does not stop when told to is left behind, not waited for.

`asyncio.timeout` waits for the cancelled to finish, and a query to a stopped Postgres takes ten seconds over it.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from redoubt.errors import CatalogDown

T = TypeVar("T")
FIX = "see `redoubt status`; a stopped site starts with `redoubt up`"
_left_behind: set[asyncio.Task[Any]] = set()  # the loop itself holds tasks weakly


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; `CatalogDown` if it takes longer than `seconds`."""
    task = asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        _abandon(task)
        raise
    if done:
        return task.result()
    _abandon(task)
    raise CatalogDown(
        "the catalogue (Postgres) does not answer in time",
        why=f"it took more than {seconds:g} s",
        fix=FIX,
        kind="timeout",
    )


def _abandon(task: asyncio.Task[Any]) -> None:
    _left_behind.add(task)
    task.add_done_callback(_collect)
    task.cancel()


def _collect(task: asyncio.Task[Any]) -> None:
    _left_behind.discard(task)
    if not task.cancelled():
        task.exception()  # seen: nobody waits for it any more
