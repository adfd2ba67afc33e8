"""What every store keeps, whichever server holds the chunks; `store.conformance` tests each sentence.

A store holds generations. A generation holds, per document, the chunks of exactly one version.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol
from uuid import UUID

from psycopg import AsyncConnection

from redoubt.model import Chunk, DocumentVersion, Found, Generation, Principal, Query, Vectors

Transaction = AsyncConnection[Any]  # a catalogue connection inside a transaction


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can and cannot do, declared rather than discovered."""

    transactional: bool  # writes become visible with the catalogue's own commit
    exact_when_selective: bool  # a principal with few permitted chunks gets exact, not approximate, results


@dataclass(frozen=True, slots=True)
class Write:
    """A document version and its chunks, which replace whatever the generation held of the document."""

    document: DocumentVersion
    chunks: Sequence[Chunk]
    vectors: Vectors  # (len(chunks), generation.dimensions)


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a batch; a document is either wholly in `done` or in `failed` with a reason."""

    done: tuple[UUID, ...]
    failed: dict[UUID, str]


class Store(Protocol):
    """Chunks and vectors, searchable by permitted principals only.

    - `create` twice is `create` once. `drop` of what does not exist does nothing.
    - `write` is idempotent; it replaces all chunks of each document in the batch, so that a reader sees the
      old version or the new, never neither and never both. An empty `chunks` removes the document.
    - `write` refuses vectors of the wrong dimension, or with NaN or infinity, before anything is stored.
    - A batch may fail in part: the report says which documents, and the others are whole.
    - On a transactional backend nothing is visible before `tx` commits, and nothing remains if it rolls back.
    - `set_acl` changes who may read without new vectors; `None` hides from everybody.
    - `search` returns nothing that the principal may not read: no groups in common, no candidate, no count.
    - `search` refuses a query whose embedder digest is not the generation's (`EmbedderMismatch`).
    - `search` never changes its result because of documents that the principal cannot read, up to BM25's
      collection statistics.
    - `search` returns the best `query.limit` of each leg with both raw scores wherever the backend knows them.
    - `idf_share` holds a chunk against the question as the chunk's own text-search configuration analyses it;
      `question_idf` is the largest of these.
    - `contents` lists what the generation holds, for comparison with the catalogue.
    - `maintain` folds recent writes into the shape that is fast to search; it may be killed at any point.
    """

    capabilities: ClassVar[Capabilities]

    async def create(self, generation: Generation) -> None: ...
    async def drop(self, generation_id: UUID) -> None: ...
    async def write(self, tx: Transaction, generation: Generation, batch: Sequence[Write]) -> Report: ...
    async def set_acl(
        self, tx: Transaction, generation: Generation, document_ids: Sequence[UUID], acl_id: int | None
    ) -> None: ...
    async def search(self, generation: Generation, query: Query, principal: Principal) -> Found: ...
    def contents(self, generation: Generation) -> AsyncIterator[tuple[UUID, int, int | None, int]]:
        """Document id, version, acl_id, number of chunks; ordered by document id."""
        ...

    async def maintain(self, generation: Generation) -> None: ...
