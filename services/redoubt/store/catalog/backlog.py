"""The backlog: one row a changed path, gone in the transaction that makes the change searchable."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row


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


async def of_source(connection: AsyncConnection[Any], source_id: UUID) -> list[Pending]:
    """A source's whole backlog."""
    async with connection.cursor(row_factory=class_row(Pending)) as cursor:
        await cursor.execute(
            "SELECT path, kind, stamp, changed_at, attempts, state, reason FROM pending WHERE source_id = %s",
            (source_id,),
        )
        return await cursor.fetchall()


async def queued(connection: AsyncConnection[Any], source_id: UUID, paths: Sequence[str]) -> list[Pending]:
    """Those of the paths that still wait to be written."""
    async with connection.cursor(row_factory=class_row(Pending)) as cursor:
        await cursor.execute(
            "SELECT path, kind, stamp, changed_at, attempts, state, reason FROM pending"
            " WHERE source_id = %s AND path = ANY (%s) AND state = 'queued' AND kind = 'write'",
            (source_id, list(paths)),
        )
        return await cursor.fetchall()


async def settle(tx: AsyncConnection[Any], source_id: UUID, path: str, stamp: str | None) -> None:
    """Take a change out of the backlog, unless a newer one took its place; `stamp` None: whatever it is."""
    await tx.execute(
        "DELETE FROM pending WHERE source_id = %s AND path = %s AND (%s::text IS NULL OR stamp = %s)",
        (source_id, path, stamp, stamp),
    )


async def park(tx: AsyncConnection[Any], source_id: UUID, path: str, stamp: str, reason: str, detail: str) -> None:
    """Set a change aside with its reason; it is tried again when the file changes."""
    await tx.execute(
        "UPDATE pending SET state = 'failed', reason = %s, detail = %s, attempts = attempts + 1, state_at = now()"
        " WHERE source_id = %s AND path = %s AND stamp = %s",
        (reason, detail, source_id, path, stamp),
    )


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
