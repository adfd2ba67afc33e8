"""Fixtures: a catalogue that a test fills with documents by hand, and a real gateway process's server before it."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import uvicorn
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from redoubt import settings
from redoubt.clients.vllm import Embedder, digest
from redoubt.gateway.__main__ import configured
from redoubt.gateway.app import create
from redoubt.model import Chunk, DocumentVersion, Generation, Span, chunk_id
from redoubt.store.catalog import keys
from redoubt.store.catalog.connect import Pool, pool, transaction
from redoubt.store.pgvector.store import PgvectorStore
from redoubt.store.protocol import Write

AS_OF = datetime(2025, 3, 1, tzinfo=UTC)


@dataclass
class Corpus:
    """Documents put into catalogue and store the short way: a chunk a paragraph, a source by name."""

    pool: Pool
    store: PgvectorStore
    embedder: Embedder
    digest: str
    generations: dict[str, Generation] = field(default_factory=dict)

    async def index(self, name: str) -> Generation:
        if name not in self.generations:
            generation = Generation(uuid4(), name, 1, "pgvector", self.embedder.model, self.digest, 384, 256)
            async with transaction(self.pool) as tx:
                row = await tx.execute("INSERT INTO index (name) VALUES (%s) RETURNING id", (name,))
                (index_id,) = await row.fetchone() or (None,)
                await tx.execute(
                    "INSERT INTO generation (id, index_id, number, backend, embedder, embedder_digest, dimensions,"
                    " max_tokens, state) VALUES (%s, %s, 1, 'pgvector', %s, %s, 384, 256, 'live')",
                    (generation.id, index_id, generation.embedder, generation.embedder_digest),
                )
                await tx.execute("UPDATE index SET live_generation_id = %s WHERE id = %s", (generation.id, index_id))
            await self.store.create(generation)
            self.generations[name] = generation
        return self.generations[name]

    async def add(
        self,
        path: str,
        text: str,
        groups: Sequence[str] = ("everyone",),
        *,
        source: str = "docs",
        index: str = "main",
        as_of: datetime = AS_OF,
        id_: UUID | None = None,
        page: int | None = None,
    ) -> UUID:
        """A document, or with `id_` its next version."""
        generation = await self.index(index)
        hashed = hashlib.sha256(text.encode()).digest()
        document_id = id_ or uuid4()
        spans, at = [], 0
        for paragraph in text.split("\n\n"):
            spans.append(Span(at, at + len(paragraph)))
            at += len(paragraph) + 2
        vectors = await self.embedder.embed([text[span.start : span.end] for span in spans])
        async with transaction(self.pool) as tx:
            acl_id = await self.acl(tx, groups)
            row = await tx.execute(
                "INSERT INTO source (name, kind, config, index_id, last_success_at)"
                " SELECT %s, 'folder', '{}', id, now() FROM index WHERE name = %s"
                " ON CONFLICT (name) DO UPDATE SET last_success_at = now() RETURNING id",
                (source, index),
            )
            (source_id,) = await row.fetchone() or (None,)
            await tx.execute(
                "UPDATE document_version SET text = NULL, sections = NULL, ended_at = now()"
                " WHERE document_id = %s AND ended_at IS NULL",
                (document_id,),
            )
            row = await tx.execute(
                "INSERT INTO document (id, source_id, path, version, content_hash, size, stamp, title, config, acl_id,"
                " as_of, changed_at, searchable_at)"
                " VALUES (%s, %s, %s, 1, %s, %s, '', %s, 'english', %s, %s, now(), now())"
                " ON CONFLICT (id) DO UPDATE SET version = document.version + 1, content_hash = excluded.content_hash,"
                " as_of = excluded.as_of, acl_id = excluded.acl_id RETURNING version",
                (document_id, source_id, path, hashed, len(text), path.rpartition("/")[2], acl_id, as_of),
            )
            (version,) = await row.fetchone() or (0,)
            await tx.execute(
                "INSERT INTO document_version (document_id, number, content_hash, text, sections, as_of, changed_at,"
                " searchable_at) VALUES (%s, %s, %s, %s, '[]', %s, now(), now())",
                (document_id, version, hashed, text, as_of),
            )
            chunks = [
                Chunk(chunk_id(generation.id, document_id, version, n), n, text[span.start : span.end], span, page, ())
                for n, span in enumerate(spans)
            ]
            document = DocumentVersion(document_id, version, path, acl_id, "english")
            report = await self.store.write(tx, generation, [Write(document, chunks, vectors)])
            assert report.failed == {}
        return document_id

    @staticmethod
    async def acl(tx: AsyncConnection[Any], groups: Sequence[str]) -> int | None:
        if not groups:
            return None
        row = await tx.execute(
            "INSERT INTO acl (groups) VALUES (%s) ON CONFLICT (groups) DO UPDATE SET groups = excluded.groups"
            " RETURNING id",
            (sorted(set(groups)),),
        )
        (id_,) = await row.fetchone() or (None,)
        return id_

    async def regroup(self, document_id: UUID, groups: Sequence[str], *, index: str = "main") -> None:
        """Change who may read, in catalogue and store."""
        async with transaction(self.pool) as tx:
            acl_id = await self.acl(tx, groups)
            await tx.execute("UPDATE document SET acl_id = %s WHERE id = %s", (acl_id, document_id))
            await self.store.set_acl(tx, self.generations[index], [document_id], acl_id)

    async def execute(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        async with self.pool.connection() as taken, taken.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(statement.encode(), parameters)
            return await cursor.fetchall() if cursor.description else []

    async def key(self, name: str, *groups: str, lifetime: timedelta | None = None) -> str:
        async with transaction(self.pool) as tx:
            _, secret = await keys.create(tx, name, groups, lifetime)
        return secret

    async def audit(self) -> list[dict[str, Any]]:
        return await self.execute("SELECT * FROM audit ORDER BY id")


@pytest.fixture
async def corpus(database: settings.Catalog, embedder: settings.Embedder) -> AsyncIterator[Corpus]:
    async with (
        pool(database.dsn_for(database.admin_role), service="test", size=4) as connections,
        Embedder(embedder.url, embedder.model) as client,
    ):
        made = Corpus(connections, PgvectorStore(connections), client, digest(embedder.path))
        await made.index("main")
        yield made


@dataclass
class Served:
    """A running gateway."""

    url: str
    app: Any

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30)


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@asynccontextmanager
async def serving(site: settings.Site, **changes: Any) -> AsyncIterator[Served]:
    """The application behind a real uvicorn on a port of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    site = site.model_copy(update={"gateway": settings.Gateway(url=url)})
    app = create(site, settings.GatewaySettings(**changes))
    server = uvicorn.Server(configured(app))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not task.done(), task.exception()
        await asyncio.sleep(0.01)
    try:
        yield Served(url, app)
    finally:
        server.should_exit = True
        await task


@pytest.fixture
def site(database: settings.Catalog, embedder: settings.Embedder) -> settings.Site:
    return settings.Site(
        name="test", catalog=database, embedder=embedder, gateway=settings.Gateway(url="http://127.0.0.1:1")
    )


@pytest.fixture
async def gateway(site: settings.Site, corpus: Corpus) -> AsyncIterator[Served]:
    async with serving(site) as served:
        yield served


async def end_backends(database: settings.Catalog, service: str) -> int:
    """Cut the connections of one service, as a Postgres restart would."""
    dsn = database.dsn_for(database.admin_role)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as admin:
        row = await admin.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = %s", (service,)
        )
        return int((await row.fetchone() or (0,))[0])
