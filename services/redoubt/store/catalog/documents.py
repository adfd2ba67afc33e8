"""Documents and their versions, as the ingest worker reads and writes them inside its transactions."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg import AsyncConnection

from redoubt.model import ParsedDocument, Section, Span

FIRST = UUID(int=0)  # before every id


@dataclass(frozen=True, slots=True)
class Version:
    """A new version of a document, about to become searchable."""

    source_id: UUID
    path: str
    content_hash: bytes  # SHA-256 of the file
    size: int  # bytes
    stamp: str
    parsed: ParsedDocument
    config: str
    acl_id: int | None
    as_of: datetime
    changed_at: datetime


async def acl_id(tx: AsyncConnection[Any], groups: Sequence[str] | None) -> int | None:
    """The interned id of a set of groups; None for nobody."""
    if not groups:
        return None
    value = sorted(set(groups))
    found = await (await tx.execute("SELECT id FROM acl WHERE groups = %s", (value,))).fetchone()
    if found is None:
        found = await (
            await tx.execute(
                "INSERT INTO acl (groups) VALUES (%s) ON CONFLICT (groups) DO UPDATE SET groups = excluded.groups RETURNING id",
                (value,),
            )
        ).fetchone()
    assert found is not None
    return int(found[0])


# "0" is the character after "/": what lies below a folder is a range of the index on (source, path).
BELOW = "path > top || '/' AND path < top || '0'"
_KNOWN_UNDER = f"""
SELECT DISTINCT d.* FROM unnest(%(under)s::text[]) AS top, LATERAL (
    SELECT id, path, stamp, content_hash, size FROM document
    WHERE source_id = %(source)s AND deleted_at IS NULL AND path = top
    UNION ALL
    SELECT id, path, stamp, content_hash, size FROM document
    WHERE source_id = %(source)s AND deleted_at IS NULL AND {BELOW}
) d
"""  # noqa: S608


async def known(
    connection: AsyncConnection[Any], source_id: UUID, under: Iterable[str] | None = None
) -> list[tuple[UUID, str, str, bytes, int]]:
    """(id, path, stamp, content hash, size) of a source's documents, or of those at or below the given paths."""
    if under is not None:
        found = await connection.execute(_KNOWN_UNDER.encode(), {"source": source_id, "under": list(under)})
    else:
        found = await connection.execute(
            "SELECT id, path, stamp, content_hash, size FROM document WHERE source_id = %s AND deleted_at IS NULL",
            (source_id,),
        )
    return await found.fetchall()


async def at(tx: AsyncConnection[Any], source_id: UUID, path: str) -> tuple[UUID, int, bytes, str] | None:
    """(id, version, content hash, stamp) of the document at a path, locked until the transaction ends."""
    found = await tx.execute(
        "SELECT id, version, content_hash, stamp FROM document WHERE source_id = %s AND path = %s AND deleted_at IS NULL"
        " FOR UPDATE",
        (source_id, path),
    )
    return await found.fetchone()


async def put(tx: AsyncConnection[Any], version: Version) -> tuple[UUID, int]:
    """Record a version as the current one; the text of the one before goes. Returns (document id, number)."""
    before = await at(tx, version.source_id, version.path)
    document_id, number = (before[0], before[1] + 1) if before else (uuid4(), 1)
    values = {
        "id": document_id, "source": version.source_id, "path": version.path, "number": number,
        "hash": version.content_hash, "size": version.size, "stamp": version.stamp, "title": version.parsed.title,
        "config": version.config, "acl": version.acl_id, "as_of": version.as_of, "changed": version.changed_at,
        "text": version.parsed.text, "sections": json.dumps(_sections(version.parsed.sections)),
    }  # fmt: skip
    if before:
        await end_version(tx, document_id, before[1])
        await tx.execute(
            "UPDATE document SET version = %(number)s, content_hash = %(hash)s, size = %(size)s, stamp = %(stamp)s,"
            " title = %(title)s, config = %(config)s, acl_id = %(acl)s, as_of = %(as_of)s, changed_at = %(changed)s,"
            " searchable_at = clock_timestamp() WHERE id = %(id)s",
            values,
        )
    else:
        await tx.execute(
            "INSERT INTO document (id, source_id, path, version, content_hash, size, stamp, title, config, acl_id, as_of,"
            " changed_at, searchable_at) VALUES (%(id)s, %(source)s, %(path)s, %(number)s, %(hash)s, %(size)s, %(stamp)s,"
            " %(title)s, %(config)s, %(acl)s, %(as_of)s, %(changed)s, clock_timestamp())",
            values,
        )
    await tx.execute(
        "INSERT INTO document_version (document_id, number, content_hash, text, sections, as_of, changed_at, searchable_at)"
        " VALUES (%(id)s, %(number)s, %(hash)s, %(text)s, %(sections)s, %(as_of)s, %(changed)s, clock_timestamp())",
        values,
    )
    return document_id, number


async def end_version(tx: AsyncConnection[Any], document_id: UUID, number: int) -> None:
    """A version's text goes; its hash, times and number stay for the audit."""
    await tx.execute(
        "UPDATE document_version SET text = NULL, sections = NULL, ended_at = now() WHERE document_id = %s AND number = %s"
        " AND ended_at IS NULL",
        (document_id, number),
    )


async def delete(tx: AsyncConnection[Any], document_ids: Sequence[UUID]) -> None:
    """Mark documents as deleted and take their text."""
    ids = list(document_ids)
    await tx.execute(
        "UPDATE document_version SET text = NULL, sections = NULL, ended_at = coalesce(ended_at, now())"
        " WHERE document_id = ANY (%s) AND ended_at IS NULL",
        (ids,),
    )
    await tx.execute("UPDATE document SET deleted_at = now() WHERE id = ANY (%s) AND deleted_at IS NULL", (ids,))
    await tx.execute("DELETE FROM indexed WHERE document_id = ANY (%s)", (ids,))


@dataclass(frozen=True, slots=True)
class Standing:
    """What may have to change about a document whose content did not."""

    acl_id: int | None
    stamp: str
    title: str
    content_hash: bytes


async def standing(tx: AsyncConnection[Any], document_ids: Sequence[UUID]) -> dict[UUID, Standing]:
    """Those of the documents that are still there, locked until the transaction ends."""
    found = await tx.execute(
        "SELECT id, acl_id, stamp, title, content_hash FROM document WHERE id = ANY (%s) AND deleted_at IS NULL ORDER BY id FOR UPDATE",
        (list(document_ids),),
    )
    return {row[0]: Standing(*row[1:]) for row in await found.fetchall()}


async def current(tx: AsyncConnection[Any], document_id: UUID, version: int) -> Standing | None:
    """The document, locked until the transaction ends, if this is still its current version."""
    row = await (
        await tx.execute(
            "SELECT acl_id, stamp, title, content_hash FROM document"
            " WHERE id = %s AND version = %s AND deleted_at IS NULL FOR UPDATE",
            (document_id, version),
        )
    ).fetchone()
    return None if row is None else Standing(*row)


async def place(tx: AsyncConnection[Any], changes: Sequence[tuple[UUID, str, str, int | None]]) -> None:
    """Give documents their (path, stamp, ACL), one after the other: a path may be one that the one before left."""
    async with tx.cursor() as cursor:
        await cursor.executemany(
            "UPDATE document SET path = %s, stamp = %s, acl_id = %s WHERE id = %s",
            [(path, stamp, acl, id_) for id_, path, stamp, acl in changes],
        )


async def mark_indexed(
    tx: AsyncConnection[Any], generation_id: UUID, document_id: UUID, version: int, chunks: int, confirmed: bool
) -> None:
    """Record which version of a document a generation holds."""
    await tx.execute(
        "INSERT INTO indexed (generation_id, document_id, version, chunks, confirmed_at)"
        " VALUES (%s, %s, %s, %s, CASE WHEN %s THEN now() END)"
        " ON CONFLICT (generation_id, document_id) DO UPDATE SET version = excluded.version, chunks = excluded.chunks,"
        " confirmed_at = excluded.confirmed_at",
        (generation_id, document_id, version, chunks, confirmed),
    )


@dataclass(frozen=True, slots=True)
class Stored:
    """A current version as it lies in the catalogue, for a generation that is being built."""

    id: UUID
    version: int
    title: str
    config: str
    acl_id: int | None
    parsed: ParsedDocument


async def missing_from(
    connection: AsyncConnection[Any], generation_id: UUID, limit: int, after: UUID = FIRST
) -> list[Stored]:
    """Documents that a generation does not hold in their current version, by id, those after the given one."""
    rows = await (
        await connection.execute(
            """
            SELECT d.id, d.version, d.title, d.config, d.acl_id, v.text, v.sections
            FROM generation g JOIN source s ON s.index_id = g.index_id AND s.removed_at IS NULL
            JOIN document d ON d.source_id = s.id AND d.deleted_at IS NULL
            JOIN document_version v ON v.document_id = d.id AND v.number = d.version AND v.text IS NOT NULL
            WHERE g.id = %(generation)s AND d.id > %(after)s AND NOT EXISTS (
                SELECT FROM indexed n WHERE n.generation_id = g.id AND n.document_id = d.id AND n.version = d.version)
            ORDER BY d.id LIMIT %(limit)s
            """,
            {"generation": generation_id, "limit": limit, "after": after},
        )
    ).fetchall()
    return [
        Stored(row[0], row[1], row[2], row[3], row[4], ParsedDocument(row[5], row[2], _restore(row[6]), None, None))
        for row in rows
    ]


def _sections(sections: Sequence[Section]) -> list[list[Any]]:
    return [[s.span.start, s.span.end, list(s.heading), s.page, s.kind] for s in sections]


def _restore(stored: list[list[Any]]) -> tuple[Section, ...]:
    return tuple(Section(Span(a, b), tuple(heading), page, kind) for a, b, heading, page, kind in stored)
