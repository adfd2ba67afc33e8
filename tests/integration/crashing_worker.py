"""A worker that kills itself, as `kill -9` would, at a named step: `crashing_worker.py STEP before|after NTH`.

The steps are wrapped from outside, so that the product holds no hook for its own tests.
"""

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from redoubt.ingest import __main__ as entry
from redoubt.ingest import embed, judge, pipeline, remove
from redoubt.ingest.parse import sandbox
from redoubt.store.catalog import backlog, documents
from redoubt.store.pgvector import store

STEPS: dict[str, tuple[Any, str]] = {
    "read": (pipeline, "_only_touched"),
    "parse": (sandbox.Sandbox, "parse"),
    "embed": (embed.Batcher, "embed"),
    "catalogue": (documents, "put"),
    "write": (store.PgvectorStore, "write"),
    "mark": (documents, "mark_indexed"),
    "settle": (backlog, "settle"),
    "commit": (pipeline, "_write"),
    "judge": (judge, "_judge"),
    "remove": (remove, "take_out"),
    "fold": (store.PgvectorStore, "maintain"),
}


def wrap(step: str, when: str, nth: int) -> None:
    owner, name = STEPS[step]
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)
    calls = itertools.count(1)

    async def wrapped(*arguments: Any, **named: Any) -> Any:
        mine = next(calls)
        if when == "before" and mine == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        result = await original(*arguments, **named)
        if when == "after" and mine == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    wrap(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    asyncio.run(entry.main())
