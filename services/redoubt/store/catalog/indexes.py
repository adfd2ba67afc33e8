"""Indexes and their generations: made, tuned, swapped, taken back, dropped; each swap is a release."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.errors import CheckViolation
from psycopg.rows import class_row

from redoubt.errors import Conflict, InputError, NotFound
from redoubt.model import Generation
from redoubt.store.catalog import documents

DEFAULT_TUNING = (0.5, 0.5)  # α and the refusal threshold of an index before its own evaluation
_COLUMNS = "g.id, i.name AS index, g.number, g.backend, g.embedder, g.embedder_digest, g.dimensions, g.max_tokens"


@dataclass(frozen=True, slots=True)
class IndexRow:
    """An index with the numbers of its generations."""

    id: UUID
    name: str
    live: int | None
    previous: int | None
    building: int | None
    embedder: str | None
    alpha: float
    threshold: float
    created_at: datetime


async def listing(connection: AsyncConnection[Any]) -> list[IndexRow]:
    """All indexes, by name."""
    async with connection.cursor(row_factory=class_row(IndexRow)) as cursor:
        await cursor.execute(
            """
            SELECT i.id, i.name, live.number AS live, previous.number AS previous,
                   (SELECT max(number) FROM generation WHERE index_id = i.id AND state IN ('building', 'ready')) AS building,
                   live.embedder, coalesce(t.alpha, 0.5) AS alpha, coalesce(t.threshold, 0.5) AS threshold, i.created_at
            FROM index i
            LEFT JOIN generation live ON live.id = i.live_generation_id
            LEFT JOIN generation previous ON previous.id = i.previous_generation_id
            LEFT JOIN LATERAL (SELECT * FROM index_tuning WHERE index_id = i.id ORDER BY version DESC LIMIT 1) t ON true
            ORDER BY i.name
            """
        )
        return await cursor.fetchall()


async def id_of(connection: AsyncConnection[Any], name: str) -> UUID:
    """The index's id."""
    row = await (await connection.execute("SELECT id FROM index WHERE name = %s", (name,))).fetchone()
    if row is None:
        raise NotFound(
            f"there is no index {name!r}", fix="see `redoubt index status`, or make it with `redoubt index create`"
        )
    return UUID(str(row[0]))


async def lock(tx: AsyncConnection[Any], name: str) -> UUID:
    """The index's id; who changes its generations does so alone until the transaction ends."""
    index_id = await id_of(tx, name)
    await tx.execute("SELECT 1 FROM index WHERE id = %s FOR UPDATE", (index_id,))
    return index_id


async def create(
    tx: AsyncConnection[Any], name: str, alpha: float, threshold: float, *, missing_ok: bool = False
) -> UUID | None:
    """A new index without a generation; None if it exists and that is fine."""
    try:
        async with tx.transaction():
            row = await (
                await tx.execute(
                    "INSERT INTO index (name) VALUES (%s) ON CONFLICT (name) DO NOTHING RETURNING id", (name,)
                )
            ).fetchone()
    except CheckViolation as error:
        raise InputError(
            f"{name!r} is no name for an index",
            why="a-z, 0-9, - and _ only, at most 63 characters",
            fix="choose another",
        ) from error
    if row is None:
        if missing_ok:
            return None
        raise Conflict(f"there is an index {name!r} already", fix="choose another name, or drop that one")
    await tx.execute(
        "INSERT INTO index_tuning (index_id, version, alpha, threshold, reason) VALUES (%s, 1, %s, %s, 'shipped defaults')",
        (row[0], alpha, threshold),
    )
    return UUID(str(row[0]))


async def add_generation(
    tx: AsyncConnection[Any], index: str, *, backend: str, embedder: str, digest: str, dimensions: int, max_tokens: int
) -> Generation:
    """The next generation of an index, to be built."""
    index_id = await lock(tx, index)
    building = await (
        await tx.execute(
            "SELECT number FROM generation WHERE index_id = %s AND state IN ('building', 'ready')", (index_id,)
        )
    ).fetchone()
    if building is not None:
        raise Conflict(
            f"index {index!r} has generation {building[0]} in the making",
            fix=f"wait for it, `redoubt index swap {index}` when it is ready, or `redoubt index drop {index} --generation {building[0]}`",
        )
    row = await (
        await tx.execute(
            """
            INSERT INTO generation (id, index_id, number, backend, embedder, embedder_digest, dimensions, max_tokens, state)
            SELECT %s, %s, coalesce(max(number), 0) + 1, %s, %s, %s, %s, %s, 'building' FROM generation WHERE index_id = %s
            RETURNING id, number
            """,
            (uuid4(), index_id, backend, embedder, digest, dimensions, max_tokens, index_id),
        )
    ).fetchone()
    assert row is not None
    return Generation(row[0], index, row[1], backend, embedder, digest, dimensions, max_tokens)  # type: ignore[arg-type]


async def generations(connection: AsyncConnection[Any], index: str, *states: str) -> list[Generation]:
    """An index's generations in the given states, oldest first."""
    async with connection.cursor(row_factory=class_row(Generation)) as cursor:
        await cursor.execute(
            f"SELECT {_COLUMNS} FROM generation g JOIN index i ON i.id = g.index_id"  # noqa: S608
            " WHERE i.name = %s AND g.state = ANY (%s) ORDER BY g.number",
            (index, list(states)),
        )
        return await cursor.fetchall()


async def live(connection: AsyncConnection[Any], index: str) -> Generation | None:
    """The generation that the name means."""
    async with connection.cursor(row_factory=class_row(Generation)) as cursor:
        await cursor.execute(
            f"SELECT {_COLUMNS} FROM index i JOIN generation g ON g.id = i.live_generation_id WHERE i.name = %s",  # noqa: S608
            (index,),
        )
        return await cursor.fetchone()


async def released(connection: AsyncConnection[Any], index_id: UUID) -> int:
    """The number of the release that made the live generation live; 0 if there is none."""
    row = await (
        await connection.execute("SELECT coalesce(max(id), 0) FROM release WHERE index_id = %s", (index_id,))
    ).fetchone()
    return int(row[0]) if row else 0


async def set_state(tx: AsyncConnection[Any], generation_id: UUID, state: str) -> None:
    """Record where a generation stands."""
    await tx.execute("UPDATE generation SET state = %s, state_at = now() WHERE id = %s", (state, generation_id))


async def swap(tx: AsyncConnection[Any], index: str, actor: str, *, kind: str = "swap") -> Generation:
    """Make the ready generation the live one; the one before stays for rollback. Returns the new live one."""
    index_id = await lock(tx, index)
    if kind == "rollback":
        row = await (
            await tx.execute(
                "SELECT previous_generation_id FROM index WHERE id = %s AND previous_generation_id IS NOT NULL",
                (index_id,),
            )
        ).fetchone()
        lacking = Conflict(
            f"index {index!r} has no generation to go back to", why="nothing was swapped, or the old one was dropped"
        )
    else:
        row = await (
            await tx.execute(
                "SELECT id FROM generation WHERE index_id = %s AND state = 'ready' ORDER BY number DESC LIMIT 1",
                (index_id,),
            )
        ).fetchone()
        lacking = Conflict(
            f"index {index!r} has no generation that is ready",
            why="one that is building becomes ready when it holds every document",
            fix=f"see `redoubt index status`; start one with `redoubt index reindex {index}`",
        )
    if row is None:
        raise lacking
    if kind == "swap" and await documents.missing_from(tx, row[0], 1):
        raise Conflict(
            f"the new generation of index {index!r} lacks documents that came since it was built",
            why="they are added while its embedder runs",
            fix="try again in a moment, with the embedder running that it was built with",
        )
    await tx.execute(
        """
        UPDATE generation SET state = CASE WHEN id = %(new)s THEN 'live' ELSE 'retired' END, state_at = now()
        WHERE id = %(new)s OR id = (SELECT live_generation_id FROM index WHERE id = %(index)s)
        """,
        {"new": row[0], "index": index_id},
    )
    await tx.execute(
        "UPDATE index SET previous_generation_id = nullif(live_generation_id, %(new)s), live_generation_id = %(new)s WHERE id = %(index)s",
        {"new": row[0], "index": index_id},
    )
    await tx.execute(
        """
        INSERT INTO release (index_id, generation_id, tuning, kind, actor)
        SELECT %(index)s, %(new)s, coalesce(max(version), 0), %(kind)s, %(actor)s FROM index_tuning WHERE index_id = %(index)s
        """,
        {"index": index_id, "new": row[0], "kind": kind, "actor": actor},
    )
    now = await live(tx, index)
    assert now is not None
    return now


async def drop(tx: AsyncConnection[Any], index: str, number: int | None) -> list[Generation]:
    """Take an index, or one generation of it, out of the catalogue; returns what the store has to drop."""
    index_id = await lock(tx, index)
    every = await generations(tx, index, "building", "ready", "live", "retired")
    if number is not None:
        chosen = [generation for generation in every if generation.number == number]
        if not chosen:
            raise NotFound(f"index {index!r} has no generation {number}", fix="see `redoubt index status`")
        now = await live(tx, index)
        if now is not None and now.number == number:
            raise Conflict(
                f"generation {number} of index {index!r} is the live one",
                fix=f"`redoubt index swap {index}` or `rollback` first",
            )
        ids = [generation.id for generation in chosen]
        await tx.execute(
            "UPDATE index SET previous_generation_id = NULL WHERE previous_generation_id = ANY (%s)", (ids,)
        )
        await tx.execute("DELETE FROM indexed WHERE generation_id = ANY (%s)", (ids,))
        await tx.execute("UPDATE generation SET state = 'dropped', state_at = now() WHERE id = ANY (%s)", (ids,))
        return chosen
    fed = await (
        await tx.execute("SELECT count(*) FROM source WHERE index_id = %s AND removed_at IS NULL", (index_id,))
    ).fetchone()
    if fed and fed[0]:
        raise Conflict(
            f"index {index!r} is fed by {fed[0]} sources",
            why="it would be filled again",
            fix="`redoubt source remove` them first",
        )
    await tx.execute(
        "UPDATE index SET live_generation_id = NULL, previous_generation_id = NULL WHERE id = %s", (index_id,)
    )
    await tx.execute("DELETE FROM indexed WHERE generation_id = ANY (%s)", ([generation.id for generation in every],))
    await tx.execute("DELETE FROM document WHERE source_id IN (SELECT id FROM source WHERE index_id = %s)", (index_id,))
    await tx.execute("DELETE FROM pending WHERE source_id IN (SELECT id FROM source WHERE index_id = %s)", (index_id,))
    await tx.execute("DELETE FROM source WHERE index_id = %s", (index_id,))
    await tx.execute("DELETE FROM release WHERE index_id = %s", (index_id,))
    await tx.execute("DELETE FROM index WHERE id = %s", (index_id,))
    return every
