"""Who may read, anew: after a rename, a changed sidecar, or changed rules. Nothing is embedded for it."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from uuid import UUID

from redoubt.errors import DocumentRejected
from redoubt.ingest import access
from redoubt.ingest.feed import Feed, Tools
from redoubt.ingest.parse.clean import one_line
from redoubt.ingest.sources.protocol import Entry
from redoubt.ingest.sync import Known, stamp
from redoubt.model import Reason
from redoubt.store.catalog import backlog, documents, indexes
from redoubt.store.catalog.connect import transaction
from redoubt.store.protocol import Transaction

AT_ONCE = 200  # documents a transaction
_ANEW = "anew"  # in place of the form that a document was written in: no form is called this


async def judge(tools: Tools, feed: Feed, found: Sequence[tuple[Known, Entry]]) -> list[str]:
    """Judge documents whose content did not change; returns the paths that have to be written anew for their form."""
    again: list[str] = []
    for at in range(0, len(found), AT_ONCE):
        again += await _judge(tools, feed, found[at : at + AT_ONCE])
    return again


async def judge_one(
    tools: Tools, tx: Transaction, feed: Feed, document_id: UUID, entry: Entry, sidecar: access.Sidecar
) -> None:
    """Judge one document inside a transaction that has claimed its path."""
    await _apply(tools, tx, feed, [_Case(document_id, entry.path, None, entry, sidecar)])


async def claim(tx: Transaction, feed: Feed, paths: Sequence[str]) -> None:
    """One writer a path, on however many hosts workers run; held until the transaction ends."""
    await tx.execute(
        "SELECT pg_advisory_xact_lock(key) FROM (SELECT DISTINCT hashtextextended(name, 0) AS key"
        " FROM unnest(%s::text[]) AS name ORDER BY key) AS keys",
        ([f"{feed.id}/{path}" for path in paths],),
    )


def sidecar_of(feed: Feed, path: str) -> access.Sidecar:
    """What the sidecar says; one that is there and cannot be read is a problem, not an absence."""
    try:
        return access.read_sidecar(feed.source.sidecar(path))
    except DocumentRejected as error:
        return access.Sidecar(problem=f"{error.what} ({error.why})" if error.why else error.what)


async def complain(tx: Transaction, feed: Feed, entry: Entry, sidecar: access.Sidecar) -> None:
    """List a document whose sidecar is of no use."""
    detail = f"its sidecar is of no use: {sidecar.problem}. Nobody may read the document until that is mended"
    now = stamp(entry, feed.rules)
    await backlog.complain(tx, feed.id, entry.path, now, entry.changed_at, Reason.SIDECAR, detail)


@dataclass(frozen=True, slots=True)
class _Case:
    document_id: UUID
    before: str  # the path that the catalogue knows
    content_hash: bytes | None  # what the judgement is about; None: whatever the document holds
    entry: Entry
    sidecar: access.Sidecar


def _case(feed: Feed, known: Known, entry: Entry) -> _Case:
    return _Case(known.id, known.path, known.content_hash, entry, sidecar_of(feed, entry.path))


async def _judge(tools: Tools, feed: Feed, found: Sequence[tuple[Known, Entry]]) -> list[str]:
    def look() -> list[_Case]:
        return [_case(feed, known, entry) for known, entry in found]

    cases = await asyncio.to_thread(look)
    async with transaction(tools.pool) as tx:
        paths = sorted({path for case in cases for path in (case.before, case.entry.path)})
        await claim(tx, feed, paths)
        return await _apply(tools, tx, feed, cases)


async def _apply(tools: Tools, tx: Transaction, feed: Feed, cases: Sequence[_Case]) -> list[str]:
    standing = await documents.standing(tx, [case.document_id for case in cases])
    changes: list[tuple[UUID, str, str, int | None]] = []
    moved: dict[int | None, list[UUID]] = defaultdict(list)
    again: list[tuple[str, str, datetime]] = []
    acls: dict[tuple[str, ...] | None, int | None] = {None: None}
    for case in cases:
        stands = standing.get(case.document_id)
        if stands is None or case.content_hash not in (None, stands.content_hash):
            continue  # deleted or written meanwhile: the next look sees what is to be done
        await backlog.settle(tx, feed.id, [case.before, case.entry.path])
        groups = access.judge(case.entry.path, feed.config, case.sidecar)
        if groups not in acls:
            acls[groups] = await documents.acl_id(tx, groups)
        now, form = stamp(case.entry, feed.rules), stands.stamp.rpartition("|")[2]
        if case.sidecar.problem:
            await complain(tx, feed, case.entry, case.sidecar)
        elif access.form(case.entry.path, feed.config, case.sidecar) != form or _named_after(case, stands.title):
            again.append((case.entry.path, now, case.entry.changed_at))
            form = _ANEW
        changes.append((case.document_id, case.entry.path, f"{now}|{form}", acls[groups]))
        if stands.acl_id != acls[groups]:
            moved[acls[groups]].append(case.document_id)
    await documents.place(tx, changes)
    if moved:
        for generation in await indexes.generations(tx, feed.index, "live", "building", "ready", "retired"):
            for acl, ids in moved.items():
                await tools.store.set_acl(tx, generation, ids, acl)
    await backlog.note(tx, feed.id, "write", again)
    return [path for path, _, _ in again]


def _named_after(case: _Case, title: str) -> bool:
    """Whether the document was called after its file, which is called something else now."""
    before, now = (one_line(PurePosixPath(path).stem) for path in (case.before, case.entry.path))
    return before != now and title == before
