"""One look at a source: compare, settle at once what needs no parsing, and queue the rest."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime

from redoubt import log
from redoubt.errors import DocumentRejected
from redoubt.ingest import pipeline
from redoubt.ingest.pipeline import Feed, Tools
from redoubt.ingest.sources.protocol import Entry, Vanished
from redoubt.ingest.sync import Known, Parked, Plan, plan, stamp
from redoubt.model import Reason
from redoubt.store.catalog import backlog, documents
from redoubt.store.catalog.connect import connection, transaction

URGENT, CHANGE, BACKFILL = 10, 5, 0  # job priorities: a change to what people read comes before what is new
_FEW = 16  # new documents in one batch of events: somebody saved them just now, and waits
_REMOVED_AT_ONCE = 50  # documents a transaction

Defer = Callable[[Feed, Sequence[str], int], Awaitable[None]]
_log = log.get(__name__)


async def scan(
    tools: Tools, feed: Feed, defer: Defer, under: Iterable[str] | None = None, *, trust_empty: bool = True
) -> bool:
    """Compare a source, or the part at or below some paths; True if it was compared and settled.

    `trust_empty` False: a folder that seems to have lost everything is left alone; a share may be unmounted.
    """
    touched = None if under is None or "." in (wanted := set(under)) else wanted
    entries = await asyncio.to_thread(feed.source.list, touched)
    async with connection(tools.pool) as taken:
        known = [Known(*row) for row in await documents.known(taken, feed.id)]
        waiting = await backlog.of_source(taken, feed.id)
    parked = {item.path: Parked(item.stamp, item.state == "failed", item.reason == Reason.EMBEDDER) for item in waiting}
    if touched is not None:
        known = [document for document in known if _below(document.path, touched)]
        parked = {path: item for path, item in parked.items() if _below(path, touched)}
    if not entries and known and not trust_empty:
        return False
    found = await asyncio.to_thread(plan, known, entries, parked, feed.rules, lambda path: _hash(feed, path))
    await _settle(tools, feed, found)
    await _queue(tools, feed, found, {document.path for document in known}, defer, few=touched is not None)
    return True


async def _settle(tools: Tools, feed: Feed, found: Plan) -> None:
    for document, entry in found.renames:
        await pipeline.judge(tools, feed, document.id, document.path, entry)
    if found.deletes:
        changes = [(document.path, "", _now()) for document in found.deletes]
        async with transaction(tools.pool) as tx:
            await backlog.note(tx, feed.id, "delete", changes)
        paths = [document.path for document in found.deletes]
        for at in range(0, len(paths), _REMOVED_AT_ONCE):
            await pipeline.take_out(tools, feed, paths[at : at + _REMOVED_AT_ONCE])
        _log.info("documents removed", source=feed.name, documents=len(paths))
    for document, entry in found.judge:
        await pipeline.judge(tools, feed, document.id, document.path, entry)
    if found.forget:
        async with transaction(tools.pool) as tx:
            for path in found.forget:
                await backlog.settle(tx, feed.id, path, None)


async def _queue(tools: Tools, feed: Feed, found: Plan, known: set[str], defer: Defer, *, few: bool) -> None:
    if not found.writes:
        return
    async with transaction(tools.pool) as tx:
        fresh = set(await backlog.note(tx, feed.id, "write", [_change(feed, entry) for entry in found.writes]))
    changed = sorted(path for path in fresh if path in known)
    new = sorted(fresh - set(changed))
    if changed:
        await defer(feed, changed, CHANGE)
    if new:
        await defer(feed, new, URGENT if few and len(new) <= _FEW else BACKFILL)


def _change(feed: Feed, entry: Entry) -> tuple[str, str, datetime]:
    return entry.path, stamp(entry, feed.rules), entry.changed_at


def _hash(feed: Feed, path: str) -> bytes | None:
    try:
        return hashlib.sha256(feed.source.read(path).data).digest()
    except (Vanished, DocumentRejected):
        return None


def _below(path: str, touched: Iterable[str]) -> bool:
    return any(path == top or path.startswith(top + "/") for top in touched)


def _now() -> datetime:
    return datetime.now(UTC)
