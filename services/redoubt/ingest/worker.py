"""The worker: watches sources, queues changes, takes jobs, builds generations, keeps postings folded."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import procrastinate
import psycopg
from procrastinate import jobs

from redoubt import log
from redoubt.clients.vllm import Embedder, digest
from redoubt.errors import CatalogDown, DocumentRejected, EmbedderDown, EmbedderMismatch, RedoubtError
from redoubt.ingest import generations, language, pipeline
from redoubt.ingest.chunk import Chunker
from redoubt.ingest.embed import Batcher
from redoubt.ingest.parse.sandbox import Sandbox
from redoubt.ingest.pipeline import Feed, Tools
from redoubt.ingest.scan import BACKFILL, scan
from redoubt.ingest.sources.folder import Folder, FolderConfig
from redoubt.metrics import IngestMetrics
from redoubt.model import Reason
from redoubt.settings import IngestSettings, Site
from redoubt.store.catalog import backlog, indexes, sources
from redoubt.store.catalog.connect import connection, pool, single, transaction
from redoubt.store.pgvector.store import PgvectorStore

QUEUE = "ingest"
PATHS_A_JOB = 32
HEARTBEAT_S = 2.0
STALLED_S = 10.0  # a worker silent for so long is dead; its jobs are taken over
TEND_S = 2.0  # between looks at sources, generations and the delta
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
    _watchers: dict[UUID, asyncio.Task[None]] = field(default_factory=dict)
    _digest: str = ""
    _written: bool = True  # since the last fold

    async def run(self) -> None:
        """Work until cancelled."""
        dsn = self.site.catalog.dsn_for(self.site.catalog.ingest_role)
        embedder = Embedder(
            self.site.embedder.url,
            self.site.embedder.model,
            api_key=self.site.embedder.api_key,
            timeout_s=self.settings.embed_timeout_s,
        )
        connector = procrastinate.PsycopgConnector(conninfo=dsn, min_size=1, max_size=self.settings.concurrency + 3)
        app = procrastinate.App(connector=connector)
        self._task = app.task(
            name="bring_in",
            queue=QUEUE,
            retry=procrastinate.RetryStrategy(max_attempts=self.settings.attempts, exponential_wait=2),
        )(self._job)
        async with (
            pool(dsn, service="ingest", size=self.settings.concurrency * 4 + 4) as catalog,
            embedder,
            Sandbox(self.settings) as sandbox,
            app.open_async(),
        ):
            self._digest = await asyncio.to_thread(digest, self.site.embedder.path)
            await asyncio.to_thread(language.load)  # a second that no document shall wait for
            dimensions = await _dimensions(embedder)
            self.tools = Tools(
                catalog,
                PgvectorStore(catalog),
                sandbox,
                Chunker(self.site.embedder.path / "tokenizer.json", self.site.embedder.max_tokens),
                Batcher(
                    embedder,
                    dimensions=dimensions,
                    batch=self.settings.embed_batch,
                    in_flight=self.settings.embed_in_flight,
                ),
                self.metrics,
                self._digest,
            )
            self._app = app
            work = app.run_worker_async(
                queues=[QUEUE],
                name="ingest",
                concurrency=self.settings.concurrency,
                install_signal_handlers=False,
                delete_jobs="always",
                fetch_job_polling_interval=2.0,
                update_heartbeat_interval=HEARTBEAT_S,
                stalled_worker_timeout=STALLED_S,
                shutdown_graceful_timeout=5.0,
            )
            async with asyncio.TaskGroup() as group:
                group.create_task(work)
                group.create_task(self._tend(dimensions))
                group.create_task(self._listen(dsn))
                group.create_task(self._fold())

    async def _tend(self, dimensions: int) -> None:
        """Look after sources and generations, again and again; one failing round does not end the worker."""
        self._wake = asyncio.Event()
        while True:
            try:
                await self._ensure_index()
                await generations.begin(self.tools, self.site.embedder, self._digest, dimensions)
                await self._sources()
                await self._stalled()
                self.ready.set()
                await generations.build(self.tools, self._digest, self.site.embedder)
            except (RedoubtError, psycopg.Error) as error:
                _log.warning("tending failed", error=type(error).__name__, why=getattr(error, "why", ""))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), TEND_S)
            self._wake.clear()

    async def _ensure_index(self) -> None:
        async with transaction(self.tools.pool) as tx:
            await indexes.create(tx, self.site.index, *indexes.DEFAULT_TUNING, missing_ok=True)

    async def _sources(self) -> None:
        """Start a watcher for each source that came or changed, end those that went."""
        async with connection(self.tools.pool) as taken:
            rows = await sources.listing(taken, removed=True)
        wanted: dict[UUID, Feed] = {}
        for row in rows:
            feed = _feed(row, self.settings)
            if row.removed_at is None:
                wanted[row.id] = feed
            else:
                await self._end(row.id)
                await _remove_source(self.tools, feed)
        for source_id, feed in wanted.items():
            before = self._feeds.get(source_id)
            task = self._watchers.get(source_id)
            if before is None or before.rules != feed.rules or task is None or task.done():
                await self._end(source_id)
                self._feeds[source_id] = feed
                self._watchers[source_id] = asyncio.create_task(self._watch(feed))

    async def _end(self, source_id: UUID) -> None:
        self._feeds.pop(source_id, None)
        if task := self._watchers.pop(source_id, None):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _watch(self, feed: Feed) -> None:
        """Scan at once, then on every event, and in full now and then; one watcher a source over all workers."""
        dsn = self.site.catalog.dsn_for(self.site.catalog.ingest_role)
        while True:
            try:
                async with _alone(dsn, feed) as mine:
                    if mine:
                        await self._watch_alone(feed)
                await asyncio.sleep(self.settings.scan_interval_s)
            except (RedoubtError, psycopg.Error) as error:
                _log.warning(
                    "watching failed", source=feed.name, error=type(error).__name__, why=getattr(error, "why", "")
                )
                await asyncio.sleep(1.0)

    async def _watch_alone(self, feed: Feed) -> None:
        events: asyncio.Queue[set[str]] = asyncio.Queue()
        watching = asyncio.create_task(_collect(feed, events))
        emptied = False
        await self._requeue(feed)
        try:
            while True:
                emptied = not await self._whole(feed, trust_empty=emptied)
                loop = asyncio.get_running_loop()
                until = loop.time() + self.settings.scan_interval_s
                while (left := until - loop.time()) > 0:
                    try:
                        touched = await asyncio.wait_for(events.get(), left)
                    except TimeoutError:
                        break
                    while not events.empty():
                        touched |= events.get_nowait()
                    with suppress(OSError):
                        await scan(self.tools, feed, self._defer, touched)
                        self._written = True
                if watching.done():
                    watching = asyncio.create_task(_collect(feed, events))
        finally:
            watching.cancel()

    async def _whole(self, feed: Feed, *, trust_empty: bool) -> bool:
        """A full scan, noted in the catalogue; what the folder itself refuses is shown, and nothing is deleted."""
        settled, problem = False, None
        try:
            settled = await scan(self.tools, feed, self._defer, trust_empty=trust_empty)
            if not settled:
                problem = "the folder is empty; if it still is at the next scan, its documents are removed"
        except OSError as error:
            problem = f"the folder cannot be read: {error.strerror or type(error).__name__}"
        async with transaction(self.tools.pool) as tx:
            await tx.execute(
                "UPDATE source SET scan_started_at = now(), last_error = %s,"
                " last_success_at = CASE WHEN %s THEN clock_timestamp() ELSE last_success_at END WHERE id = %s",
                (problem, settled, feed.id),
            )
        return settled

    async def _requeue(self, feed: Feed) -> None:
        """What waits from before a crash gets new jobs: the backlog is the truth, jobs are wake-ups."""
        async with connection(self.tools.pool) as taken:
            waiting = await backlog.of_source(taken, feed.id)
        await self._defer(
            feed, [item.path for item in waiting if item.state == "queued" and item.kind == "write"], BACKFILL
        )

    async def _defer(self, feed: Feed, paths: Sequence[str], priority: int) -> None:
        size = 1 if priority > BACKFILL and len(paths) <= PATHS_A_JOB else PATHS_A_JOB
        parts = [list(paths[at : at + size]) for at in range(0, len(paths), size)]
        if parts:
            deferrer = self._task.configure(priority=priority)
            calls: list[dict[str, Any]] = [{"source_id": str(feed.id), "paths": part} for part in parts]
            await deferrer.batch_defer_async(*calls)

    async def _job(self, source_id: str, paths: list[str]) -> None:
        feed = self._feeds.get(UUID(source_id))
        if feed is None:
            return  # the source went; what it brought goes with it
        async with connection(self.tools.pool) as taken:
            waiting = [item.path for item in await backlog.queued(taken, feed.id, paths)]
        results = await asyncio.gather(*(self._one(feed, path) for path in waiting), return_exceptions=True)
        self._written = True
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _one(self, feed: Feed, path: str) -> None:
        try:
            await pipeline.bring_in(self.tools, feed, path)
        except EmbedderMismatch as error:
            await self._complain(feed, f"{error.what}; {error.fix}")
        except (EmbedderDown, DocumentRejected) as error:
            async with transaction(self.tools.pool) as tx:
                attempts = await backlog.attempt(tx, feed.id, path)
                if attempts >= self.settings.attempts:
                    detail = ". ".join(part for part in (error.what, error.why) if part)
                    await tx.execute(
                        "UPDATE pending SET state = 'failed', reason = %s, detail = %s, state_at = now()"
                        " WHERE source_id = %s AND path = %s",
                        (Reason.EMBEDDER, detail, feed.id, path),
                    )
                    return
            _log.warning("embedding failed", source=feed.name, error=error.what, why=error.why, attempt=attempts)
            raise

    async def _complain(self, feed: Feed, problem: str) -> None:
        async with transaction(self.tools.pool) as tx:
            await tx.execute("UPDATE source SET last_error = %s WHERE id = %s", (problem, feed.id))

    async def _stalled(self) -> None:
        """Take over the jobs of workers that died."""
        for job in await self._app.job_manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=STALLED_S):
            if job.id is not None:
                await self._app.job_manager.finish_job_by_id_async(job.id, jobs.Status.FAILED, delete_job=True)
        async with connection(self.tools.pool) as taken:
            for feed in list(self._feeds.values()):
                found = await taken.execute(
                    "SELECT path FROM pending WHERE source_id = %s AND state = 'queued' AND kind = 'write'"
                    " AND greatest(detected_at, state_at) < now() - make_interval(secs => %s) LIMIT 512",
                    (feed.id, STALLED_S + 60),
                )
                paths = [row[0] for row in await found.fetchall()]
                await taken.execute(
                    "UPDATE pending SET state_at = now() WHERE source_id = %s AND path = ANY (%s)", (feed.id, paths)
                )
                await self._defer(feed, paths, BACKFILL)

    async def _listen(self, dsn: str) -> None:
        """A new source is looked at when it is added, not when its turn comes."""
        while True:
            try:
                async with single(dsn, service="ingest-listen") as taken:
                    await taken.execute(f"LISTEN {sources.CHANNEL}".encode())
                    async for _ in taken.notifies():
                        self._wake.set()
            except (CatalogDown, psycopg.Error):
                await asyncio.sleep(1.0)

    async def _fold(self) -> None:
        while True:
            await asyncio.sleep(TEND_S)
            if not self._written:
                continue
            self._written = False
            try:
                async with connection(self.tools.pool) as taken:
                    live = [
                        g
                        for row in await indexes.listing(taken)
                        for g in await indexes.generations(taken, row.name, "live")
                    ]
                for generation in live:
                    await self.tools.store.maintain(generation)
            except (RedoubtError, psycopg.Error) as error:
                self._written = True
                _log.warning("folding failed", error=type(error).__name__)


def _feed(row: sources.SourceRow, settings: IngestSettings) -> Feed:
    config = FolderConfig.model_validate(row.config)
    rules = hashlib.sha256(json.dumps(row.config, sort_keys=True).encode()).hexdigest()[:16]
    return Feed(row.id, row.name, row.index, config, rules, Folder(config, settings.max_bytes), row.created_at)


async def _collect(feed: Feed, events: asyncio.Queue[set[str]]) -> None:
    try:
        async for touched in feed.source.touched():
            events.put_nowait(touched)
    except (OSError, RuntimeError) as error:  # no inotify here, or none left: the periodic scan does it
        _log.warning("not watched", source=feed.name, error=type(error).__name__)
        await asyncio.sleep(30)


@asynccontextmanager
async def _alone(dsn: str, feed: Feed) -> AsyncIterator[bool]:
    """Hold the source's advisory lock on a connection of its own."""
    async with single(dsn, service="ingest-scan") as taken:
        row = await (
            await taken.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 1))", (str(feed.id),))
        ).fetchone()
        yield bool(row and row[0])


async def _remove_source(tools: Tools, feed: Feed) -> None:
    """Take out all that a removed source brought in, then free its name."""
    while True:
        async with connection(tools.pool) as taken:
            found = await taken.execute(
                "SELECT path FROM document WHERE source_id = %s AND deleted_at IS NULL LIMIT 50", (feed.id,)
            )
            paths = [row[0] for row in await found.fetchall()]
        if not paths:
            break
        await pipeline.take_out(tools, feed, paths)
    async with transaction(tools.pool) as tx:
        await tx.execute("DELETE FROM pending WHERE source_id = %s", (feed.id,))
        await tx.execute(
            "UPDATE source SET name = left(name, 40) || '.removed-' || left(id::text, 8) WHERE id = %s"
            " AND name NOT LIKE '%%.removed-' || left(id::text, 8)",
            (feed.id,),
        )


async def _dimensions(embedder: Embedder) -> int:
    """Ask until the embedder answers: without it there is nothing to do."""
    wait = 0.2
    while True:
        try:
            return int((await embedder.embed(["ready"])).shape[1])
        except EmbedderDown as error:
            _log.warning("waiting for the embedder", why=error.why)
            await asyncio.sleep(wait)
            wait = min(wait * 2, 5.0)
