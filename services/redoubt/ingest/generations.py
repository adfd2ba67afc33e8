"""Generations in the making: an index's first one, and one that is built beside the live one."""

import asyncio
from uuid import UUID

from redoubt import log
from redoubt.errors import DocumentRejected, InputError
from redoubt.ingest.feed import Tools
from redoubt.ingest.pipeline import cut, place
from redoubt.model import DocumentVersion, Generation
from redoubt.settings import Embedder
from redoubt.store.catalog import documents, indexes
from redoubt.store.catalog.connect import connection, transaction

_AT_ONCE = 64  # documents
_log = log.get(__name__)


async def bare(tools: Tools) -> list[str]:
    """The indexes that have no generation yet."""
    async with connection(tools.pool) as taken:
        return [row.name for row in await indexes.listing(taken) if row.live is None]


async def begin(tools: Tools, name: str, embedder: Embedder, dimensions: int) -> None:
    """Give an index its first generation, live and empty."""
    async with transaction(tools.pool) as tx:
        unfinished = await indexes.generations(tx, name, "building")
        for old in unfinished:
            if old.embedder_digest != tools.digest:
                await indexes.set_state(tx, old.id, "dropped")
        usable = [old for old in unfinished if old.embedder_digest == tools.digest]
        generation = usable[0] if usable else await indexes.add_generation(
            tx, name, backend="pgvector", embedder=embedder.model, digest=tools.digest, dimensions=dimensions,
            max_tokens=embedder.max_tokens,
        )  # fmt: skip
    await tools.store.create(generation)
    async with transaction(tools.pool) as tx:
        await indexes.lock(tx, name)
        if await indexes.live(tx, name) is not None:
            return  # another worker was faster
        await indexes.set_state(tx, generation.id, "ready")
        await indexes.swap(tx, name, "ingest", kind="create")
    _log.info("index created", index=name, generation=generation.number)


class Builder:
    """Fills generations with what they lack; one that lacks nothing becomes ready."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._whole: set[tuple[UUID, int]] = set()  # live since this release: each write has kept it whole since

    async def build(self) -> None:
        """All of them, once: those in the making, and a live one that stood aside for a while."""
        async with connection(self._tools.pool) as taken:
            found = [
                (generation, (generation.id, await indexes.released(taken, row.id)), row.live == generation.number)
                for row in await indexes.listing(taken)
                if row.live is not None
                for generation in await indexes.generations(taken, row.name, "building", "ready", "live")
            ]
        self._whole &= {release for _, release, live in found if live}
        for generation, release, live in found:
            if generation.embedder_digest != self._tools.digest or release in self._whole:
                continue
            await self._fill(generation)
            if live:
                self._whole.add(release)

    async def _fill(self, generation: Generation) -> None:
        await self._tools.store.create(generation)
        filled, after = 0, documents.FIRST
        while True:
            async with connection(self._tools.pool) as taken:
                lacking = await documents.missing_from(taken, generation.id, _AT_ONCE, after)
            if not lacking and after == documents.FIRST:
                break
            await asyncio.gather(*(self._copy(generation, stored) for stored in lacking))
            filled += len(lacking)
            after = lacking[-1].id if lacking else documents.FIRST  # once more from the start: what came meanwhile
        if filled:
            await self._tools.store.maintain(generation)
        async with transaction(self._tools.pool) as tx:
            await indexes.lock(tx, generation.index)
            still = await indexes.generations(tx, generation.index, "building")
            if any(other.id == generation.id for other in still):
                await indexes.set_state(tx, generation.id, "ready")
                _log.info("generation ready", index=generation.index, generation=generation.number, documents=filled)

    async def _copy(self, generation: Generation, stored: documents.Stored) -> None:
        try:
            passages = await cut(self._tools, generation, stored.parsed)
            async with transaction(self._tools.pool) as tx:
                stands = await documents.current(tx, stored.id, stored.version)
                if stands is None:
                    return  # changed meanwhile: its own write puts the new version into this generation too
                document = DocumentVersion(stored.id, stored.version, stored.title, stands.acl_id, stored.config)
                await place(self._tools.store, tx, generation, document, passages)
        except (DocumentRejected, InputError) as error:
            _log.error("a document is left out", generation=generation.number, document=str(stored.id), why=error.what)
            async with transaction(self._tools.pool) as tx:
                if await documents.current(tx, stored.id, stored.version) is not None:
                    await documents.mark_indexed(tx, generation.id, stored.id, stored.version, 0, True)
