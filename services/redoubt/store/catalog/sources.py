"""Sources: where documents come from, and how each one fares."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.errors import CheckViolation
from psycopg.rows import class_row

from redoubt.errors import Conflict, InputError, NotFound

CHANNEL = "redoubt_source"  # notified when sources come, change or go


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source as it was configured."""

    id: UUID
    name: str
    kind: str
    config: dict[str, Any]
    index: str
    objective_seconds: float
    created_at: datetime
    scan_started_at: datetime | None
    last_success_at: datetime | None
    last_error: str | None
    removed_at: datetime | None


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How a source fares: one row of `redoubt index status`."""

    source: str
    index: str
    documents: int
    chunks: int
    queued: int
    deleting: int
    failed: int
    without_acl: int
    objective_seconds: float
    scanned: bool  # a whole scan has gone through since the source came or changed
    last_success_at: datetime | None
    newest_searchable_at: datetime | None
    oldest_pending_at: datetime | None
    last_error: str | None
    freshness_p50_s: float | None  # of the documents that became searchable during the last day
    freshness_p95_s: float | None


_SELECT = """
SELECT s.id, s.name, s.kind, s.config, i.name AS index, s.objective_seconds, s.created_at, s.scan_started_at,
       s.last_success_at, s.last_error, s.removed_at
FROM source s JOIN index i ON i.id = s.index_id
"""


async def listing(connection: AsyncConnection[Any], *, removed: bool = False) -> list[SourceRow]:
    """All sources, by name; those being removed only if asked for."""
    async with connection.cursor(row_factory=class_row(SourceRow)) as cursor:
        await cursor.execute(_SELECT + ("" if removed else " WHERE s.removed_at IS NULL") + " ORDER BY s.name")
        return await cursor.fetchall()


async def add(
    tx: AsyncConnection[Any], name: str, config: dict[str, Any], index: str, objective_seconds: float = 60.0
) -> bool:
    """Add a source, or give it the configuration; False if it stands like that already."""
    index_row = await (await tx.execute("SELECT id FROM index WHERE name = %s", (index,))).fetchone()
    if index_row is None:
        raise NotFound(f"there is no index {index!r}", fix=f"make it with `redoubt index create {index}`")
    existing = await (
        await tx.execute(
            "SELECT config, index_id, removed_at, objective_seconds FROM source WHERE name = %s FOR UPDATE", (name,)
        )
    ).fetchone()
    values = {"name": name, "config": json.dumps(config), "index": index_row[0], "objective": objective_seconds}
    if existing is None:
        try:
            await tx.execute(
                "INSERT INTO source (name, kind, config, index_id, objective_seconds)"
                " VALUES (%(name)s, 'folder', %(config)s, %(index)s, %(objective)s)",
                values,
            )
        except CheckViolation as error:
            raise InputError(
                f"{name!r} is no name for a source",
                why="letters, digits, '.', '_' and '-', at most 63",
                fix="give one with --name",
            ) from error
    elif existing[2] is not None:
        raise Conflict(
            f"source {name!r} is being removed",
            why="its documents are still being taken out",
            fix="try again in a moment",
        )
    elif existing[1] != index_row[0]:
        raise Conflict(f"source {name!r} feeds another index", fix="remove it there first, or choose another name")
    elif existing[0] == config and existing[3] == objective_seconds:
        return False
    else:
        if existing[0].get("root") != config.get("root"):
            raise Conflict(
                f"source {name!r} is the folder {existing[0].get('root')}",
                why="a source keeps its folder, so that its documents keep their identity",
                fix="choose another name with --name, or remove that source first",
            )
        await tx.execute(
            "UPDATE source SET config = %(config)s, objective_seconds = %(objective)s, last_success_at = NULL WHERE name = %(name)s",
            values,
        )
    await tx.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
    return True


async def remove(tx: AsyncConnection[Any], name: str) -> None:
    """Hide a source's documents at once; the worker then takes them out."""
    row = await (
        await tx.execute(
            "UPDATE source SET removed_at = now() WHERE name = %s AND removed_at IS NULL RETURNING id", (name,)
        )
    ).fetchone()
    if row is None:
        raise NotFound(f"there is no source {name!r}", fix="see `redoubt source list`")
    await tx.execute("SELECT pg_notify(%s, '')", (CHANNEL,))


async def get(connection: AsyncConnection[Any], source_id: UUID) -> SourceRow | None:
    """A source that is not being removed."""
    async with connection.cursor(row_factory=class_row(SourceRow)) as cursor:
        await cursor.execute(_SELECT + " WHERE s.id = %s AND s.removed_at IS NULL", (source_id,))
        return await cursor.fetchone()


async def scanned(tx: AsyncConnection[Any], source_id: UUID, *, whole: bool, problem: str | None) -> None:
    """Note a scan's end: whether it saw everything through, and what stood in its way."""
    await tx.execute(
        "UPDATE source SET scan_started_at = now(), last_error = %s,"
        " last_success_at = CASE WHEN %s THEN clock_timestamp() ELSE last_success_at END WHERE id = %s",
        (problem, whole, source_id),
    )


async def complain(tx: AsyncConnection[Any], source_id: UUID, problem: str) -> None:
    """Show what stands in a source's way, until its next scan says otherwise."""
    await tx.execute("UPDATE source SET last_error = %s WHERE id = %s", (problem, source_id))


async def status(connection: AsyncConnection[Any], index: str | None = None) -> list[SourceStatus]:
    """How each source fares."""
    async with connection.cursor(row_factory=class_row(SourceStatus)) as cursor:
        await cursor.execute(
            """
            SELECT s.name AS source, i.name AS index, d.documents, coalesce(c.chunks, 0)::int AS chunks, p.queued, p.deleting,
                   p.failed, d.without_acl, s.objective_seconds, s.last_success_at IS NOT NULL AS scanned, s.last_success_at,
                   d.newest AS newest_searchable_at, p.oldest AS oldest_pending_at, s.last_error, f.p50 AS freshness_p50_s,
                   f.p95 AS freshness_p95_s
            FROM source s
            JOIN index i ON i.id = s.index_id
            CROSS JOIN LATERAL (
                SELECT count(*)::int AS documents, count(*) FILTER (WHERE acl_id IS NULL)::int AS without_acl,
                       max(searchable_at) AS newest
                FROM document WHERE source_id = s.id AND deleted_at IS NULL
            ) d
            CROSS JOIN LATERAL (
                SELECT count(*) FILTER (WHERE state = 'queued' AND kind = 'write')::int AS queued,
                       count(*) FILTER (WHERE state = 'queued' AND kind = 'delete')::int AS deleting,
                       count(*) FILTER (WHERE state = 'failed')::int AS failed,
                       min(greatest(changed_at, s.created_at)) FILTER (WHERE state = 'queued') AS oldest
                FROM pending WHERE source_id = s.id
            ) p
            LEFT JOIN LATERAL (
                SELECT sum(n.chunks) AS chunks FROM indexed n JOIN document d ON d.id = n.document_id
                WHERE d.source_id = s.id AND d.deleted_at IS NULL AND n.generation_id = i.live_generation_id
            ) c ON true
            LEFT JOIN LATERAL (
                SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY lag) AS p50, percentile_cont(0.95) WITHIN GROUP (ORDER BY lag) AS p95
                FROM (
                    SELECT extract(epoch FROM v.searchable_at - greatest(v.changed_at, s.created_at)) AS lag
                    FROM document_version v JOIN document d ON d.id = v.document_id
                    WHERE d.source_id = s.id AND v.searchable_at > now() - interval '1 day'
                ) lags
            ) f ON true
            WHERE s.removed_at IS NULL AND (%(index)s::text IS NULL OR i.name = %(index)s)
            ORDER BY s.name
            """,
            {"index": index},
        )
        return await cursor.fetchall()
