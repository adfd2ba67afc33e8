"""The worker: watches sources, takes jobs, builds generations, keeps postings folded."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
from pydantic import ValidationError

from redoubt import log
from redoubt.clients.vllm import Embedder, digest
from redoubt.errors import EmbedderDown, RedoubtError
from redoubt.ingest import generations, jobs, language
from redoubt.ingest.embed import Batcher
from redoubt.ingest.feed import Feed, Room, Tools, feed_of
from redoubt.ingest.parse.sandbox import Sandbox
from redoubt.ingest.remove import remove_source
from redoubt.ingest.scan import BACKFILL
from redoubt.ingest.watch import Watch
from redoubt.metrics import IngestMetrics
from redoubt.settings import IngestSettings, Site
from redoubt.store.catalog import backlog, indexes, sources
from redoubt.store.catalog.connect import connection, pool, single, transaction
from redoubt.store.pgvector.store import PgvectorStore

TEND_S = 2.0  # between looks at sources, generations and the delta
OVERDUE_S = 70.0  # a change that nothing was done about for so long is queued again
ASK_S = 5.0  # for the embedder to tell its vectors' size
ROOM = 50_000_000  # characters of text between parser and store
_PASSING = (RedoubtError, psycopg.Error)  # what may be over by the next round
_log = log.get(__name__)


@dataclass
class Worker:
    """One worker process; several may run, on one host or many."""

    site: Site
    settings: IngestSettings
    metrics: IngestMetrics
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    tools: Tools = field(init=False)
    _feeds: dict[UUID, Feed] = field(default_factory=dict)
    _watches: dict[UUID, asyncio.Task[None]] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _written: bool = True  # since the last fold

    async def run(self) -> None:
        """Work until cancelled."""
        dsn, settings = self._dsn(), self.settings
        embedder = Embedder(
            self.site.embedder.url,
            self.site.embedder.model,
            api_key=self.site.embedder.api_key,
            timeout_s=settings.embed_timeout_s,
        )
        async with (
            pool(dsn, service="ingest", size=settings.concurrency * 4 + 4) as catalog,
            embedder,
            Sandbox(settings) as sandbox,
        ):
            self.tools = Tools(
                pool=catalog,
                store=PgvectorStore(catalog),
                sandbox=sandbox,
                tokenizer_file=self.site.embedder.path / "tokenizer.json",
                batcher=Batcher(embedder, batch=settings.embed_batch, in_flight=settings.embed_in_flight),
                metrics=self.metrics,
                digest=await asyncio.to_thread(digest, self.site.embedder.path),
                # One place is kept free of backfill, so that an urgent document need not wait for a slow one.
                reading=(asyncio.Semaphore(max(1, settings.concurrency - 1)), asyncio.Semaphore(settings.concurrency)),
                room=Room(ROOM),
            )
            self.tools.chunker(self.site.embedder.max_tokens)
            self._jobs = jobs.Jobs(self.tools, settings, dsn, self._feed, self._moved)
            async with self._jobs, asyncio.TaskGroup() as group:
                group.create_task(asyncio.to_thread(language.load))
                group.create_task(self._jobs.run())
                group.create_task(self._listen())
                group.create_task(_again("tending", lambda: self._tend(embedder), self._wake))
                group.create_task(_again("building", generations.Builder(self.tools).build))
                group.create_task(_again("folding", self._fold))

    def _dsn(self) -> str:
        return self.site.catalog.dsn_for(self.site.catalog.ingest_role)

    def _moved(self) -> None:
        self._written = True

    async def _tend(self, embedder: Embedder) -> None:
        """Look after sources, and after jobs whose worker died."""
        async with transaction(self.tools.pool) as tx:
            await indexes.create(tx, self.site.index, *indexes.DEFAULT_TUNING, missing_ok=True)
        await self._begin(embedder)
        await self._sources()
        await self._jobs.revive()
        async with transaction(self.tools.pool) as tx:
            for feed in list(self._feeds.values()):
                await self._jobs.defer(feed, await backlog.overdue(tx, feed.id, OVERDUE_S, 512), BACKFILL)
        self.ready.set()

    async def _begin(self, embedder: Embedder) -> None:
        """Give indexes their first generation, as soon as the embedder answers; nothing else waits for it."""
        if bare := await generations.bare(self.tools):
            try:
                async with asyncio.timeout(ASK_S):
                    dimensions = int((await embedder.embed(["ready"])).shape[1])
            except (EmbedderDown, TimeoutError) as error:
                _log.warning("waiting for the embedder", why=getattr(error, "why", "it is slow"))
                return
            for name in bare:
                await generations.begin(self.tools, name, self.site.embedder, dimensions)

    async def _sources(self) -> None:
        """Start a watch for each source that came or changed, end those of sources that went."""
        async with connection(self.tools.pool) as taken:
            rows = await sources.listing(taken, removed=True)
        for row in rows:
            try:
                feed = feed_of(row, self.settings)
            except ValidationError as error:
                _log.error("a source cannot be read", source=row.name, errors=error.error_count())
                async with transaction(self.tools.pool) as tx:
                    await sources.complain(tx, row.id, "its configuration cannot be read; add it anew")
                continue
            before, task = self._feeds.get(row.id), self._watches.get(row.id)
            if row.removed_at is not None:
                await self._end(row.id)
                await remove_source(self.tools, feed)
            elif before is None or before.rules != feed.rules or task is None or task.done():
                await self._end(row.id)
                self._feeds[row.id] = feed
                watch = Watch(
                    self.tools, feed, self._dsn(), self.settings.scan_interval_s, self._jobs.defer, self._moved
                )
                self._watches[row.id] = asyncio.create_task(watch.run())

    async def _end(self, source_id: UUID) -> None:
        self._feeds.pop(source_id, None)
        if task := self._watches.pop(source_id, None):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _feed(self, source_id: UUID) -> Feed | None:
        """A source, also one that this worker has not looked at yet; None if it went."""
        if (feed := self._feeds.get(source_id)) is not None:
            return feed
        async with connection(self.tools.pool) as taken:
            row = await sources.get(taken, source_id)
        return None if row is None else feed_of(row, self.settings)

    async def _listen(self) -> None:
        """A new source is looked at when it is added, not when its turn comes."""
        while True:
            try:
                async with single(self._dsn(), service="ingest-listen") as taken:
                    await taken.execute(f"LISTEN {sources.CHANNEL}".encode())
                    async for _ in taken.notifies():
                        self._wake.set()
            except _PASSING:
                await asyncio.sleep(1.0)

    async def _fold(self) -> None:
        if not self._written:
            return
        self._written = False
        try:
            async with connection(self.tools.pool) as taken:
                live = [await indexes.live(taken, row.name) for row in await indexes.listing(taken)]
            for generation in live:
                if generation is not None:
                    await self.tools.store.maintain(generation)
        except BaseException:
            self._written = True
            raise


async def _again(what: str, work: Callable[[], Awaitable[None]], wake: asyncio.Event | None = None) -> None:
    """Do it now and every few seconds, or when woken; one failing round does not end the worker."""
    wake = wake or asyncio.Event()
    while True:
        try:
            await work()
        except _PASSING as error:
            _log.warning(f"{what} failed", error=type(error).__name__, why=getattr(error, "why", ""))
        with suppress(TimeoutError):
            await asyncio.wait_for(wake.wait(), TEND_S)
        wake.clear()
