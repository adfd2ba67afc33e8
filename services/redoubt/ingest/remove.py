"""Documents out: not to be found from the commit on, in any generation."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from redoubt.ingest.feed import Feed, Tools
from redoubt.ingest.judge import claim
from redoubt.model import DocumentVersion
from redoubt.store.catalog import backlog, documents, indexes
from redoubt.store.catalog.connect import connection, transaction
from redoubt.store.protocol import Write

AT_ONCE = 50  # documents a transaction


async def remove(tools: Tools, feed: Feed, paths: Sequence[str]) -> None:
    """Note that the documents are to go, so that it happens whatever happens to us; then take them out."""
    async with transaction(tools.pool) as tx:
        await backlog.note(tx, feed.id, "delete", [(path, "", datetime.now(UTC)) for path in paths])
    for at in range(0, len(paths), AT_ONCE):
        await take_out(tools, feed, paths[at : at + AT_ONCE])


async def take_out(tools: Tools, feed: Feed, paths: Sequence[str]) -> None:
    """Take out those of the documents that the backlog still says are to go."""
    async with transaction(tools.pool) as tx:
        await claim(tx, feed, paths)
        doomed = await backlog.doomed(tx, feed.id, paths)
        gone = [found for path in doomed if (found := await documents.at(tx, feed.id, path))]
        if gone:
            for generation in await indexes.generations(tx, feed.index, "live", "building", "ready", "retired"):
                empty = np.zeros((0, generation.dimensions), np.float32)
                batch = [Write(DocumentVersion(found[0], found[1], "", None, "simple"), [], empty) for found in gone]
                await tools.store.write(tx, generation, batch)
            await documents.delete(tx, [found[0] for found in gone])
        await backlog.settle(tx, feed.id, doomed)


async def remove_source(tools: Tools, feed: Feed) -> None:
    """Take out all that a removed source brought in, then free its name; what a slow worker adds goes next time."""
    while True:
        async with connection(tools.pool) as taken:
            found = await taken.execute(
                "SELECT path FROM document WHERE source_id = %s AND deleted_at IS NULL LIMIT 500", (feed.id,)
            )
            paths = [row[0] for row in await found.fetchall()]
        if not paths:
            break
        await remove(tools, feed, paths)
    async with transaction(tools.pool) as tx:
        await tx.execute("DELETE FROM pending WHERE source_id = %s", (feed.id,))
        await tx.execute(
            "UPDATE source SET name = left(name, 40) || '.removed-' || left(id::text, 8) WHERE id = %s"
            " AND name NOT LIKE '%%.removed-' || left(id::text, 8)",
            (feed.id,),
        )
