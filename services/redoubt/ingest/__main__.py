"""The ingest worker as a process: `python -m redoubt.ingest`, with REDOUBT_SITE naming the site."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from redoubt import __version__, log
from redoubt.errors import RedoubtError
from redoubt.ingest import freshness
from redoubt.ingest.worker import Worker
from redoubt.metrics import IngestMetrics
from redoubt.settings import IngestSettings, load_site
from redoubt.store.catalog.connect import connection


async def main() -> None:
    """Run until SIGTERM; health and metrics are served beside the work."""
    settings, registry = IngestSettings(), CollectorRegistry()
    worker = Worker(load_site(), settings, IngestMetrics(registry, __version__))
    served = await _serve(worker, settings, registry)
    work = asyncio.create_task(worker.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        with suppress(asyncio.CancelledError):
            await work
    finally:
        await served.cleanup()


async def _serve(worker: Worker, settings: IngestSettings, registry: CollectorRegistry) -> web.AppRunner:
    async def live(_: web.Request) -> web.Response:
        return web.json_response({"status": "live"})

    async def ready(_: web.Request) -> web.Response:
        if not worker.ready.is_set():
            return web.json_response({"status": "starting"}, status=503)
        try:
            async with connection(worker.tools.pool) as taken:
                await taken.execute("SELECT 1")
        except RedoubtError as error:
            return web.json_response({"status": "down", "error": error.as_dict()}, status=503)
        return web.json_response({"status": "ready"})

    async def scrape(_: web.Request) -> web.Response:
        if worker.ready.is_set():
            with suppress(RedoubtError):
                async with connection(worker.tools.pool) as taken:
                    await freshness.refresh(taken, worker.metrics)
        return web.Response(body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4"})

    app = web.Application()
    app.add_routes([web.get("/health/live", live), web.get("/health/ready", ready), web.get("/metrics", scrape)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    if run := os.environ.get("REDOUBT_RUN_DIR"):
        socket = Path(run) / "ingest.sock"
        socket.unlink(missing_ok=True)
        await web.UnixSite(runner, str(socket)).start()
    if settings.metrics_port:
        await web.TCPSite(runner, settings.metrics_host, settings.metrics_port).start()
    return runner


def _leaves(errors: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


if __name__ == "__main__":
    log.configure("ingest")
    for chatty in ("procrastinate", "watchfiles"):  # they tell every job's arguments and every event
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        asyncio.run(main())
    except* RedoubtError as errors:
        told = [error for error in _leaves(errors) if isinstance(error, RedoubtError)]
        for error in told:
            log.get("ingest").error("cannot run", **error.as_dict())
        sys.exit(told[0].exit_code)
    except* Exception as errors:  # without their words, which may quote a document; whoever started us starts us again
        for other in _leaves(errors):
            log.get("ingest").error("cannot run on", error=type(other).__name__)
        sys.exit(1)
