"""Generations in the making: an index's first one, and one that is built beside the live one."""

import asyncio

from redoubt import log
from redoubt.ingest import pipeline
from redoubt.ingest.chunk import Chunker
from redoubt.ingest.pipeline import Tools
from redoubt.model import DocumentVersion, Generation
from redoubt.settings import Embedder
from redoubt.store.catalog import documents, indexes
from redoubt.store.catalog.connect import connection, transaction
from redoubt.store.protocol import Transaction

_AT_ONCE = 32  # documents
_log = log.get(__name__)


async def begin(tools: Tools, embedder: Embedder, digest: str, dimensions: int) -> None:
    """Give every index without a generation its first one, live and empty."""
    async with connection(tools.pool) as taken:
        bare = [row.name for row in await indexes.listing(taken) if row.live is None]
    for name in bare:
        async with transaction(tools.pool) as tx:
            generation = await _next(tx, name, embedder, digest, dimensions)
        if generation is None:
            continue
        await tools.store.create(generation)
        async with transaction(tools.pool) as tx:
            await indexes.set_state(tx, generation.id, "ready")
            await indexes.swap(tx, name, "ingest", kind="create")
        _log.info("index created", index=name, generation=generation.number)


async def _next(tx: Transaction, name: str, embedder: Embedder, digest: str, dimensions: int) -> Generation | None:
    unfinished = await indexes.generations(tx, name, "building")
    if unfinished:
        return unfinished[0]  # a worker was killed between the two steps
    return await indexes.add_generation(
        tx, name, backend="pgvector", embedder=embedder.model, digest=digest, dimensions=dimensions,
        max_tokens=embedder.max_tokens,
    )  # fmt: skip


async def build(tools: Tools, digest: str, embedder: Embedder) -> None:
    """Fill every generation that is being built with what it lacks; ready when it lacks nothing."""
    async with connection(tools.pool) as taken:
        unfinished = [
            generation
            for row in await indexes.listing(taken)
            if row.live is not None
            for generation in await indexes.generations(taken, row.name, "building", "ready")
        ]
    for generation in unfinished:
        if generation.embedder_digest == digest:
            await _fill(tools, generation, embedder)


async def _fill(tools: Tools, generation: Generation, embedder: Embedder) -> None:
    await tools.store.create(generation)
    chunker = Chunker(embedder.path / "tokenizer.json", generation.max_tokens)
    filled = 0
    while True:
        async with connection(tools.pool) as taken:
            lacking = await documents.missing_from(taken, generation.id, _AT_ONCE)
        if not lacking:
            break
        await asyncio.gather(*(_copy(tools, generation, chunker, stored) for stored in lacking))
        filled += len(lacking)
    await tools.store.maintain(generation)
    async with transaction(tools.pool) as tx:
        still = await indexes.generations(tx, generation.index, "building")
        if any(other.id == generation.id for other in still):
            await indexes.set_state(tx, generation.id, "ready")
            _log.info("generation ready", index=generation.index, generation=generation.number, documents=filled)


async def _copy(tools: Tools, generation: Generation, chunker: Chunker, stored: documents.Stored) -> None:
    pieces = await asyncio.to_thread(chunker.chunk, stored.parsed)
    vectors = await tools.batcher.embed([piece.embed_text for piece in pieces])
    async with transaction(tools.pool) as tx:
        row = await (
            await tx.execute(
                "SELECT version, acl_id FROM document WHERE id = %s AND deleted_at IS NULL FOR UPDATE", (stored.id,)
            )
        ).fetchone()
        if row is None or row[0] != stored.version:
            return  # changed meanwhile: its own write puts the new version into this generation too
        document = DocumentVersion(stored.id, stored.version, stored.title, row[1], stored.config)
        await pipeline.place(tools.store, tx, generation, document, pieces, vectors)
