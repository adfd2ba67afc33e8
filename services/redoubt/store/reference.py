"""The store as a page of plain Python: what every backend's search must equal, slowly and in memory.

It reads text as words between blanks, which is what the `simple` text-search configuration makes of lower-case
ASCII words; so it is a reference for such text only.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from redoubt.model import Chunk, Query, Vector
from redoubt.store.protocol import Write

K1 = 1.2
B = 0.75


@dataclass(frozen=True, slots=True)
class Score:
    """What both legs say of one chunk."""

    cosine: float
    bm25: float
    idf_share: float


@dataclass(frozen=True, slots=True)
class _Held:
    words: Counter[str]
    vector: Vector


class Reference:
    """The chunks of one generation, document by document."""

    def __init__(self) -> None:
        self.documents: dict[UUID, Write] = {}
        self.acls: dict[UUID, int | None] = {}

    def write(self, batch: Sequence[Write]) -> None:
        """Replace the documents in `batch`; one without chunks goes."""
        for item in batch:
            id_ = item.document.document_id
            self.documents.pop(id_, None)
            self.acls.pop(id_, None)
            if item.chunks:
                self.documents[id_] = item
                self.acls[id_] = item.document.acl_id

    def set_acl(self, document_ids: Sequence[UUID], acl_id: int | None) -> None:
        """Change who may read those that are held."""
        self.acls.update((id_, acl_id) for id_ in document_ids if id_ in self.documents)

    def contents(self) -> list[tuple[UUID, int, int | None, int]]:
        """As the protocol's `contents`."""
        return [
            (id_, item.document.version, self.acls[id_], len(item.chunks))
            for id_, item in sorted(self.documents.items())
        ]

    def question_idf(self, text: str) -> float:
        """The sum of IDF over the question's distinct words, found or not."""
        return sum(self._idf(word) for word in set(text.split()))

    def scores(self, query: Query, acl_ids: frozenset[int]) -> dict[UUID, Score]:
        """Both raw scores of every chunk that one of `acl_ids` opens, by chunk id."""
        held = self._held()
        average = sum(one.words.total() for one in held.values()) / max(len(held), 1)
        asked = Counter(query.text.split())
        idf = {word: self._idf(word) for word in asked}
        total = sum(idf.values())
        found = {}
        for id_, item in self.documents.items():
            if self.acls[id_] not in acl_ids:
                continue
            for chunk in item.chunks:
                one = held[chunk.id]
                norm = K1 * (1 - B + B * one.words.total() / average)
                hit = [word for word in asked if one.words[word]]
                found[chunk.id] = Score(
                    cosine=float(one.vector @ query.vector / np.linalg.norm(one.vector) / np.linalg.norm(query.vector)),
                    bm25=sum(
                        asked[word] * idf[word] * one.words[word] * (K1 + 1) / (one.words[word] + norm) for word in hit
                    ),
                    idf_share=sum(idf[word] for word in hit) / total if total else 0.0,
                )
        return found

    def _idf(self, word: str) -> float:
        held = self._held()
        df = sum(1 for one in held.values() if one.words[word])
        return math.log(1 + (len(held) - df + 0.5) / (df + 0.5))

    def _held(self) -> dict[UUID, _Held]:
        return {
            chunk.id: _Held(_words(item.document.title, chunk), vector)
            for item in self.documents.values()
            for chunk, vector in zip(item.chunks, item.vectors, strict=True)
        }


def _words(title: str, chunk: Chunk) -> Counter[str]:
    return Counter(" ".join((title, title, title, *chunk.heading, chunk.text)).split())
