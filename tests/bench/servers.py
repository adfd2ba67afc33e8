"""The servers that a measurement runs on: a Postgres of its own, and the embedder where vectors are missing."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg

from redoubt.clients.vllm import Embedder
from redoubt.embedded import vllm
from redoubt.embedded.postgres import SUPERUSER, Postgres
from redoubt.errors import EmbedderDown
from redoubt.store.catalog.migrate import migrate


@asynccontextmanager
async def database() -> AsyncIterator[str]:
    """The connection string, with its user, of a migrated database on a server with the embedded site's settings."""
    folder = Path(tempfile.mkdtemp(prefix="rdt-bench-", dir="/tmp"))
    folder.chmod(0o711)
    server = Postgres(data=folder / "data", run=folder / "pg", engine=folder / "engine")
    server.prepare()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            server.command(),
            user=server.account,
            group=server.account,
            extra_groups=[] if server.account else None,
            env=server.environment(),
            cwd="/",
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        dsn = f"host={server.run} user={SUPERUSER} dbname=postgres"
        deadline = time.monotonic() + 30
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
                    await migrate(connection)
                break
            except psycopg.OperationalError:
                assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
                await asyncio.sleep(0.1)
        yield dsn
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def embedder() -> AsyncIterator[Embedder]:
    """The one that `REDOUBT_BENCH_EMBEDDER` names, else one that lives as long as this."""
    if running := os.environ.get("REDOUBT_BENCH_EMBEDDER"):
        async with Embedder(running, vllm.MODEL, timeout_s=120) as client:
            yield client
        return
    folder = Path(tempfile.mkdtemp(prefix="rdt-bench-", dir="/tmp"))
    python = vllm.interpreter()
    instance = vllm.Vllm(python, vllm.model(python), folder / "embed.sock", folder, folder / "cache")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            instance.command(), env=dict(instance.environment()), stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 240
        while True:
            try:
                await instance.probe()
                break
            except EmbedderDown:
                assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()[-3000:]
                await asyncio.sleep(1)
        async with Embedder(instance.url, vllm.MODEL, timeout_s=120) as client:
            yield client
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
