"""One source under watch: a full scan at once and now and then, a small one at every event."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import psycopg

from redoubt import log
from redoubt.errors import RedoubtError
from redoubt.ingest.feed import Feed, Tools
from redoubt.ingest.scan import BACKFILL, Defer, scan
from redoubt.store.catalog import backlog, sources
from redoubt.store.catalog.connect import connection, single, transaction

_AFTER_FAILURE_S = 1.0
_log = log.get(__name__)


class Watch:
    """Watches a source, alone among all workers of the site; `moved` is called when something may have been written."""

    def __init__(
        self, tools: Tools, feed: Feed, dsn: str, interval_s: float, defer: Defer, moved: Callable[[], None]
    ) -> None:
        self._tools = tools
        self._feed = feed
        self._dsn = dsn
        self._interval_s = interval_s
        self._defer = defer
        self._moved = moved
        self._events: asyncio.Queue[set[str]] = asyncio.Queue()
        self._empty_since: float | None = None

    async def run(self) -> None:
        """Watch until cancelled; one failing round does not end it."""
        while True:
            try:
                async with _alone(self._dsn, self._feed) as (mine, alive):
                    if mine:
                        await self._watch(alive)
                await asyncio.sleep(self._interval_s)
            except Exception as error:
                # Without its words: they may name what is in a document.
                why = getattr(error, "why", "")
                _log.warning("watching failed", source=self._feed.name, error=type(error).__name__, why=why)
                if not isinstance(error, RedoubtError | psycopg.Error):
                    await self._complain(f"its scan fails ({type(error).__name__}); see the worker's log")
                await asyncio.sleep(_AFTER_FAILURE_S)

    async def _watch(self, alive: Callable[[], Awaitable[None]]) -> None:
        collecting = asyncio.create_task(self._collect())
        try:
            await self._requeue()
            while True:
                await alive()
                await self._whole()
                loop = asyncio.get_running_loop()
                until = loop.time() + self._interval_s
                while (left := until - loop.time()) > 0:
                    try:
                        touched = await asyncio.wait_for(self._events.get(), left)
                    except TimeoutError:
                        break
                    while not self._events.empty():
                        touched |= self._events.get_nowait()
                    if "." in touched:
                        await self._whole()
                        continue
                    with suppress(OSError):  # the folder went: the next full scan tells
                        await scan(self._tools, self._feed, self._defer, touched)
                        self._moved()
        finally:
            collecting.cancel()
            with suppress(asyncio.CancelledError):
                await collecting

    async def _collect(self) -> None:
        """Events as they come; where they cannot be had, the full scans have to do."""
        while True:
            try:
                async for touched in self._feed.source.touched():
                    self._events.put_nowait(touched)
            except Exception as error:  # no folder, no inotify here, or none left
                _log.warning("not watched", source=self._feed.name, error=type(error).__name__)
            await asyncio.sleep(self._interval_s)

    async def _whole(self) -> None:
        """A full scan, noted in the catalogue; what the system itself refuses is shown, and nothing is deleted for it.

        A folder that looks empty is believed after one more interval: a share may be unmounted for a moment.
        """
        settled, problem, now = False, None, asyncio.get_running_loop().time()
        trust = self._empty_since is not None and now - self._empty_since >= self._interval_s
        try:
            seen = await scan(self._tools, self._feed, self._defer, trust_empty=trust)
            settled = seen.settled
            self._empty_since = None if settled else self._empty_since or now
            if not settled:
                problem = "the folder is empty; if it still is at the next scan, its documents are removed"
            elif seen.unseen:
                problem = f"not all of it can be read, and is left as it was: {_some(seen.unseen)}"
        except OSError as error:
            self._empty_since = None
            problem = f"the folder cannot be read: {error.strerror or type(error).__name__}"
        async with transaction(self._tools.pool) as tx:
            await sources.scanned(tx, self._feed.id, whole=settled, problem=problem)
        self._moved()

    async def _requeue(self) -> None:
        """What waits from before a crash gets new jobs: the backlog is the truth, jobs are wake-ups."""
        async with connection(self._tools.pool) as taken:
            waiting = await backlog.of_source(taken, self._feed.id)
        paths = [item.path for item in waiting if item.state == "queued" and item.kind == "write"]
        await self._defer(self._feed, paths, BACKFILL)

    async def _complain(self, problem: str) -> None:
        with suppress(RedoubtError, psycopg.Error):
            async with transaction(self._tools.pool) as tx:
                await sources.complain(tx, self._feed.id, problem)


@asynccontextmanager
async def _alone(dsn: str, feed: Feed) -> AsyncIterator[tuple[bool, Callable[[], Awaitable[None]]]]:
    """Try to hold the source's advisory lock, on a connection of its own; the function raises if it was lost."""
    async with single(dsn, service="ingest-scan") as taken:
        row = await (
            await taken.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 1))", (str(feed.id),))
        ).fetchone()

        async def alive() -> None:
            await taken.execute("SELECT 1")

        yield bool(row and row[0]), alive


def _some(paths: Sequence[str]) -> str:
    shown = ", ".join(repr(path) for path in paths[:3])
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"
