"""What a principal may see of the catalogue; every statement here is filtered by the principal's groups.

A document is readable if its ACL shares a group with the principal, and it is neither deleted nor in a
removed source. What does not exist and what may not be seen give the same answer: nothing.
"""
# ruff: noqa: S608 (the statements are composed of this module's own constants)

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

from redoubt.model import Citation, Generation, Principal, SearchedSource

_READABLE = "d.acl_id = ANY (ARRAY(SELECT a.id FROM acl a WHERE a.groups && %(groups)s::text[]))"

_INDEX = f"""
SELECT i.name AS index, g.id, g.number, g.backend, g.embedder, g.embedder_digest, g.dimensions, g.max_tokens,
       t.alpha, t.threshold
FROM index i
JOIN generation g ON g.id = i.live_generation_id
LEFT JOIN LATERAL (SELECT alpha, threshold FROM index_tuning WHERE index_id = i.id ORDER BY version DESC LIMIT 1) t
    ON true
WHERE i.name = %(index)s AND (i.name = %(open)s OR EXISTS (
    SELECT FROM document d JOIN source s ON s.id = d.source_id
    WHERE s.index_id = i.id AND s.removed_at IS NULL AND d.deleted_at IS NULL AND {_READABLE}))
"""

_INDEXES = f"""
SELECT i.name, i.created_at FROM index i
WHERE i.live_generation_id IS NOT NULL AND (i.name = %(open)s OR EXISTS (
    SELECT FROM document d JOIN source s ON s.id = d.source_id
    WHERE s.index_id = i.id AND s.removed_at IS NULL AND d.deleted_at IS NULL AND {_READABLE}))
ORDER BY i.name
"""

_CURRENT = f"""
SELECT d.id AS document_id, d.version, s.name AS source, d.path, d.title, d.as_of, d.searchable_at
FROM document d
JOIN source s ON s.id = d.source_id
WHERE d.id = ANY (%(ids)s) AND d.deleted_at IS NULL AND s.removed_at IS NULL AND {_READABLE}
"""

_SEARCHED = f"""
SELECT s.name, count(*)::int AS documents, max(d.as_of) AS newest_as_of, s.last_success_at
FROM source s
JOIN index i ON i.id = s.index_id
JOIN document d ON d.source_id = s.id
WHERE i.name = %(index)s AND s.removed_at IS NULL AND d.deleted_at IS NULL AND {_READABLE}
GROUP BY s.id ORDER BY s.name
"""

_VERSION = f"""
SELECT d.id AS document_id, v.number AS version, s.name AS source, d.path, d.title,
       CASE WHEN v.ended_at IS NULL AND d.deleted_at IS NULL AND s.removed_at IS NULL THEN v.text END AS text,
       v.content_hash, v.as_of, v.changed_at, v.searchable_at, v.ended_at
FROM document d
JOIN source s ON s.id = d.source_id
JOIN document_version v ON v.document_id = d.id AND v.number = %(version)s
WHERE d.id = %(id)s AND {_READABLE}
"""

_STANDS = f"""
SELECT c.number
FROM unnest(%(numbers)s::int[], %(ids)s::uuid[], %(versions)s::int[], %(starts)s::int[], %(quotes)s::text[])
    AS c (number, id, version, start, quote)
JOIN document d ON d.id = c.id AND d.version = c.version AND d.deleted_at IS NULL AND {_READABLE}
JOIN source s ON s.id = d.source_id AND s.removed_at IS NULL
JOIN document_version v ON v.document_id = c.id AND v.number = c.version
WHERE substr(v.text, c.start + 1, length(c.quote)) = c.quote
"""


@dataclass(frozen=True, slots=True)
class Live:
    """The generation that an index's name means now, and how it is tuned."""

    generation: Generation
    alpha: float | None  # weight of the dense leg, [0, 1]; None: never tuned
    threshold: float | None  # confidence below which a question is refused, [0, 1]; None: never tuned


@dataclass(frozen=True, slots=True)
class Current:
    """What a citation says of a document, as the catalogue knows it at this moment."""

    document_id: UUID
    version: int
    source: str
    path: str
    title: str
    as_of: datetime
    searchable_at: datetime


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a document; its text goes when it is superseded or deleted, the rest stays."""

    document_id: UUID
    version: int
    source: str
    path: str
    title: str
    text: str | None
    content_hash: bytes
    as_of: datetime
    changed_at: datetime
    searchable_at: datetime
    ended_at: datetime | None


def _groups(principal: Principal) -> list[str]:
    return sorted(principal.groups)


async def live(connection: AsyncConnection[Any], principal: Principal, index: str, default: str) -> Live | None:
    """The index's live generation; None: no such index, or nothing in it that the principal may read.

    `default` is the site's own index: its name is no secret, so it may be asked even where it would say nothing.
    """
    parameters = {"index": index, "open": default, "groups": _groups(principal)}
    row = await (await connection.execute(_INDEX, parameters)).fetchone()
    if row is None:
        return None
    name, id_, number, backend, embedder, digest, dimensions, max_tokens, alpha, threshold = row
    return Live(
        Generation(
            id=id_,
            index=name,
            number=number,
            backend=backend,
            embedder=embedder,
            embedder_digest=digest,
            dimensions=dimensions,
            max_tokens=max_tokens,
        ),
        alpha,
        threshold,
    )


async def indexes(connection: AsyncConnection[Any], principal: Principal, default: str) -> list[tuple[str, datetime]]:
    """(name, created at) of the indexes that the principal may ask."""
    found = await connection.execute(_INDEXES, {"open": default, "groups": _groups(principal)})
    return [(row[0], row[1]) for row in await found.fetchall()]


async def current(connection: AsyncConnection[Any], principal: Principal, ids: Sequence[UUID]) -> dict[UUID, Current]:
    """Those of the documents that exist and may be read at this moment, with their current version."""
    async with connection.cursor(row_factory=class_row(Current)) as cursor:
        await cursor.execute(_CURRENT, {"ids": list(ids), "groups": _groups(principal)})
        return {row.document_id: row for row in await cursor.fetchall()}


async def searched(connection: AsyncConnection[Any], principal: Principal, index: str) -> list[SearchedSource]:
    """The index's sources with a document that the principal may read, counting only those."""
    async with connection.cursor(row_factory=class_row(SearchedSource)) as cursor:
        await cursor.execute(_SEARCHED, {"index": index, "groups": _groups(principal)})
        return await cursor.fetchall()


async def standing(connection: AsyncConnection[Any], principal: Principal, citations: Sequence[Citation]) -> set[int]:
    """The numbers of those citations whose quote stands, at this moment, in a text that the principal may read."""
    parameters = {
        "numbers": [citation.number for citation in citations],
        "ids": [citation.document_id for citation in citations],
        "versions": [citation.version for citation in citations],
        "starts": [citation.span.start for citation in citations],
        "quotes": [citation.quote for citation in citations],
        "groups": _groups(principal),
    }
    return {row[0] for row in await (await connection.execute(_STANDS, parameters)).fetchall()}


async def version(connection: AsyncConnection[Any], principal: Principal, id_: UUID, number: int) -> Version | None:
    """A version of a document that the principal may read; None: there is none, or it may not be read."""
    async with connection.cursor(row_factory=class_row(Version)) as cursor:
        await cursor.execute(_VERSION, {"id": id_, "version": number, "groups": _groups(principal)})
        return await cursor.fetchone()
