"""The store in the site's own Postgres: a generation is a schema, a write is part of the catalogue's transaction."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from uuid import UUID

import psycopg

from redoubt.errors import Conflict, EmbedderMismatch, NotFound
from redoubt.model import Candidate, Chunk, Found, Generation, Principal, Query, Span
from redoubt.store.catalog.connect import Pool, connection, transaction
from redoubt.store.pgvector import merge, write
from redoubt.store.pgvector.halfvec import Halfvec, HalfvecDumper
from redoubt.store.pgvector.statements import schema, script, statement
from redoubt.store.protocol import Capabilities, Report, Transaction, Write

EXACT_WEIGHT = 2_500  # the square of the permitted chunks, for each chunk, up to which they are compared one by one
GRAPH_ABOVE = 2_500  # chunks: a graph over fewer saves nothing, as all of them are compared anyway
POSTING_BUDGET = 20_000  # postings read before candidates are taken, rarest terms first
_MISSING = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName)


class PgvectorStore:
    """Keeps `store.protocol.Store` with pgvector, and BM25 over postings of its own."""

    capabilities: ClassVar[Capabilities] = Capabilities(transactional=True, exact_when_selective=True)

    def __init__(
        self,
        pool: Pool,
        *,
        exact_weight: int = EXACT_WEIGHT,
        graph_above: int = GRAPH_ABOVE,
        posting_budget: int = POSTING_BUDGET,
    ) -> None:
        self._pool = pool
        self._exact_weight = exact_weight
        self._graph_above = graph_above
        self._posting_budget = posting_budget

    async def create(self, generation: Generation) -> None:
        """Make the generation's schema, owned by the ingest worker whoever calls."""
        async with transaction(self._pool) as tx:
            await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (schema(generation.id),))
            found = await tx.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema(generation.id),))
            if await found.fetchone():
                return
            await tx.execute("SET LOCAL ROLE redoubt_ingest")
            await tx.execute(script("create.sql", generation.id, dimensions=generation.dimensions))
            await tx.execute(script("search.sql", generation.id))

    async def drop(self, generation_id: UUID) -> None:
        """Remove the generation and all that it holds."""
        async with transaction(self._pool) as tx:
            await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (schema(generation_id),))
            await tx.execute(f"DROP SCHEMA IF EXISTS {schema(generation_id)} CASCADE".encode())

    async def write(self, tx: Transaction, generation: Generation, batch: Sequence[Write]) -> Report:
        """Replace the chunks of each document in `batch`; a document that cannot be held leaves its old version."""
        async with self._present(generation):
            return await write.replace(tx, generation, batch)

    async def set_acl(
        self, tx: Transaction, generation: Generation, document_ids: Sequence[UUID], acl_id: int | None
    ) -> None:
        """Change who may read; vectors and postings stay as they are."""
        async with self._present(generation):
            await tx.execute(statement("write.sql", "lock", generation.id), {"documents": list(document_ids)})
            await tx.execute(
                statement("write.sql", "set_acl", generation.id), {"acl": acl_id, "documents": list(document_ids)}
            )

    async def search(self, generation: Generation, query: Query, principal: Principal) -> Found:
        """Both legs, permitted chunks only, in one round trip."""
        if query.embedder_digest != generation.embedder_digest:
            raise EmbedderMismatch(
                f"the question was embedded by another model than index {generation.index!r}",
                why=f"the index holds vectors of {generation.embedder} ({generation.embedder_digest[:19]}…)",
                fix=f"serve that model again, or run `redoubt index reindex {generation.index}`",
            )
        if query.vector.shape != (generation.dimensions,):
            raise EmbedderMismatch(
                f"the question's vector has {query.vector.size} dimensions, index {generation.index!r} has "
                f"{generation.dimensions}",
                why="the embedder does not serve the model that its digest names",
                fix="see `redoubt status`",
            )
        values = (
            query.text.replace("\x00", " "),
            Halfvec(query.vector),
            sorted(principal.groups),
            query.limit,
            self._exact_weight,
            self._posting_budget,
        )
        call = f"SELECT * FROM {schema(generation.id)}.search(%s, %s, %s, %s, %s, %s)".encode()  # noqa: S608
        async with (
            connection(self._pool) as taken,
            self._present(generation),
            taken.cursor(binary=True) as cursor,
        ):
            cursor.adapters.register_dumper(Halfvec, HalfvecDumper)
            await cursor.execute(call, values, prepare=True)
            rows = await cursor.fetchall()
        return Found(tuple(_candidate(row) for row in rows), rows[0][13] if rows else 0.0)

    async def contents(self, generation: Generation) -> AsyncIterator[tuple[UUID, int, int | None, int]]:
        """Stream what is held, by a cursor: an index may be larger than memory."""
        async with (
            transaction(self._pool) as tx,
            self._present(generation),
            tx.cursor("contents") as cursor,
        ):
            await cursor.execute(statement("write.sql", "contents", generation.id))
            async for row in cursor:
                yield row

    async def maintain(self, generation: Generation) -> None:
        """Merge the segments of recent writes, and grow the graph once it pays; one at a time, the others return."""
        async with connection(self._pool) as taken, self._present(generation):
            await merge.maintain(taken, generation, graph_above=self._graph_above)

    @asynccontextmanager
    async def _present(self, generation: Generation) -> AsyncIterator[None]:
        try:
            yield
        except _MISSING as error:
            raise NotFound(
                f"generation {generation.number} of index {generation.index!r} is not in the store",
                why="it was dropped, or its building never began",
                fix=f"run `redoubt index reindex {generation.index}`",
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise Conflict(
                f"this service may not use generation {generation.number} of index {generation.index!r}",
                why="its schema belongs to another role, or its rights were changed",
                fix=f"run `redoubt index reindex {generation.index}`",
            ) from error


def _candidate(row: Sequence[Any]) -> Candidate:
    chunk = Chunk(row[0], row[1], row[6], Span(row[7], row[8]), row[9], tuple(row[5]))
    return Candidate(chunk, row[2], row[3], row[4], row[10], row[11], row[12])
