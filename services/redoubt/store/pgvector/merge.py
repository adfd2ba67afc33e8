"""Maintenance in the background: which segments to merge when, and when a graph pays.

Writes and searches go on meanwhile. Killed at any point it leaves at most an unfinished graph, which the next one
drops and builds anew.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection

from redoubt.model import Generation
from redoubt.store.pgvector.statements import schema, statement

FAN = 8  # segments of one level that become one of the next
GARBAGE = 1.5  # chunks with postings, for each chunk that is still there, before all is merged
TALLIES = 64  # rows, before they are folded

Segment = tuple[int, int, int]  # number, level, chunks


def plan(segments: Sequence[Segment], chunks: int) -> tuple[list[int], int, int | None] | None:
    """What to merge next, into which level, holding how many chunks (None: those of its parts); None: nothing."""
    if len(segments) > 1 and sum(held for _, _, held in segments) > GARBAGE * chunks + 1000:
        return [number for number, _, _ in segments], max(level for _, level, _ in segments), chunks
    levels: dict[int, list[int]] = defaultdict(list)
    for number, level, _ in segments:
        levels[level].append(number)
    for level in sorted(levels):
        if len(levels[level]) >= (2 if level == 0 else FAN):
            return levels[level], level + 1, None
    return None


async def maintain(taken: AsyncConnection[Any], generation: Generation, *, graph_above: int) -> None:
    """Merge until nothing is left to merge, then see to the graph; returns at once if another is at it."""
    await taken.set_autocommit(True)
    try:
        async with _alone(taken, generation) as free:
            if not free:
                return
            chunks = await _merge(taken, generation)
            await _graph(taken, generation, chunks >= graph_above)
    finally:
        if not taken.closed:
            await taken.set_autocommit(False)


async def _merge(taken: AsyncConnection[Any], generation: Generation) -> int:
    while True:
        tallies, chunks = await _one(taken, generation, "tallies")
        if tallies > TALLIES:
            await taken.execute(statement("merge.sql", "tally", generation.id))
        found = await taken.execute(statement("merge.sql", "segments", generation.id))
        todo = plan(await found.fetchall(), chunks)
        if todo is None:
            return int(chunks)
        numbers, level, held = todo
        await taken.execute(
            statement("merge.sql", "merge", generation.id), {"segments": numbers, "level": level, "chunks": held}
        )


async def _graph(taken: AsyncConnection[Any], generation: Generation, wanted: bool) -> None:
    found = await taken.execute(statement("merge.sql", "graph", generation.id))
    row = await found.fetchone()
    if row is not None and not row[0]:
        await taken.execute(statement("merge.sql", "drop_graph", generation.id))
        row = None
    if row is None and wanted:
        await taken.execute(statement("merge.sql", "build_graph", generation.id))
        await taken.execute(statement("merge.sql", "statistics", generation.id))


async def _one(taken: AsyncConnection[Any], generation: Generation, name: str) -> Any:
    return await (await taken.execute(statement("merge.sql", name, generation.id))).fetchone()


@asynccontextmanager
async def _alone(taken: AsyncConnection[Any], generation: Generation) -> AsyncIterator[bool]:
    """Whether this is the only maintenance of the generation; a dead one's lock goes with its connection."""
    key = (f"maintain {schema(generation.id)}",)
    row = await (await taken.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", key)).fetchone()
    free = bool(row and row[0])
    try:
        yield free
    finally:
        if free and not taken.closed:
            await taken.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", key)
