"""A folder, a catalogue, and real worker processes over them: what the ingest tests stand on."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from redoubt import settings
from redoubt.clients.vllm import Embedder
from redoubt.ingest import register
from redoubt.model import Found, Principal, Query
from redoubt.store.catalog import indexes
from redoubt.store.catalog.connect import pool
from redoubt.store.pgvector.store import PgvectorStore

TESTS = Path(__file__).parent


@dataclass
class IngestSite:
    """A site without a gateway: the worker's effects are read from catalogue and store."""

    site: settings.Site
    folder: Path
    file: Path
    environment: dict[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AsyncConnection[dict[str, Any]]]:
        dsn = self.site.catalog.dsn_for("redoubt_admin")
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
            yield connection

    async def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        async with self.admin() as connection:
            return await (await connection.execute(query.encode(), values)).fetchall()

    async def one(self, query: str, *values: object) -> Any:
        (row,) = await self.rows(query, *values)
        return next(iter(row.values()))

    async def add_source(self, **options: Any) -> None:
        options.setdefault("groups", ("everyone",))
        async with await psycopg.AsyncConnection.connect(self.site.catalog.dsn_for("redoubt_admin")) as connection:
            config = register.describe(self.folder, name="docs", **options)
            await register.add(connection, config, "main")

    async def configure(self, **changes: Any) -> None:
        """Change the source's configuration as `source add` would."""
        async with await psycopg.AsyncConnection.connect(self.site.catalog.dsn_for("redoubt_admin")) as connection:
            config = register.describe(self.folder, name="docs", groups=("everyone",))
            await register.add(connection, config.model_validate(config.model_dump() | changes), "main")

    @asynccontextmanager
    async def worker(self, *command: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A worker process; ended by SIGTERM, whatever happens."""
        log = self.file.with_suffix(".log").open("ab")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(command or ("-m", "redoubt.ingest")),
            env=os.environ | {"REDOUBT_SITE": str(self.file), "REDOUBT_INGEST_SCAN_INTERVAL_S": "1"}
            | self.environment | environment,
            stdout=log, stderr=log, start_new_session=True, cwd=TESTS.parent,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                try:
                    await asyncio.wait_for(process.wait(), 15)
                except TimeoutError:
                    process.kill()
            await process.wait()
            log.close()

    async def until(self, condition: Callable[[], Awaitable[bool]], *, seconds: float = 60, what: str = "") -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not await condition():
            if asyncio.get_running_loop().time() > deadline:
                state = await self.rows("SELECT path, kind, state, reason, detail, attempts FROM pending")
                log = self.file.with_suffix(".log").read_text(errors="replace")[-3000:]
                raise AssertionError(f"not within {seconds} s: {what}\nbacklog: {state}\n{log}")
            await asyncio.sleep(0.05)

    async def settled(self, seconds: float = 60) -> None:
        """A whole scan went through since now, and nothing waits."""
        began = await self.one("SELECT clock_timestamp()")

        async def done() -> bool:
            rows = await self.rows(
                "SELECT 1 FROM source s WHERE scan_started_at > %s AND NOT EXISTS"
                " (SELECT FROM pending p WHERE p.source_id = s.id AND p.state = 'queued')",
                began,
            )
            return bool(rows)

        await self.until(done, seconds=seconds, what="settled")

    async def documents(self) -> dict[str, dict[str, Any]]:
        rows = await self.rows(
            "SELECT d.*, a.groups, v.text FROM document d LEFT JOIN acl a ON a.id = d.acl_id"
            " JOIN document_version v ON v.document_id = d.id AND v.number = d.version WHERE d.deleted_at IS NULL"
        )
        return {row["path"]: row for row in rows}

    async def failures(self) -> dict[str, str]:
        rows = await self.rows("SELECT path, reason FROM pending WHERE state = 'failed'")
        return {row["path"]: row["reason"] for row in rows}

    async def contents(self) -> list[tuple[str, int, int | None, int]]:
        """What the live generation holds, by path."""
        async with pool(self.site.catalog.dsn_for("redoubt_admin"), service="test", size=2) as connections:
            async with self.admin() as connection:
                generation = await indexes.live(connection, "main")
            assert generation is not None
            names = {row["id"]: row["path"] for row in await self.rows("SELECT id, path FROM document")}
            held = [row async for row in PgvectorStore(connections).contents(generation)]
            return sorted((names.get(row[0], str(row[0])), row[1], row[2], row[3]) for row in held)

    async def search(self, text: str, *groups: str) -> Found:
        async with (
            pool(self.site.catalog.dsn_for("redoubt_gateway"), service="test", size=2) as connections,
            Embedder(self.site.embedder.url, self.site.embedder.model) as embedder,
        ):
            async with self.admin() as connection:
                generation = await indexes.live(connection, "main")
            assert generation is not None
            (vector,) = await embedder.embed([text])
            who = Principal(uuid4(), "test", frozenset(groups))
            return await PgvectorStore(connections).search(
                generation, Query(text, vector, generation.embedder_digest, 20), who
            )

    async def finds(self, text: str, *groups: str) -> set[str]:
        """The texts of the passages that hold `text` literally."""
        found = await self.search(text, *groups)
        return {c.chunk.text for c in found.candidates if text in c.chunk.text}


@asynccontextmanager
async def ingest_site(database: settings.Catalog, embedder: settings.Embedder) -> AsyncIterator[IngestSite]:
    with tempfile.TemporaryDirectory(prefix="rdt-in-") as name:
        base = Path(name)
        (base / "docs").mkdir()
        site = settings.Site(
            name="test", catalog=database, embedder=embedder, gateway=settings.Gateway(url="http://127.0.0.1:9")
        )
        (base / "site.toml").write_text(settings.dump_site(site))
        yield IngestSite(site, base / "docs", base / "site.toml")
