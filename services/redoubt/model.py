"""The nouns that every room speaks: frozen, without behaviour beyond their own shape."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

EVERYONE = "everyone"  # the group that every principal is in

Vector = NDArray[np.float32]  # (dim,), L2-normalised
Vectors = NDArray[np.float32]  # (n, dim), each row L2-normalised


class Reason(StrEnum):
    """Why a document is parked: shown by `redoubt index failures`, stable for scripts."""

    EMPTY = "empty"
    NO_TEXT = "no-text"
    TOO_LARGE = "too-large"
    UNSUPPORTED = "unsupported-format"
    CORRUPT = "corrupt"
    ENCRYPTED = "encrypted"
    ENCODING = "encoding"
    BOMB = "decompression-bomb"
    OUTSIDE = "outside-source"
    UNREADABLE = "unreadable"
    PARSER_TIMEOUT = "parser-timeout"
    PARSER_MEMORY = "parser-memory"
    PARSER_CRASH = "parser-crash"
    EMBEDDER = "embedder"
    SIDECAR = "bad-sidecar"
    STORE = "store-refused"
    INTERNAL = "internal-error"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. There is no default and no "anyone": a search without a principal cannot be written."""

    id: UUID  # the key's id
    name: str
    groups: frozenset[str]  # `everyone` is always in it, see `principal()`

    def __post_init__(self) -> None:
        if EVERYONE not in self.groups:
            object.__setattr__(self, "groups", self.groups | {EVERYONE})


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of characters in a document version's stored text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of a parsed document under one heading path, on one page where the format has pages.

    `kind` "table" sections are one row a line, each line already carrying its header's names.
    """

    span: Span
    heading: tuple[str, ...]  # outermost first, without the document's title
    page: int | None
    kind: Literal["prose", "table", "code"] = "prose"


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """What a parser makes of bytes: plain text, and where in it the structure lies."""

    text: str  # NFC, "\n" line ends, no NUL
    title: str
    sections: tuple[Section, ...]  # ordered, disjoint, within the text
    as_of: datetime | None  # the document's own date if it carries one, UTC
    language: str | None  # ISO 639-1 if the document says so itself


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage that can be found and cited."""

    id: UUID
    ordinal: int  # from 0, in reading order
    text: str  # verbatim: the stored text at `span`
    span: Span
    page: int | None
    heading: tuple[str, ...]


def chunk_id(generation_id: UUID, document_id: UUID, version: int, ordinal: int) -> UUID:
    """The deterministic id that makes a repeated write the same write."""
    return uuid5(generation_id, f"{document_id}/{version}/{ordinal}")


@dataclass(frozen=True, slots=True)
class DocumentVersion:
    """One version of one document, as the store needs it to write the chunks of it."""

    document_id: UUID
    version: int
    title: str
    acl_id: int | None  # None: visible to nobody
    config: str  # the Postgres text-search configuration: "english", "german", "simple", …


@dataclass(frozen=True, slots=True)
class Generation:
    """One build of an index: every vector in it comes from one embedder."""

    id: UUID
    index: str  # the index's name
    number: int  # 1, 2, … within the index
    backend: Literal["pgvector", "weaviate"]
    embedder: str  # the model's name, for people
    embedder_digest: str  # "sha256:…" of the weights and tokenizer
    dimensions: int
    max_tokens: int  # the chunker's budget, heading path included


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for."""

    text: str
    vector: Vector
    embedder_digest: str  # must equal the generation's
    limit: int = 100  # candidates a leg, before fusion


@dataclass(frozen=True, slots=True)
class Candidate:
    """One chunk that either leg found, with both raw scores where the backend knows them."""

    chunk: Chunk
    document_id: UUID
    version: int
    title: str
    cosine: float | None  # [-1, 1]
    bm25: float | None  # ≥ 0; 0.0: no query term in it; None: the backend does not know
    idf_share: float  # share of the question's IDF mass whose terms stand in this chunk, [0, 1]


@dataclass(frozen=True, slots=True)
class Found:
    """Both legs' union, unranked: ranking is `store.fuse`, the same for every backend."""

    candidates: tuple[Candidate, ...]
    question_idf: float  # total IDF of the question's terms; 0.0: it had none


@dataclass(frozen=True, slots=True)
class Hit:
    """A ranked, permitted chunk with all that a citation of it says."""

    chunk: Chunk
    score: float  # fused, [0, 1]
    cosine: float | None
    bm25: float | None
    idf_share: float
    document_id: UUID
    version: int
    source: str
    path: str
    title: str
    as_of: datetime
    searchable_at: datetime


@dataclass(frozen=True, slots=True)
class Citation:
    """A verbatim quote and where it stands."""

    number: int  # the [n] marker
    document_id: UUID
    version: int
    source: str
    path: str
    title: str
    quote: str
    span: Span
    page: int | None
    heading: tuple[str, ...]
    as_of: datetime
    score: float


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Two permitted passages that give different values for the same subject."""

    type: Literal["number", "date", "name", "negation"]
    subject: str  # the shared terms, for people
    citations: tuple[int, int]  # markers; the newer document by `as_of` first
    values: tuple[str, str]  # in the same order


@dataclass(frozen=True, slots=True)
class SearchedSource:
    """What a refusal may say about a source that this principal can see something of."""

    name: str
    documents: int  # permitted ones only
    newest_as_of: datetime | None
    last_success_at: datetime | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway says: answered with citations, or refused with a reason."""

    outcome: Literal["answered", "refused"]
    mode: Literal["quote", "generate"]
    text: str  # with [n] markers
    citations: tuple[Citation, ...] = ()
    conflicts: tuple[Disagreement, ...] = ()
    reason: Literal["", "no_hits", "low_score", "citation_check", "policy"] = ""
    searched: tuple[SearchedSource, ...] = ()
    signals: Mapping[str, float] = field(default_factory=dict)
