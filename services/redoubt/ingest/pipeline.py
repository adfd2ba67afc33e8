"""A document's journey: read → parse → chunk → embed → write, in one transaction → searchable."""

import asyncio
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from redoubt.errors import DocumentRejected, EmbedderMismatch
from redoubt.ingest import access
from redoubt.ingest.chunk import Chunker, Piece
from redoubt.ingest.embed import Batcher
from redoubt.ingest.language import text_search_config
from redoubt.ingest.parse.sandbox import Sandbox
from redoubt.ingest.sources.folder import FolderConfig
from redoubt.ingest.sources.protocol import Content, Entry, Source, Vanished
from redoubt.ingest.sync import stamp
from redoubt.metrics import IngestMetrics
from redoubt.model import Chunk, DocumentVersion, Generation, ParsedDocument, Reason, Vectors, chunk_id
from redoubt.store.catalog import backlog, documents, indexes
from redoubt.store.catalog.connect import Pool, connection, transaction
from redoubt.store.protocol import Store, Transaction, Write


@dataclass(frozen=True, slots=True)
class Feed:
    """A source at work: its configuration and the index that it feeds."""

    id: UUID
    name: str
    index: str
    config: FolderConfig
    rules: str  # digest of the configuration: part of every document's stamp
    source: Source
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Tools:
    """What a document passes through."""

    pool: Pool
    store: Store
    sandbox: Sandbox
    chunker: Chunker
    batcher: Batcher
    metrics: IngestMetrics
    digest: str  # of the embedder that runs


async def bring_in(tools: Tools, feed: Feed, path: str) -> None:
    """Make the document at `path` searchable as it is now; parks it when it cannot be.

    `EmbedderDown` and `CatalogDown` pass through: the change stays queued and is tried again.
    """
    try:
        content = await asyncio.to_thread(feed.source.read, path)
        sidecar = access.read_sidecar(await asyncio.to_thread(feed.source.sidecar, path))
    except Vanished:
        await take_out(tools, feed, [path])
        return
    except DocumentRejected as error:
        await _park(tools, feed, path, None, error)
        return
    now = stamp(content.entry, feed.rules)
    digest = hashlib.sha256(content.data).digest()
    if await _only_touched(tools, feed, content.entry, digest, sidecar):
        return
    try:
        with _timed(tools, "parse"):
            parsed = await tools.sandbox.parse(content.data, path)
        if sidecar.title:
            parsed = replace(parsed, title=sidecar.title)
        with _timed(tools, "chunk"):
            pieces = await asyncio.to_thread(tools.chunker.chunk, parsed)
    except DocumentRejected as error:
        await _park(tools, feed, path, now, error)
        return
    with _timed(tools, "embed"):
        vectors = await tools.batcher.embed([piece.embed_text for piece in pieces])
    with _timed(tools, "write"):
        await _write(tools, feed, content, digest, sidecar, parsed, pieces, vectors)
    lag = time.time() - max(content.entry.changed_at, feed.created_at).timestamp()
    tools.metrics.freshness.labels(feed.name).observe(max(0.0, lag))


async def _write(
    tools: Tools,
    feed: Feed,
    content: Content,
    digest: bytes,
    sidecar: access.Sidecar,
    parsed: ParsedDocument,
    pieces: list[Piece],
    vectors: Vectors,
) -> None:
    """One transaction: the catalogue's row, the version, the chunks, and the change's place in the backlog."""
    entry = content.entry
    async with transaction(tools.pool) as tx:
        await _claim(tx, feed, entry.path)
        acl = await documents.acl_id(tx, access.judge(entry.path, feed.config, sidecar))
        config = text_search_config(parsed, access.language(entry.path, feed.config, sidecar))
        version = documents.Version(
            source_id=feed.id,
            path=entry.path,
            content_hash=digest,
            size=entry.size,
            stamp=stamp(entry, feed.rules),
            parsed=parsed,
            config=config,
            acl_id=acl,
            as_of=sidecar.as_of or parsed.as_of or entry.modified_at,
            changed_at=entry.changed_at,
        )
        document_id, number = await documents.put(tx, version)
        document = DocumentVersion(document_id, number, parsed.title, acl, config)
        for generation in await indexes.generations(tx, feed.index, "live", "building", "ready"):
            if generation.embedder_digest != tools.digest:
                raise EmbedderMismatch(
                    f"index {feed.index!r} was built with another embedder than the one that runs",
                    why=f"generation {generation.number} holds vectors of {generation.embedder}",
                    fix=f"serve that model again, or run `redoubt index reindex {feed.index}`, then swap",
                )
            await place(tools.store, tx, generation, document, pieces, vectors)
        await backlog.settle(tx, feed.id, entry.path, None)


async def place(
    store: Store,
    tx: Transaction,
    generation: Generation,
    document: DocumentVersion,
    pieces: list[Piece],
    vectors: Vectors,
) -> None:
    """Put a document's chunks into one generation and note that it holds them."""
    chunks = [
        Chunk(
            chunk_id(generation.id, document.document_id, document.version, piece.ordinal),
            piece.ordinal, piece.text, piece.span, piece.page, piece.heading,
        )
        for piece in pieces
    ]  # fmt: skip
    report = await store.write(tx, generation, [Write(document, chunks, vectors)])
    if report.failed:
        raise DocumentRejected(
            Reason.EMBEDDER, "the store refused the document's vectors", why=next(iter(report.failed.values()))
        )
    await documents.mark_indexed(
        tx, generation.id, document.document_id, document.version, len(chunks), store.capabilities.transactional
    )


async def take_out(tools: Tools, feed: Feed, paths: list[str]) -> None:
    """Remove the documents at these paths: not to be found from this transaction's commit on."""
    async with transaction(tools.pool) as tx:
        gone: list[tuple[UUID, int]] = []
        for path in paths:
            await _claim(tx, feed, path)
            found = await documents.at(tx, feed.id, path)
            if found:
                gone.append((found[0], found[1]))
            await backlog.settle(tx, feed.id, path, None)
        await _remove(tools, tx, feed.index, gone)


async def _remove(tools: Tools, tx: Transaction, index: str, gone: list[tuple[UUID, int]]) -> None:
    if not gone:
        return
    import numpy as np

    for generation in await indexes.generations(tx, index, "live", "building", "ready", "retired"):
        empty = np.zeros((0, generation.dimensions), np.float32)
        batch = [Write(DocumentVersion(id_, version, "", None, "simple"), [], empty) for id_, version in gone]
        await tools.store.write(tx, generation, batch)
    await documents.delete(tx, [id_ for id_, _ in gone])


async def judge(tools: Tools, feed: Feed, document_id: UUID, before: str, entry: Entry) -> None:
    """Who may read, anew: after a rename, a changed sidecar, or changed rules; nothing is embedded again."""
    sidecar = access.read_sidecar(await asyncio.to_thread(feed.source.sidecar, entry.path))
    async with transaction(tools.pool) as tx:
        await _claim(tx, feed, before)
        await _judge(tools, tx, feed, document_id, entry, sidecar)
        await backlog.settle(tx, feed.id, before, None)
        await backlog.settle(tx, feed.id, entry.path, None)


async def _judge(
    tools: Tools, tx: Transaction, feed: Feed, document_id: UUID, entry: Entry, sidecar: access.Sidecar
) -> None:
    acl = await documents.acl_id(tx, access.judge(entry.path, feed.config, sidecar))
    changed = await documents.judge(tx, document_id, entry.path, stamp(entry, feed.rules), acl, sidecar.as_of)
    if changed:
        for generation in await indexes.generations(tx, feed.index, "live", "building", "ready", "retired"):
            await tools.store.set_acl(tx, generation, [document_id], acl)


async def _only_touched(tools: Tools, feed: Feed, entry: Entry, digest: bytes, sidecar: access.Sidecar) -> bool:
    """Equal content is not written again: its stamp is noted, and who may read is judged."""
    async with transaction(tools.pool) as tx:
        await _claim(tx, feed, entry.path)
        found = await documents.at(tx, feed.id, entry.path)
        if found is None or found[2] != digest:
            return False
        await _judge(tools, tx, feed, found[0], entry, sidecar)
        await backlog.settle(tx, feed.id, entry.path, None)
        return True


async def _park(tools: Tools, feed: Feed, path: str, now: str | None, error: DocumentRejected) -> None:
    """Set the change aside with its reason; an older version stays searchable."""
    detail = ". ".join(part for part in (error.what, error.why, error.fix) if part)
    async with connection(tools.pool) as taken:
        if now is None:  # it could not even be read: what was noted is what failed
            waiting = await backlog.queued(taken, feed.id, [path])
            now = waiting[0].stamp if waiting else ""
        await backlog.park(taken, feed.id, path, now, error.reason, detail)


async def _claim(tx: Transaction, feed: Feed, path: str) -> None:
    """One writer a path, on however many hosts workers run."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"{feed.id}/{path}",))


@contextmanager
def _timed(tools: Tools, step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    tools.metrics.step_duration.labels(step).observe(time.perf_counter() - started)
