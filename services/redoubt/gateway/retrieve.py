"""From a question to ranked passages that this principal may read, checked twice: in the store and after it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from redoubt.errors import EmbedderDown, NotFound
from redoubt.gateway.deadline import FIX, within
from redoubt.gateway.exchange import Exchange
from redoubt.model import Candidate, Hit, Principal, Query, SearchedSource, Vector, Vectors
from redoubt.settings import GatewaySettings
from redoubt.store.catalog import permitted
from redoubt.store.catalog.connect import Pool, connection
from redoubt.store.catalog.permitted import Current, Live
from redoubt.store.fuse import DEFAULT_ALPHA, fuse
from redoubt.store.protocol import Store


class Embeds(Protocol):
    """What turns texts into vectors."""

    async def embed(self, texts: Sequence[str]) -> Vectors: ...


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What a question found, and where it was looked for."""

    live: Live
    hits: tuple[Hit, ...]  # best first
    searched: tuple[SearchedSource, ...]


@dataclass(frozen=True, slots=True)
class Retriever:
    """The stages before an answer; one per gateway."""

    pool: Pool
    stores: Mapping[str, Store]  # by backend
    embedder: Embeds
    embedder_digest: str  # of the model that `embedder` serves
    default_index: str
    settings: GatewaySettings

    async def retrieve(
        self, exchange: Exchange, principal: Principal, index: str, question: str, limit: int
    ) -> Retrieved:
        """The best `limit` passages; `NotFound` for an index that does not exist or holds nothing readable."""
        began = perf_counter()
        looked_up = asyncio.create_task(self._look_up(principal, index))
        embedded = asyncio.create_task(self._embed(question))
        try:
            (live, searched), (vector, embedding_s) = await asyncio.gather(looked_up, embedded)
        finally:
            looked_up.cancel()
            embedded.cancel()
        exchange.took("embed", embedding_s)
        if vector.shape != (live.generation.dimensions,) and self.embedder_digest == live.generation.embedder_digest:
            why = f"its vector has {vector.size} dimensions, the model's have {live.generation.dimensions}"
            raise EmbedderDown("the embedder's answer is no embedding", why=why, fix=FIX, kind="garbage")
        query = Query(question, vector, self.embedder_digest, self.settings.candidates)
        hits = await within(self.settings.catalog_timeout_s, self._search(principal, live, query, limit))
        exchange.took("retrieve", perf_counter() - began - embedding_s)
        exchange.metrics.hits.labels(index).observe(len(hits))
        if cosines := [hit.cosine for hit in hits if hit.cosine is not None]:
            exchange.metrics.top_score.labels(index).observe(max(cosines))
        return Retrieved(live, hits, searched)

    async def _embed(self, question: str) -> tuple[Vector, float]:
        began = perf_counter()
        (vector,) = await self.embedder.embed([question])
        return vector, perf_counter() - began

    async def _look_up(self, principal: Principal, index: str) -> tuple[Live, tuple[SearchedSource, ...]]:
        async def read() -> tuple[Live, tuple[SearchedSource, ...]]:
            async with connection(self.pool) as taken:
                live = await permitted.live(taken, principal, index, self.default_index)
                if live is None:
                    raise unknown_index()
                return live, tuple(await permitted.searched(taken, principal, index))

        return await within(self.settings.catalog_timeout_s, read())

    async def _search(self, principal: Principal, live: Live, query: Query, limit: int) -> tuple[Hit, ...]:
        found = await self.stores[live.generation.backend].search(live.generation, query, principal)
        ranked = fuse(found.candidates, DEFAULT_ALPHA if live.alpha is None else live.alpha)
        async with connection(self.pool) as taken:
            now = await permitted.current(taken, principal, list({c.document_id for c, _ in ranked}))
        hits = []
        for candidate, score in ranked:
            document = now.get(candidate.document_id)
            if document is not None and document.version == candidate.version:
                hits.append(_hit(candidate, score, document))
            if len(hits) == limit:
                break
        return tuple(hits)


def _hit(candidate: Candidate, score: float, document: Current) -> Hit:
    return Hit(
        chunk=candidate.chunk,
        score=score,
        cosine=candidate.cosine,
        bm25=candidate.bm25,
        idf_share=candidate.idf_share,
        document_id=document.document_id,
        version=document.version,
        source=document.source,
        path=document.path,
        title=document.title,
        as_of=document.as_of,
        searchable_at=document.searchable_at,
    )


def unknown_index() -> NotFound:
    """The same for an index that does not exist and one with nothing readable in it."""
    return NotFound(
        "there is no such model or index for this key",
        why="it does not exist, or holds no document that the key may read",
        fix="`GET /v1/models` lists what this key may use",
    )
