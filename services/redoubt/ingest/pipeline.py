"""A document's journey: read → parse → chunk → embed → write, in one transaction → searchable."""

import asyncio
import hashlib
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace

from redoubt.errors import Conflict, DocumentRejected, EmbedderMismatch
from redoubt.ingest import access
from redoubt.ingest.chunk import Piece
from redoubt.ingest.feed import Feed, Tools
from redoubt.ingest.judge import claim, complain, judge_one, sidecar_of
from redoubt.ingest.language import text_search_config
from redoubt.ingest.remove import take_out
from redoubt.ingest.sources.protocol import Content, Entry, Vanished
from redoubt.ingest.sync import stamp
from redoubt.model import Chunk, DocumentVersion, Generation, ParsedDocument, Reason, Vectors, chunk_id
from redoubt.store.catalog import backlog, documents, indexes
from redoubt.store.catalog.backlog import Pending
from redoubt.store.catalog.connect import connection, transaction
from redoubt.store.protocol import Store, Transaction, Write


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of a document, without its bytes."""

    entry: Entry
    digest: bytes
    sidecar: access.Sidecar
    form: str


@dataclass(frozen=True, slots=True)
class Cut:
    """A document's passages for one budget of tokens."""

    pieces: list[Piece]
    vectors: Vectors


async def bring_in(tools: Tools, feed: Feed, change: Pending, *, urgent: bool = False) -> None:
    """Make the document at a changed path searchable as it is now; parks it when it cannot be.

    `EmbedderDown`, `EmbedderMismatch` and `CatalogDown` pass through: the change stays queued.
    """
    async with AsyncExitStack() as held:
        async with tools.reading[urgent]:
            content = await _read(tools, feed, change)
            if content is None:
                return
            read = await _known_by(feed, content)
            if await _only_touched(tools, feed, change, read):
                return
            generations = await _generations(tools, feed)
            try:
                with _timed(tools, "parse"):
                    parsed = await tools.sandbox.parse(content.data, change.path)
            except DocumentRejected as error:
                await _park(tools, feed, change, stamp(read.entry, feed.rules), error)
                return
            del content
            await held.enter_async_context(tools.room.of(len(parsed.text)))
        if read.sidecar.title:
            parsed = replace(parsed, title=read.sidecar.title)
        said = access.language(change.path, feed.config, read.sidecar)
        config = await asyncio.to_thread(text_search_config, parsed, said)
        cuts = {g.max_tokens: await cut(tools, g, parsed, urgent=urgent) for g in generations}
        with _timed(tools, "write"):
            written = await _write(tools, feed, change, read, parsed, config, cuts)
    if written:
        lag = time.time() - max(read.entry.changed_at, feed.created_at).timestamp()
        tools.metrics.freshness.labels(feed.name).observe(max(0.0, lag))


async def _read(tools: Tools, feed: Feed, change: Pending) -> Content | None:
    """The bytes; None if there is nothing to bring in, and that is settled."""
    try:
        return await asyncio.to_thread(feed.source.read, change.path)
    except Vanished:
        async with transaction(tools.pool) as tx:
            gone = await backlog.gone(tx, feed.id, change.path, change.stamp)
        if gone:
            await take_out(tools, feed, [change.path])
    except DocumentRejected as error:
        await _park(tools, feed, change, change.stamp, error)
    return None


async def _known_by(feed: Feed, content: Content) -> _Read:
    """Hash and sidecar; the sidecar is read after its stamp was taken, so that a later change shows."""

    def look() -> _Read:
        sidecar = sidecar_of(feed, content.entry.path)
        form = access.form(content.entry.path, feed.config, sidecar)
        return _Read(content.entry, hashlib.sha256(content.data).digest(), sidecar, form)

    return await asyncio.to_thread(look)


async def _only_touched(tools: Tools, feed: Feed, change: Pending, read: _Read) -> bool:
    """Equal content in an equal form is not written again: its stamp is noted, and who may read is judged."""
    async with transaction(tools.pool) as tx:
        await claim(tx, feed, [change.path])
        if not await backlog.waits(tx, feed.id, change.path):
            return True
        found = await documents.at(tx, feed.id, change.path)
        if found is None or found[2] != read.digest or found[3].rpartition("|")[2] != read.form:
            return False
        now = stamp(read.entry, feed.rules)
        await backlog.settle(tx, feed.id, [change.path], [change.stamp, now])
        await judge_one(tools, tx, feed, found[0], read.entry, read.sidecar)
        return True


async def _generations(tools: Tools, feed: Feed) -> list[Generation]:
    async with connection(tools.pool) as taken:
        return await writable(tools, taken, feed.index)


async def writable(tools: Tools, tx: Transaction, index: str) -> list[Generation]:
    """The generations that a new version goes into; `EmbedderMismatch` if the live one is of another embedder.

    One in the making that is of another embedder is filled when that one runs again. `Conflict`: there is none yet.
    """
    live = await indexes.live(tx, index)
    if live is None:
        raise Conflict(f"index {index!r} has no generation yet", why="the embedder has not answered so far")
    if live.embedder_digest != tools.digest:
        raise EmbedderMismatch(
            f"index {index!r} was built with another embedder than the one that runs",
            why=f"generation {live.number} holds vectors of {live.embedder}",
            fix=f"serve that model again, or run `redoubt index reindex {index}`, then `redoubt index swap {index}`",
        )
    every = await indexes.generations(tx, index, "live", "building", "ready")
    return [generation for generation in every if generation.embedder_digest == tools.digest]


async def cut(tools: Tools, generation: Generation, parsed: ParsedDocument, *, urgent: bool = False) -> Cut:
    """Passages as a generation holds them, embedded."""
    with _timed(tools, "chunk"):
        pieces = await asyncio.to_thread(tools.chunker(generation.max_tokens).chunk, parsed)
    with _timed(tools, "embed"):
        texts = [piece.embed_text for piece in pieces]
        vectors = await tools.batcher.embed(texts, generation.dimensions, urgent=urgent)
    return Cut(pieces, vectors)


async def _write(
    tools: Tools,
    feed: Feed,
    change: Pending,
    read: _Read,
    parsed: ParsedDocument,
    config: str,
    cuts: dict[int, Cut],
) -> bool:
    """One transaction: the catalogue's row, the version, the chunks, and the change's place in the backlog."""
    entry, now = read.entry, stamp(read.entry, feed.rules)
    async with transaction(tools.pool) as tx:
        await claim(tx, feed, [entry.path])
        if not await backlog.waits(tx, feed.id, entry.path):
            return False  # removed meanwhile, or written by another worker
        acl = await documents.acl_id(tx, access.judge(entry.path, feed.config, read.sidecar))
        version = documents.Version(
            source_id=feed.id,
            path=entry.path,
            content_hash=read.digest,
            size=entry.size,
            stamp=f"{now}|{read.form}",
            parsed=parsed,
            config=config,
            acl_id=acl,
            as_of=read.sidecar.as_of or parsed.as_of or entry.modified_at,
            changed_at=entry.changed_at,
        )
        document_id, number = await documents.put(tx, version)
        document = DocumentVersion(document_id, number, parsed.title, acl, config)
        for generation in await writable(tools, tx, feed.index):
            if generation.max_tokens in cuts:  # else it was begun after we looked, and is filled like its others
                await place(tools.store, tx, generation, document, cuts[generation.max_tokens])
        await backlog.settle(tx, feed.id, [entry.path], [change.stamp, now])
        if read.sidecar.problem:
            await complain(tx, feed, entry, read.sidecar)
    return True


async def place(
    store: Store, tx: Transaction, generation: Generation, document: DocumentVersion, passages: Cut
) -> None:
    """Put a document's chunks into one generation and note that it holds them."""
    chunks = [
        Chunk(
            chunk_id(generation.id, document.document_id, document.version, piece.ordinal),
            piece.ordinal, piece.text, piece.span, piece.page, piece.heading,
        )
        for piece in passages.pieces
    ]  # fmt: skip
    report = await store.write(tx, generation, [Write(document, chunks, passages.vectors)])
    if report.failed:
        raise DocumentRejected(
            Reason.STORE, "the store cannot hold the document", why=next(iter(report.failed.values()))
        )
    await documents.mark_indexed(
        tx, generation.id, document.document_id, document.version, len(chunks), store.capabilities.transactional
    )


async def _park(tools: Tools, feed: Feed, change: Pending, now: str, error: DocumentRejected) -> None:
    """Set the change aside with its reason; an older version stays searchable."""
    async with connection(tools.pool) as taken:
        await backlog.park(taken, feed.id, change.path, (change.stamp, now), error.reason, explain(error))


def explain(error: DocumentRejected) -> str:
    """What a person reads in `redoubt index failures`."""
    return ". ".join(part for part in (error.what, error.why, error.fix) if part)


@contextmanager
def _timed(tools: Tools, step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    tools.metrics.step_duration.labels(step).observe(time.perf_counter() - started)
