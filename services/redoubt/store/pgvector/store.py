"""The store in the site's own Postgres: a generation is a schema, a write is part of the catalogue's transaction."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar
from uuid import UUID

import numpy as np
import psycopg
from psycopg import AsyncConnection, IsolationLevel

from redoubt.errors import EmbedderMismatch, NotFound
from redoubt.model import Candidate, Chunk, Found, Generation, Principal, Query, Span, Vectors
from redoubt.store.catalog.connect import Pool, connection, transaction
from redoubt.store.pgvector.statements import schema, script, statement
from redoubt.store.protocol import Capabilities, Report, Transaction, Write

EXACT_BELOW = 10_000  # permitted chunks: fewer are compared one by one, which is exact and as fast
POSTING_BUDGET = 30_000  # postings read before candidates are taken; rarest terms first
GRAPH_ABOVE = 2_000  # chunks: a graph over fewer costs more than it saves
SEGMENTS = 8  # more are rebuilt into one
_MERGE_LOCK = 0x6D65726765  # "merge"


class PgvectorStore:
    """Keeps `store.protocol.Store` with pgvector, and BM25 over postings of its own."""

    capabilities: ClassVar[Capabilities] = Capabilities(transactional=True, exact_when_selective=True)

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, generation: Generation) -> None:
        """Make the generation's schema, owned by the ingest worker whoever calls."""
        async with transaction(self._pool) as tx:
            await tx.execute("SELECT pg_advisory_xact_lock(%s, %s)", _key(generation.id))
            if await self._exists(tx, generation.id):
                return
            await tx.execute("SET LOCAL ROLE redoubt_ingest")
            await tx.execute(script("create.sql", generation.id, dimensions=generation.dimensions))
            await tx.execute(script("search.sql", generation.id))

    async def drop(self, generation_id: UUID) -> None:
        """Remove the generation and all that it holds."""
        async with transaction(self._pool) as tx:
            await tx.execute(f"DROP SCHEMA IF EXISTS {schema(generation_id)} CASCADE".encode())

    async def write(self, tx: Transaction, generation: Generation, batch: Sequence[Write]) -> Report:
        """Replace the chunks of each document in `batch`; inside a transaction all of it is done, or none."""
        good, failed = [], {}
        for item in batch:
            if problem := _problem(item.vectors, len(item.chunks), generation.dimensions):
                failed[item.document.document_id] = problem
            else:
                good.append(item)
        documents = [item.document.document_id for item in good]
        for name in ("retract_lexical", "retract_chunks"):
            await tx.execute(statement("write.sql", name, generation.id), {"documents": documents})
        if any(item.chunks for item in good):
            await self._place(tx, generation, good)
        return Report(done=tuple(documents), failed=failed)

    async def set_acl(
        self, tx: Transaction, generation: Generation, document_ids: Sequence[UUID], acl_id: int | None
    ) -> None:
        """Change who may read; vectors and postings stay as they are."""
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
        call = f"SELECT * FROM {schema(generation.id)}.search(%s, %s::halfvec, %s, %s, %s, %s)".encode()  # noqa: S608
        values = (
            query.text.replace("\x00", " "),
            _literal(query.vector),
            sorted(principal.groups),
            query.limit,
            EXACT_BELOW,
            POSTING_BUDGET,
        )
        async with connection(self._pool) as taken:
            try:
                rows = await (await taken.execute(call, values, prepare=True)).fetchall()
            except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName) as error:
                raise _gone(generation) from error
        return Found(tuple(_candidate(row) for row in rows), rows[0][13] if rows else 0.0)

    async def contents(self, generation: Generation) -> AsyncIterator[tuple[UUID, int, int | None, int]]:
        """Stream what is held, by a cursor: an index may be larger than memory."""
        async with transaction(self._pool) as tx, tx.cursor("contents") as cursor:
            await cursor.execute(statement("write.sql", "contents", generation.id))
            async for row in cursor:
                yield row

    async def maintain(self, generation: Generation) -> None:
        """Fold the delta into a segment, rebuild when there are many, and grow the graph once it pays."""
        async with connection(self._pool) as taken:
            await taken.set_isolation_level(IsolationLevel.REPEATABLE_READ)
            try:
                async with taken.transaction():
                    await self._merge(taken, generation)
            except psycopg.errors.SerializationFailure:
                return  # another merge was first
            finally:
                await taken.set_isolation_level(None)

    async def _merge(self, tx: AsyncConnection[Any], generation: Generation) -> None:
        locked = await (await tx.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", _key(generation.id))).fetchone()
        if not locked or not locked[0] or not await self._exists(tx, generation.id):
            return
        facts = await (await tx.execute(statement("merge.sql", "facts", generation.id))).fetchone()
        assert facts is not None
        average, segments, pending, chunks, tallies, graph = facts
        values = {"average": max(average, 1.0)}
        if pending and segments < SEGMENTS:
            await tx.execute(statement("merge.sql", "fold", generation.id), values)
        elif pending:
            for name in ("clear", "forget", "rebuild"):
                parameters = values if name == "rebuild" else None
                await tx.execute(statement("merge.sql", name, generation.id), parameters)
        if tallies > 32:
            await tx.execute(statement("merge.sql", "tally", generation.id))
        if not graph and chunks >= GRAPH_ABOVE:
            await tx.execute(statement("merge.sql", "graph", generation.id))

    async def _place(self, tx: Transaction, generation: Generation, batch: Sequence[Write]) -> None:
        await tx.execute(statement("write.sql", "stage", generation.id))
        columns = "id, document_id, version, ordinal, acl_id, title, heading, text, start_char, end_char, page, config"
        async with (
            tx.cursor() as cursor,
            cursor.copy(f"COPY staged ({columns}, embedding) FROM STDIN") as copy,
        ):
            for item in batch:
                document = item.document
                for chunk, vector in zip(item.chunks, item.vectors, strict=True):
                    await copy.write_row(
                        (
                            chunk.id, document.document_id, document.version, chunk.ordinal, document.acl_id,
                            document.title, list(chunk.heading), chunk.text, chunk.span.start, chunk.span.end,
                            chunk.page, document.config, _literal(vector),
                        )
                    )  # fmt: skip
        await tx.execute(statement("write.sql", "place", generation.id))
        await tx.execute(statement("write.sql", "unstage", generation.id))

    async def _exists(self, tx: AsyncConnection[Any], generation_id: UUID) -> bool:
        found = await tx.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema(generation_id),))
        return await found.fetchone() is not None


def _key(generation_id: UUID) -> tuple[int, int]:
    return _MERGE_LOCK & 0x7FFFFFFF, int.from_bytes(generation_id.bytes[:4], "big", signed=True)


def _problem(vectors: Vectors, chunks: int, dimensions: int) -> str:
    if vectors.shape != (chunks, dimensions) and chunks:
        return f"vectors of shape {vectors.shape}, expected {(chunks, dimensions)}"
    if chunks and not np.isfinite(vectors).all():
        return "a vector holds NaN or infinity"
    return ""


def _literal(vector: Vectors) -> str:
    return "[" + ",".join(f"{value:.6g}" for value in vector.tolist()) + "]"


def _candidate(row: Sequence[Any]) -> Candidate:
    chunk = Chunk(row[0], row[1], row[6], Span(row[7], row[8]), row[9], tuple(row[5]))
    return Candidate(chunk, row[2], row[3], row[4], row[10], row[11], row[12])


def _gone(generation: Generation) -> NotFound:
    return NotFound(
        f"generation {generation.number} of index {generation.index!r} is not in the store",
        why="it was dropped, or its building never began",
        fix=f"run `redoubt index reindex {generation.index}`",
    )
