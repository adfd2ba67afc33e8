"""Questions with judgements, and what the real store finds for each: the ground that `quality` measures on.

The public sets are one chunk a document, as in the published tables; the sample corpus goes through the ingest's
own parsers and chunker, with its own access rules.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4, uuid5

from tests.bench.search import DIGEST, ROOT, _lines, _vectors, datasets

from redoubt.embedded import vllm
from redoubt.ingest import access
from redoubt.ingest.chunk import Chunker
from redoubt.ingest.language import text_search_config
from redoubt.ingest.parse import Limits, parse, supported
from redoubt.ingest.sources.folder import FolderConfig, matches
from redoubt.model import (
    EVERYONE,
    Candidate,
    Chunk,
    DocumentVersion,
    Found,
    Generation,
    Hit,
    Principal,
    Query,
    Span,
    Vectors,
    chunk_id,
)
from redoubt.store.catalog.connect import Pool, transaction
from redoubt.store.fuse import fuse
from redoubt.store.pgvector.store import PgvectorStore
from redoubt.store.protocol import Write

PUBLIC = ("scifact", "musique200", "clapnq", "ramdocs")
LEG = 100  # candidates a leg
WIDTH = 384
SAMPLE = ROOT / "samples" / "hospital"
NAMES = UUID("6f2d0f6e-8f0b-5d62-9b1c-0f6f0a8f7f11")  # ids of documents are made from their names


@dataclass(frozen=True)
class Document:
    """A document as the store gets it."""

    key: str  # the set's own id, or the path
    title: str
    text: str
    groups: tuple[str, ...]
    as_of: datetime
    config: str
    pieces: tuple[Chunk, ...]
    embedded: tuple[str, ...]  # what the embedder reads of each piece

    @property
    def id(self) -> UUID:
        return uuid5(NAMES, self.key)


@dataclass(frozen=True)
class Question:
    """A question, who asks, and what would be right."""

    key: str
    text: str
    relevant: dict[str, int]  # document key → grade
    groups: tuple[str, ...] = (EVERYONE,)
    facts: dict[str, Any] = field(default_factory=dict)  # what else the set says of it


@dataclass(frozen=True)
class Asked:
    """A question and both legs' raw results."""

    question: Question
    found: Found


@dataclass(frozen=True)
class Set:
    """A corpus, its questions, and what was found for each."""

    name: str
    documents: dict[UUID, Document]
    asked: list[Asked]

    def hits(self, asked: Asked, alpha: float, limit: int = 10, without: frozenset[UUID] = frozenset()) -> list[Hit]:
        """The ranked hits, as the gateway makes them."""
        left = [candidate for candidate in asked.found.candidates if candidate.document_id not in without]
        return [self._hit(candidate, score) for candidate, score in fuse(left, alpha)[:limit]]

    def _hit(self, found: Candidate, score: float) -> Hit:
        of = self.documents[found.document_id]
        return Hit(
            found.chunk, score, found.cosine, found.bm25, found.idf_share, found.document_id, found.version,
            self.name, of.key, of.title, of.as_of, of.as_of,
        )  # fmt: skip


def public(name: str) -> tuple[list[Document], list[Question]]:
    """One of the sets under `REDOUBT_DATASETS`; CLAPNQ's unanswerable questions are among the questions."""
    folder, then = datasets() / name, datetime(2020, 1, 1, tzinfo=UTC)
    documents = []
    for line in _lines(folder / "corpus.jsonl"):
        title, text = line.get("title", ""), line["text"].replace("\x00", " ")
        chunk = Chunk(uuid5(NAMES, f"{name}/{line['id']}"), 0, text, Span(0, len(text)), None, ())
        whole = f"{title}\n{line['text']}".strip()
        documents.append(Document(line["id"], title, text, (EVERYONE,), then, "english", (chunk,), (whole,)))
    relevant: dict[str, dict[str, int]] = {}
    for row in (folder / "qrels.tsv").read_text("utf-8").splitlines()[1:]:
        question, document, grade = row.split("\t")
        relevant.setdefault(question, {})[document] = int(grade)
    extra = folder / "questions.jsonl"
    lines = _lines(extra) if extra.exists() else _lines(folder / "queries.jsonl")
    return documents, [Question(line["id"], line["text"], relevant.get(line["id"], {}), facts=line) for line in lines]


def sample() -> tuple[list[Document], list[Question]]:
    """The sample corpus, parsed, cut and guarded as the ingest does it."""
    root = SAMPLE / "documents"
    config = FolderConfig.model_validate(tomllib.loads((SAMPLE / "source.toml").read_text("utf-8")))
    chunker = Chunker(vllm.model(vllm.interpreter()) / "tokenizer.json", 256)
    documents = []
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        name = path.relative_to(root).as_posix()
        if not supported(name) or name.endswith(".meta.toml") or any(matches(name, e) for e in config.exclude):
            continue
        beside = path.with_name(path.name + ".meta.toml")
        sidecar = access.read_sidecar(beside.read_bytes() if config.sidecars and beside.exists() else None)
        groups = access.judge(name, config, sidecar)
        parsed = parse(path.read_bytes(), name, limits=Limits())
        as_of = sidecar.as_of or parsed.as_of or datetime(2020, 1, 1, tzinfo=UTC)
        pieces = chunker.chunk(parsed)
        documents.append(
            Document(
                name, sidecar.title or parsed.title, parsed.text, tuple(groups or ()), as_of,
                text_search_config(parsed, access.language(name, config, sidecar)),
                tuple(Chunk(uuid5(NAMES, f"{name}#{p.ordinal}"), p.ordinal, p.text, p.span, p.page, p.heading)
                      for p in pieces),
                tuple(p.embed_text for p in pieces),
            )
        )  # fmt: skip
    questions = [
        Question(q["id"], q["question"], {r["path"]: r["grade"] for r in q["relevant"]}, tuple(q["groups"]), q)
        for q in _lines(SAMPLE / "questions.jsonl")
    ]
    return documents, questions


async def ask(pool: Pool, name: str) -> Set:
    """Write a set into a generation of its own, and ask the store every question of it."""
    documents, questions = sample() if name == "hospital" else public(name)
    stem = f"{name}_questions" if name in ("clapnq", "ramdocs", "hospital") else f"{name}_queries"
    if name == "hospital":  # changes with the tree: nothing is kept
        texts = [text for document in documents for text in document.embedded]
        vectors, posed = await _embed(texts), await _embed([question.text for question in questions])
    else:
        vectors = await _vectors(f"{name}_corpus", [document.embedded[0] for document in documents])
        posed = await _vectors(stem, [question.text for question in questions])
    generation = Generation(uuid4(), name, 1, "pgvector", "bench", DIGEST, WIDTH, 256)
    store = PgvectorStore(pool)
    await store.create(generation)
    await _write(pool, store, generation, documents, vectors)
    asked = []
    for question, vector in zip(questions, posed, strict=True):
        principal = Principal(uuid4(), "bench", frozenset(question.groups))
        found = await store.search(generation, Query(question.text, vector, DIGEST, LEG), principal)
        asked.append(Asked(question, found))
    await store.drop(generation.id)
    return Set(name, {document.id: document for document in documents}, asked)


async def _write(
    pool: Pool, store: PgvectorStore, generation: Generation, documents: Sequence[Document], vectors: Vectors
) -> None:
    at = 0
    for start in range(0, len(documents), 200):
        batch = []
        async with transaction(pool) as tx:
            for document in documents[start : start + 200]:
                acl = await _acl(tx, document.groups) if document.groups else None
                version = DocumentVersion(document.id, 1, document.title, acl, document.config)
                chunks = tuple(
                    Chunk(
                        chunk_id(generation.id, document.id, 1, c.ordinal), c.ordinal, c.text, c.span, c.page, c.heading
                    )
                    for c in document.pieces
                )
                batch.append(Write(version, chunks, vectors[at : at + len(chunks)]))
                at += len(chunks)
            await store.write(tx, generation, batch)
    await store.maintain(generation)


async def _acl(tx: Any, groups: tuple[str, ...]) -> int:
    await tx.execute("INSERT INTO acl (groups) VALUES (%s) ON CONFLICT DO NOTHING", (sorted(groups),))
    row = await (await tx.execute("SELECT id FROM acl WHERE groups = %s", (sorted(groups),))).fetchone()
    return int(row[0])


async def _embed(texts: Sequence[str]) -> Vectors:
    import numpy as np
    from tests.bench import servers

    async with servers.embedder() as embedder:
        return np.concatenate([await embedder.embed(texts[at : at + 64]) for at in range(0, len(texts), 64)])
