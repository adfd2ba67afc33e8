"""What an embedded site consists of: each process with its command, its environment and its probe."""

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from redoubt.embedded import vllm
from redoubt.embedded.postgres import Postgres, packaged_version
from redoubt.embedded.process import Trace
from redoubt.embedded.state import Layout
from redoubt.errors import Unavailable
from redoubt.store.catalog.connect import single

ORDER = ("postgres", "embedder", "gateway", "ingest")  # they stop in the reverse of it


@dataclass(frozen=True, slots=True)
class Ending:
    """How one process of the site is found and stopped; known without what it takes to start it."""

    name: str
    trace: Trace
    stop: signal.Signals = signal.SIGTERM
    patience_s: float = 10.0  # before it is killed
    sockets: tuple[Path, ...] = ()  # removed when it is gone
    scratch: Path | None = None  # emptied when it is gone


@dataclass(frozen=True, slots=True)
class Service:
    """How one process is started; the probe returns when it is ready and raises with why it is not."""

    command: list[str]
    environment: Mapping[str, str]
    probe: Callable[[], Awaitable[None]]
    log: Path
    ending: Ending
    account: str | None = None
    needs: tuple[str, ...] = ()  # "cluster": the data directory; "catalog": the migrated database
    restart_when_unwell: bool = False  # it may go on running without ever serving again

    @property
    def name(self) -> str:
        return self.ending.name


def trace(layout: Layout, name: str | None = None) -> Trace:
    """What the processes of one service are recognised by; without a name, those of the whole site."""
    if name is None:
        return Trace(f"{layout.home}#", layout.logs, layout.data)
    return Trace(f"{layout.home}#{name}", layout.log(name), layout.data if name == "postgres" else None)


def endings(layout: Layout) -> dict[str, Ending]:
    """How each process is stopped."""
    found = (
        # SIGINT is Postgres' fast shutdown: open transactions are rolled back, what is committed is on disk.
        Ending(
            "postgres", trace(layout, "postgres"), signal.SIGINT, 30.0,
            (layout.postgres / ".s.PGSQL.5432", layout.postgres / ".s.PGSQL.5432.lock"),
        ),
        Ending("embedder", trace(layout, "embedder"), sockets=(layout.embedder_socket,), scratch=layout.scratch),
        Ending("gateway", trace(layout, "gateway")),
        Ending("ingest", trace(layout, "ingest"), sockets=(layout.ingest_socket,)),
    )  # fmt: skip
    return {ending.name: ending for ending in found}


def database(layout: Layout) -> Postgres:
    """The site's Postgres."""
    return Postgres(data=layout.data, run=layout.postgres, engine=layout.home / f"postgres-{packaged_version()}")


def embedder(layout: Layout) -> vllm.Vllm:
    """The site's embedder."""
    python = vllm.interpreter()
    return vllm.Vllm(
        python=python,
        model=vllm.model(python),
        socket=layout.embedder_socket,
        scratch=layout.scratch,
        cache=layout.home / "cache" / "vllm",
    )


def own(layout: Layout, port: int) -> dict[str, str]:
    """The environment of our own processes: everything they need to know is in the site's file."""
    passed = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {
        **passed,
        "PYTHONUNBUFFERED": "1",
        "REDOUBT_HOME": str(layout.home),
        "REDOUBT_SITE": str(layout.site),
        "REDOUBT_RUN_DIR": str(layout.services),
        "REDOUBT_GATEWAY_HOST": "127.0.0.1",
        "REDOUBT_GATEWAY_PORT": str(port),
    }


def services(layout: Layout, port: int) -> dict[str, Service]:
    """All of them, in the order of a start."""
    server, model = database(layout), embedder(layout)

    async def postgres_ready() -> None:
        async with single(f"host={layout.postgres} dbname=postgres user=redoubt_admin", service="probe") as connection:
            await connection.execute("SELECT 1")

    async def gateway_ready() -> None:
        await _get(aiohttp.TCPConnector(), f"http://127.0.0.1:{port}/health/ready")

    async def ingest_ready() -> None:
        await _get(aiohttp.UnixConnector(str(layout.ingest_socket)), "http://ingest/health/ready")

    ends = endings(layout)
    found = (
        Service(
            server.command(), server.environment(), postgres_ready, layout.log("postgres"), ends["postgres"],
            account=server.account, needs=("cluster",),
        ),
        Service(
            model.command(), model.environment(), model.probe, layout.log("embedder"), ends["embedder"],
            restart_when_unwell=True,
        ),
        Service(
            [sys.executable, "-m", "redoubt.gateway"], own(layout, port), gateway_ready,
            layout.log("gateway"), ends["gateway"], needs=("catalog",),
        ),
        Service(
            [sys.executable, "-m", "redoubt.ingest"], own(layout, port), ingest_ready,
            layout.log("ingest"), ends["ingest"], needs=("catalog",),  # it waits for the embedder itself
        ),
    )  # fmt: skip
    return {service.name: service for service in found}


async def _get(connector: aiohttp.BaseConnector, url: str) -> None:
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(5)) as session,
            session.get(url) as answer,
        ):
            if answer.status != 200:
                raise Unavailable("not ready", why=f"HTTP {answer.status}")
    except TimeoutError:
        raise
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable("no answer", why=type(error).__name__) from error
