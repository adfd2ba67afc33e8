"""One look at a source: compare, settle at once what needs no parsing, and queue the rest."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from redoubt import log
from redoubt.errors import DocumentRejected
from redoubt.ingest.feed import Feed, Tools
from redoubt.ingest.judge import judge
from redoubt.ingest.remove import remove
from redoubt.ingest.sources.protocol import Entry, Vanished
from redoubt.ingest.sync import Known, Parked, Plan, plan, stamp
from redoubt.model import Reason
from redoubt.store.catalog import backlog, documents
from redoubt.store.catalog.connect import connection, transaction

URGENT, CHANGE, BACKFILL = 10, 5, 0  # job priorities: a change to what people read comes before what is new
_FEW = 16  # new documents in one batch of events: somebody saved them just now, and waits


@dataclass(frozen=True, slots=True)
class Seen:
    """How a look went."""

    settled: bool  # False: the folder looks empty, which is not believed yet
    unseen: tuple[str, ...] = ()  # paths that the system does not let us see


Defer = Callable[[Feed, Sequence[str], int], Awaitable[None]]
_log = log.get(__name__)


async def scan(
    tools: Tools, feed: Feed, defer: Defer, under: Iterable[str] | None = None, *, trust_empty: bool = True
) -> Seen:
    """Compare a source, or the part at or below some paths, settle what needs no reading, and queue the rest.

    `trust_empty` False: a folder that seems to have lost everything is left alone; a share may be unmounted.
    """
    touched = None if under is None or "." in (wanted := set(under)) else wanted
    async with connection(tools.pool) as taken:  # first: what is written while we list is no document that went
        known = [_known(row) for row in await documents.known(taken, feed.id, touched)]
        waiting = await backlog.of_source(taken, feed.id, touched)
    listing = await asyncio.to_thread(feed.source.list, touched)
    if not listing.entries and known and not trust_empty:
        return Seen(settled=False)
    parked = {item.path: Parked(item.stamp, item.state == "failed", item.reason == Reason.EMBEDDER) for item in waiting}
    found = await asyncio.to_thread(
        plan, known, listing.entries, parked, feed.rules, lambda path: _hash(feed, path), listing.unseen
    )
    again = await judge(tools, feed, found.renames)
    if found.deletes:
        await remove(tools, feed, [document.path for document in found.deletes])
        _log.info("documents removed", source=feed.name, documents=len(found.deletes))
    again += await judge(tools, feed, found.judge)
    if found.forget:
        async with transaction(tools.pool) as tx:
            await backlog.settle(tx, feed.id, found.forget)
    await defer(feed, again, CHANGE)
    await _queue(tools, feed, found, {document.path for document in known}, defer, few=touched is not None)
    return Seen(settled=True, unseen=listing.unseen)


async def _queue(tools: Tools, feed: Feed, found: Plan, known: set[str], defer: Defer, *, few: bool) -> None:
    if not found.writes:
        return
    async with transaction(tools.pool) as tx:
        fresh = set(await backlog.note(tx, feed.id, "write", [_change(feed, entry) for entry in found.writes]))
    changed = sorted(path for path in fresh if path in known)
    new = sorted(fresh - set(changed))
    await defer(feed, changed, CHANGE)
    await defer(feed, new, URGENT if few and len(new) <= _FEW else BACKFILL)


def _known(row: tuple[UUID, str, str, bytes, int]) -> Known:
    """Without the last part of the stamp, the form: it is no matter of the source's."""
    return Known(row[0], row[1], row[2].rpartition("|")[0], row[3], row[4])


def _change(feed: Feed, entry: Entry) -> tuple[str, str, datetime]:
    return entry.path, stamp(entry, feed.rules), entry.changed_at


def _hash(feed: Feed, path: str) -> bytes | None:
    try:
        return hashlib.sha256(feed.source.read(path).data).digest()
    except (Vanished, DocumentRejected):
        return None
