"""Jobs in Postgres: wake-ups for what the backlog says is to be done, shared among all workers of a site."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import procrastinate

from redoubt import log
from redoubt.errors import CatalogDown, Conflict, DocumentRejected, EmbedderDown, EmbedderMismatch, InputError, NotFound
from redoubt.ingest import pipeline
from redoubt.ingest.feed import Feed, Tools
from redoubt.ingest.scan import BACKFILL
from redoubt.model import Reason
from redoubt.settings import IngestSettings
from redoubt.store.catalog import backlog, sources
from redoubt.store.catalog.backlog import Pending
from redoubt.store.catalog.connect import connection, transaction

NOW, LATER = "ingest-now", "ingest"  # queues: what somebody waits for has workers of its own
PATHS_A_JOB = 32
HEARTBEAT_S = 2.0
STALLED_S = 10.0  # a worker silent for so long is dead; its jobs are taken over
LONGEST_WAIT_S = 30  # between two tries
_log = log.get(__name__)


class _TryAgain(Exception):
    """Some of a job's documents wait for something that may come back; it says nothing of them."""


class _Patience(procrastinate.BaseRetryStrategy):
    """2, 4, 8, … seconds, for as long as the backlog has something to do: documents are parked there, not jobs."""

    def get_retry_decision(self, *, exception: BaseException, job: procrastinate.jobs.Job) -> Any:
        return procrastinate.RetryDecision(retry_in={"seconds": min(2 ** (job.attempts + 1), LONGEST_WAIT_S)})


class Jobs:
    """Queues jobs and works them off; entered once."""

    def __init__(
        self,
        tools: Tools,
        settings: IngestSettings,
        dsn: str,
        feed: Callable[[UUID], Awaitable[Feed | None]],
        moved: Callable[[], None],
    ) -> None:
        self._tools = tools
        self._settings = settings
        self._feed = feed
        self._moved = moved
        connector = procrastinate.PsycopgConnector(conninfo=dsn, min_size=1, max_size=settings.concurrency * 2 + 4)
        self._app = procrastinate.App(connector=connector)
        self._task = self._app.task(name="bring_in", queue=LATER, retry=_Patience(), pass_context=True)(self._job)

    async def __aenter__(self) -> Self:
        await self._app.open_async()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._app.close_async()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for queue in (NOW, LATER):
                work = self._app.run_worker_async(
                    queues=[queue],
                    name=queue,
                    concurrency=self._settings.concurrency,
                    install_signal_handlers=False,
                    delete_jobs="always",
                    fetch_job_polling_interval=2.0,
                    update_heartbeat_interval=HEARTBEAT_S,
                    stalled_worker_timeout=STALLED_S,
                    shutdown_graceful_timeout=5.0,
                )
                group.create_task(work)

    async def defer(self, feed: Feed, paths: Sequence[str], priority: int) -> None:
        """Queue jobs for changed paths: alone where somebody waits for each, together otherwise."""
        size = 1 if priority > BACKFILL and len(paths) <= PATHS_A_JOB else PATHS_A_JOB
        parts = [list(paths[at : at + size]) for at in range(0, len(paths), size)]
        if parts:
            deferrer = self._task.configure(priority=priority, queue=NOW if priority > BACKFILL else LATER)
            calls: list[dict[str, Any]] = [{"source_id": str(feed.id), "paths": part} for part in parts]
            await deferrer.batch_defer_async(*calls)

    async def revive(self) -> None:
        """Take over the jobs of workers that died."""
        stalled = await self._app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_S)
        for job in stalled:
            if job.id is not None:
                await self._app.job_manager.retry_job_by_id_async(job.id, retry_at=datetime.now(UTC))

    async def _job(self, context: procrastinate.JobContext, source_id: str, paths: list[str]) -> None:
        feed = await self._feed(UUID(source_id))
        if feed is None:
            return  # the source went; what it brought goes with it
        try:
            async with connection(self._tools.pool) as taken:
                waiting = await backlog.queued(taken, feed.id, paths)
                if waiting:
                    await pipeline.writable(self._tools, taken, feed.index)
        except EmbedderMismatch as error:
            async with transaction(self._tools.pool) as tx:
                await sources.complain(tx, feed.id, f"{error.what}; {error.fix}")
            raise _TryAgain from None
        urgent = context.job.queue == NOW
        done = await asyncio.gather(*(self._one(feed, change, urgent=urgent) for change in waiting))
        self._moved()
        if not all(done):
            raise _TryAgain

    async def _one(self, feed: Feed, change: Pending, *, urgent: bool) -> bool:
        """Bring one document in; False if it is to be tried again."""
        try:
            await pipeline.bring_in(self._tools, feed, change, urgent=urgent)
        except EmbedderMismatch:
            return False  # an index was swapped under us: the next try tells
        except DocumentRejected as error:  # by the store, for good
            async with transaction(self._tools.pool) as tx:
                await backlog.park(
                    tx, feed.id, change.path, (change.stamp, change.stamp), error.reason, pipeline.explain(error)
                )
            return True
        except (CatalogDown, NotFound, Conflict) as error:  # a generation may be dropped while we write into it
            _log.warning("writing failed", source=feed.name, error=error.what, why=error.why)
            return False
        except (EmbedderDown, InputError) as error:
            return await self._failed(feed, change, Reason.EMBEDDER, error.what, error.why)
        except Exception as error:
            return await self._failed(feed, change, Reason.INTERNAL, "bringing it in fails", _where(error))
        return True

    async def _failed(self, feed: Feed, change: Pending, reason: Reason, what: str, why: str) -> bool:
        """Count the try; park the document after as many as are allowed. True if it is parked."""
        detail = f"{what}. {why}" if why else what
        async with transaction(self._tools.pool) as tx:
            attempts = await backlog.attempt(tx, feed.id, change.path)
            parked = attempts >= self._settings.attempts
            if parked:
                await backlog.park(tx, feed.id, change.path, (change.stamp, change.stamp), reason, detail)
        _log.warning("a document failed", source=feed.name, reason=reason, why=detail, attempt=attempts, parked=parked)
        return parked


def _where(error: Exception) -> str:
    """An unforeseen failure's kind and place, without its words: they may quote the document."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" in {trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}{place}"
