"""The backlog: one row a changed path, gone in the transaction that makes the change searchable."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

from redoubt.store.catalog import documents

_PENDING = "path, kind, stamp, changed_at, attempts, state, reason"


@dataclass(frozen=True, slots=True)
class Pending:
    """A change that is not searchable yet."""

    path: str
    kind: str  # "write" or "delete"
    stamp: str
    changed_at: datetime
    attempts: int
    state: str  # "queued" or "failed"
    reason: str | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A parked document: one row of `redoubt index failures`."""

    source: str
    path: str
    reason: str
    detail: str
    attempts: int
    parked_at: datetime


async def note(
    tx: AsyncConnection[Any], source_id: UUID, kind: str, changes: Iterable[tuple[str, str, datetime]]
) -> list[str]:
    """Put (path, stamp, changed at) into the backlog; returns the paths that were not waiting like that already."""
    values = list(changes)
    rows = await (
        await tx.execute(
            """
            INSERT INTO pending AS p (source_id, path, kind, stamp, changed_at)
            SELECT %s, c.path, %s, c.stamp, c.changed_at
            FROM unnest(%s::text[], %s::text[], %s::timestamptz[]) AS c (path, stamp, changed_at)
            ON CONFLICT (source_id, path) DO UPDATE
            SET kind = excluded.kind, stamp = excluded.stamp, changed_at = excluded.changed_at, detected_at = now(),
                attempts = 0, state = 'queued', reason = NULL, detail = NULL, state_at = now()
            WHERE (p.kind, p.stamp) IS DISTINCT FROM (excluded.kind, excluded.stamp) OR p.state = 'failed'
            RETURNING p.path
            """,
            (source_id, kind, [v[0] for v in values], [v[1] for v in values], [v[2] for v in values]),
        )
    ).fetchall()
    return [row[0] for row in rows]


async def of_source(
    connection: AsyncConnection[Any], source_id: UUID, under: Iterable[str] | None = None
) -> list[Pending]:
    """A source's whole backlog, or what of it lies at or below the given paths."""
    condition = (
        ""
        if under is None
        else f" AND EXISTS (SELECT FROM unnest(%(under)s::text[]) AS top WHERE path = top OR {documents.BELOW})"
    )
    async with connection.cursor(row_factory=class_row(Pending)) as cursor:
        await cursor.execute(
            f"SELECT {_PENDING} FROM pending WHERE source_id = %(source)s{condition}".encode(),  # noqa: S608
            {"source": source_id, "under": None if under is None else list(under)},
        )
        return await cursor.fetchall()


async def queued(connection: AsyncConnection[Any], source_id: UUID, paths: Sequence[str]) -> list[Pending]:
    """Those of the paths that still wait to be written."""
    async with connection.cursor(row_factory=class_row(Pending)) as cursor:
        await cursor.execute(
            f"SELECT {_PENDING} FROM pending"  # noqa: S608
            " WHERE source_id = %s AND path = ANY (%s) AND state = 'queued' AND kind = 'write' ORDER BY path",
            (source_id, list(paths)),
        )
        return await cursor.fetchall()


async def waits(tx: AsyncConnection[Any], source_id: UUID, path: str) -> bool:
    """Whether the path is still to be written; its row is locked until the transaction ends.

    If not, somebody else settled the change, or the document is to go: a write now would bring it back.
    """
    row = await (
        await tx.execute("SELECT kind FROM pending WHERE source_id = %s AND path = %s FOR UPDATE", (source_id, path))
    ).fetchone()
    return row is not None and row[0] == "write"


async def doomed(tx: AsyncConnection[Any], source_id: UUID, paths: Sequence[str]) -> list[str]:
    """Those of the paths whose documents are to go, locked until the transaction ends."""
    found = await tx.execute(
        "SELECT path FROM pending WHERE source_id = %s AND path = ANY (%s) AND kind = 'delete' ORDER BY path FOR UPDATE",
        (source_id, list(paths)),
    )
    return [row[0] for row in await found.fetchall()]


async def settle(
    tx: AsyncConnection[Any], source_id: UUID, paths: Sequence[str], stamps: Sequence[str] | None = None
) -> None:
    """Take changes out of the backlog; with `stamps`, only if no newer one than these took their place."""
    await tx.execute(
        "DELETE FROM pending WHERE source_id = %s AND path = ANY (%s) AND (%s::text[] IS NULL OR stamp = ANY (%s))",
        (source_id, list(paths), *[None if stamps is None else list(stamps)] * 2),
    )


async def gone(tx: AsyncConnection[Any], source_id: UUID, path: str, stamp: str) -> bool:
    """Turn a change into a deletion, unless a newer one took its place: what was to be read is not there."""
    found = await tx.execute(
        "UPDATE pending SET kind = 'delete', stamp = '', state_at = now() WHERE source_id = %s AND path = %s"
        " AND kind = 'write' AND stamp = %s",
        (source_id, path, stamp),
    )
    return found.rowcount > 0


async def park(
    tx: AsyncConnection[Any], source_id: UUID, path: str, stamps: tuple[str, str], reason: str, detail: str
) -> None:
    """Set a change aside with its reason, unless a newer one took its place; it is tried again when the file changes.

    `stamps`: the one that it was noted with, and the one that it was read with.
    """
    await tx.execute(
        "UPDATE pending SET state = 'failed', stamp = %s, reason = %s, detail = %s, attempts = attempts + 1,"
        " state_at = now() WHERE source_id = %s AND path = %s AND kind = 'write' AND stamp = ANY (%s)",
        (stamps[1], reason, detail, source_id, path, list(stamps)),
    )


async def complain(
    tx: AsyncConnection[Any], source_id: UUID, path: str, stamp: str, changed_at: datetime, reason: str, detail: str
) -> None:
    """List a document that is in, but not as it was meant."""
    await tx.execute(
        """
        INSERT INTO pending (source_id, path, kind, stamp, changed_at, state, reason, detail)
        VALUES (%s, %s, 'write', %s, %s, 'failed', %s, %s)
        ON CONFLICT (source_id, path) DO UPDATE SET kind = 'write', stamp = excluded.stamp, state = 'failed',
            reason = excluded.reason, detail = excluded.detail, state_at = now()
        """,
        (source_id, path, stamp, changed_at, reason, detail),
    )


async def overdue(tx: AsyncConnection[Any], source_id: UUID, seconds: float, limit: int) -> list[str]:
    """Changes that have waited long without a sign of work; each is named once in so many seconds."""
    found = await tx.execute(
        """
        UPDATE pending SET state_at = now() WHERE (source_id, path) IN (
            SELECT source_id, path FROM pending
            WHERE source_id = %s AND state = 'queued' AND kind = 'write'
              AND greatest(detected_at, state_at) < now() - make_interval(secs => %s)
            ORDER BY detected_at LIMIT %s FOR UPDATE SKIP LOCKED)
        RETURNING path
        """,
        (source_id, seconds, limit),
    )
    return [row[0] for row in await found.fetchall()]


async def attempt(tx: AsyncConnection[Any], source_id: UUID, path: str) -> int:
    """Count a try that failed for a reason that may pass; returns how many there were."""
    row = await (
        await tx.execute(
            "UPDATE pending SET attempts = attempts + 1, state_at = now() WHERE source_id = %s AND path = %s RETURNING attempts",
            (source_id, path),
        )
    ).fetchone()
    return int(row[0]) if row else 0


async def failures(connection: AsyncConnection[Any], index: str | None = None) -> list[Failure]:
    """What is parked, newest first."""
    async with connection.cursor(row_factory=class_row(Failure)) as cursor:
        await cursor.execute(
            "SELECT s.name AS source, p.path, coalesce(p.reason, '') AS reason, coalesce(p.detail, '') AS detail, p.attempts,"
            " p.state_at AS parked_at FROM pending p JOIN source s ON s.id = p.source_id JOIN index i ON i.id = s.index_id"
            " WHERE p.state = 'failed' AND s.removed_at IS NULL AND (%s::text IS NULL OR i.name = %s)"
            " ORDER BY p.state_at DESC, p.path",
            (index, index),
        )
        return await cursor.fetchall()
