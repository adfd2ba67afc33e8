"""What a store is tried with: made-up documents, a generation to put them in, and a judge of what it finds."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import numpy as np

from redoubt.model import Chunk, DocumentVersion, Found, Generation, Principal, Query, Span, Vectors, chunk_id
from redoubt.store.catalog.connect import Pool, transaction
from redoubt.store.protocol import Report, Store, Write
from redoubt.store.reference import Score

DIMENSIONS = 24
CLOSE = 1e-3  # vectors may be held with eleven bits of mantissa
WORDS = (
    "amber", "basalt", "cedar", "delta", "ember", "fjord", "garnet", "heath",
    "iris", "jasper", "kelp", "larch", "maple", "nettle", "onyx",
)  # fmt: skip


def principal(*groups: str) -> Principal:
    """Someone in `groups`, and in everyone."""
    return Principal(uuid4(), "conformance", frozenset(groups))


class Made:
    """Random documents, the same for the same seed."""

    def __init__(self, generation: Generation, seed: int = 0) -> None:
        self.generation = generation
        self.random = random.Random(seed)  # noqa: S311
        self.numbers = np.random.default_rng(seed)

    def vectors(self, count: int) -> Vectors:
        """(count, DIMENSIONS), normalised."""
        drawn = self.numbers.standard_normal((count, DIMENSIONS))
        normalised: Vectors = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
        return normalised

    def words(self, most: int = 12) -> str:
        """A few words; the first of the list are common, the last are rare."""
        return " ".join(
            WORDS[min(int(self.random.expovariate(0.3)), len(WORDS) - 1)] for _ in range(self.random.randint(1, most))
        )

    def document(
        self,
        acl_id: int | None,
        texts: Sequence[str] | int = 3,
        *,
        id_: UUID | None = None,
        version: int = 1,
        title: str | None = None,
        config: str = "simple",
    ) -> Write:
        """A version with a chunk for each text."""
        document_id = id_ or UUID(int=self.random.getrandbits(128))
        title = self.words(3) if title is None else title
        texts = [self.words() for _ in range(texts)] if isinstance(texts, int) else texts
        chunks, at = [], 0
        for ordinal, text in enumerate(texts):
            chunks.append(
                Chunk(
                    id=chunk_id(self.generation.id, document_id, version, ordinal),
                    ordinal=ordinal,
                    text=text,
                    span=Span(at, at + len(text)),
                    page=self.random.choice((None, 1, 2)),
                    heading=tuple(self.words(2) for _ in range(self.random.randint(0, 2))),
                )
            )
            at += len(text) + 1
        return Write(
            DocumentVersion(document_id, version, title, acl_id, config), tuple(chunks), self.vectors(len(chunks))
        )

    def query(self, text: str | None = None, limit: int = 100) -> Query:
        """A question with a vector of its own."""
        text = self.words(6) if text is None else text
        return Query(text, self.vectors(1)[0], self.generation.embedder_digest, limit)


@dataclass(frozen=True)
class Trial:
    """A store with one generation in it."""

    store: Store
    pool: Pool
    generation: Generation
    acls: dict[str, int]  # "staff", "board", "both"
    made: Made

    async def put(self, *batch: Write) -> Report:
        """Write in a transaction of its own."""
        async with transaction(self.pool) as tx:
            return await self.store.write(tx, self.generation, batch)

    async def held(self) -> list[tuple[UUID, int, int | None, int]]:
        """`contents`, as a list."""
        return [row async for row in self.store.contents(self.generation)]

    async def search(self, query: Query, reader: Principal) -> Found:
        """`search`, in this generation."""
        return await self.store.search(self.generation, query, reader)


def agree(found: Found, truth: dict[UUID, Score], limit: int) -> None:
    """`found` is the union of both legs' best `limit`, each with both scores; ties may fall either way."""
    got = {one.chunk.id: one for one in found.candidates}
    assert len(got) == len(found.candidates), "a chunk was returned twice"
    assert got.keys() <= truth.keys()
    for id_, one in got.items():
        assert one.cosine is not None
        assert one.bm25 is not None
        for mine, true in (
            (one.cosine, truth[id_].cosine),
            (one.bm25, truth[id_].bm25),
            (one.idf_share, truth[id_].idf_share),
        ):
            assert abs(mine - true) < CLOSE, f"{mine} instead of {true}"
    allowed = set[UUID]()
    for leg in ("cosine", "bm25"):
        scores = {id_: getattr(score, leg) for id_, score in truth.items() if leg == "cosine" or score.bm25 > 0}
        last = sorted(scores.values(), reverse=True)[limit - 1] if len(scores) >= limit else -2.0
        must = {id_ for id_, score in scores.items() if score > last + 2 * CLOSE}
        assert must <= got.keys(), f"the {leg} leg lacks {len(must - got.keys())} of its best {limit}"
        allowed |= {id_ for id_, score in scores.items() if score > last - 2 * CLOSE}
    extra = [(truth[id_].cosine, truth[id_].bm25, got[id_].cosine, got[id_].bm25) for id_ in got.keys() - allowed]
    assert not extra, f"there is more than the best {limit} of each leg: {extra}"


def summary(found: Found) -> dict[UUID, tuple[float, float, float]]:
    """What must not change when nothing was written."""
    return {
        one.chunk.id: (round(one.cosine or 0, 3), round(one.bm25 or 0, 3), round(one.idf_share, 3))
        for one in found.candidates
    }


def shown(found: Found) -> set[tuple[UUID, int, int]]:
    """Which chunks of which versions a reader saw."""
    return {(one.document_id, one.version, one.chunk.ordinal) for one in found.candidates}
