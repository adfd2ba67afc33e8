"""Hybrid search at 100,000 chunks: latency and recall by leg, by share of permitted chunks, and under writes.

    python -m tests.bench.search [--chunks 100000] [--queries 300] [--json FILE]

The corpus is made of the public sets under `REDOUBT_DATASETS` (default `../shared/datasets`): each of their passages,
then new ones whose sentences come from two real passages and whose vectors lie between those two. The queries are the
sets' own. Embeddings are made once and kept under `.cache/bench`; `REDOUBT_BENCH_EMBEDDER` names an embedder that runs
already. Latency is what the caller of `store.search` waits, the query's vector given, with one client.
"""

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
from tests.bench import servers

from redoubt.model import (
    Chunk,
    DocumentVersion,
    Found,
    Generation,
    Principal,
    Query,
    Span,
    Vectors,
    chunk_id,
)
from redoubt.store.catalog.connect import Pool, pool, transaction
from redoubt.store.pgvector.statements import schema
from redoubt.store.pgvector.store import PgvectorStore
from redoubt.store.protocol import Write

ROOT = Path(__file__).parent.parent.parent
CACHE = ROOT / ".cache" / "bench"
SETS = ("scifact", "musique200", "clapnq", "ramdocs")
DIGEST = "sha256:" + "b" * 64
PER_DOCUMENT = 4  # chunks
TENTH, HUNDREDTH = 10, 100  # every n-th document is also readable by this group
K1, B = 1.2, 0.75
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Corpus:
    """Passages and questions with their vectors."""

    titles: list[str]
    texts: list[str]
    vectors: Vectors  # (n, dim)
    questions: list[str]
    asked: Vectors  # (queries, dim)


def datasets() -> Path:
    """Where the public sets are."""
    return Path(os.environ.get("REDOUBT_DATASETS", ROOT.parent / "shared" / "datasets"))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


async def _vectors(name: str, texts: Sequence[str]) -> Vectors:
    path = CACHE / f"{name}.npy"
    if path.exists():
        found: Vectors = np.load(path)
        if len(found) == len(texts):
            return found
    CACHE.mkdir(parents=True, exist_ok=True)
    made: list[Vectors] = []
    async with servers.embedder() as embedder:
        for at in range(0, len(texts), 64):
            made.append(await embedder.embed(texts[at : at + 64]))
            print(f"\rembedding {name}: {at + len(made[-1])}/{len(texts)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    found = np.concatenate(made)
    np.save(path, found)
    return found


async def corpus(chunks: int, queries: int, seed: int = 7) -> Corpus:
    """The real passages first, then mixtures of two until there are `chunks`."""
    titles, texts, questions = [], [], []
    vectors, asked = [], []
    for name in SETS:
        passages = _lines(datasets() / name / "corpus.jsonl")
        titles += [passage.get("title", "") for passage in passages]
        texts += [passage["text"] for passage in passages]
        own = [question["text"] for question in _lines(datasets() / name / "queries.jsonl")]
        questions += own
        vectors.append(
            await _vectors(f"{name}_corpus", [f"{p.get('title', '')}\n{p['text']}".strip() for p in passages])
        )
        asked.append(await _vectors(f"{name}_queries", own))
    real, posed = np.concatenate(vectors), np.concatenate(asked)
    chosen, numbers = random.Random(seed), np.random.default_rng(seed)
    sentences = [_SENTENCE.split(text) for text in texts]
    base = len(texts)
    more = [real]
    for _ in range(base, chunks):
        one, other = chosen.randrange(base), chosen.randrange(base)
        mixed = [s for pair in zip(sentences[one], sentences[other], strict=False) for s in pair]
        chosen.shuffle(mixed)
        texts.append(" ".join(mixed[: max(2, len(sentences[one]))]))
        titles.append(titles[one])
        weight = chosen.uniform(0.5, 0.9)
        vector = weight * real[one] + (1 - weight) * real[other] + numbers.normal(0, 0.012, real.shape[1])
        more.append((vector / np.linalg.norm(vector)).astype(np.float32)[None])
    picked = sorted(chosen.sample(range(len(questions)), min(queries, len(questions))))
    return Corpus(
        titles[:chunks], texts[:chunks], np.concatenate(more)[:chunks], [questions[at] for at in picked], posed[picked]
    )


def documents(generation: Generation, made: Corpus, acls: dict[str, int]) -> list[Write]:
    """Four passages a document; who may read it goes by its number."""
    order = list(range(len(made.texts)))
    random.Random(1).shuffle(order)
    written = []
    for number, at in enumerate(range(0, len(order), PER_DOCUMENT)):
        rows = order[at : at + PER_DOCUMENT]
        acl = "hundredth" if number % HUNDREDTH == 0 else "tenth" if number % TENTH == 0 else f"all-{number % 30}"
        written.append(document(generation, made, rows, UUID(int=number + 1), 1, acls[acl]))
    return written


def document(generation: Generation, made: Corpus, rows: Sequence[int], id_: UUID, version: int, acl: int) -> Write:
    """A document of the corpus' `rows`."""
    chunks = tuple(
        Chunk(
            id=chunk_id(generation.id, id_, version, ordinal),
            ordinal=ordinal,
            text=made.texts[row].replace("\x00", ""),
            span=Span(ordinal * 2000, ordinal * 2000 + len(made.texts[row])),
            page=None,
            heading=(),
        )
        for ordinal, row in enumerate(rows)
    )
    version_ = DocumentVersion(id_, version, made.titles[rows[0]], acl, "english")
    return Write(version_, chunks, made.vectors[list(rows)])


async def groups(catalog: Pool) -> dict[str, int]:
    """ACLs: thirty departments that all staff read, a tenth and a hundredth that a group of their own reads too."""
    wanted = {f"all-{number}": ["staff", f"department-{number}"] for number in range(30)}
    wanted |= {"tenth": ["staff", "tenth"], "hundredth": ["hundredth", "staff", "tenth"]}
    found = {}
    async with transaction(catalog) as tx:
        for name, members in wanted.items():
            await tx.execute("INSERT INTO acl (groups) VALUES (%s) ON CONFLICT DO NOTHING", (sorted(members),))
            row = await (await tx.execute("SELECT id FROM acl WHERE groups = %s", (sorted(members),))).fetchone()
            assert row is not None
            found[name] = row[0]
    return found


class Truth:
    """Exact search in memory, over the terms that the store itself holds."""

    @classmethod
    async def load(cls, catalog: Pool, generation: Generation, written: Sequence[Write]) -> "Truth":
        """Read terms and numbers of every chunk once."""
        made = cls()
        async with transaction(catalog) as tx:
            rows = await (
                await tx.execute(
                    "SELECT p.id, c.acl_id, l.terms, l.counts, l.length FROM {s}.chunk c "
                    "JOIN {s}.passage p USING (no) JOIN {s}.lexical l USING (no)".format(
                        s=schema(generation.id)
                    ).encode()
                )
            ).fetchall()
        vectors = {c.id: v for item in written for c, v in zip(item.chunks, item.vectors, strict=True)}
        made.ids = [row[0] for row in rows]
        made.at = {id_: number for number, id_ in enumerate(made.ids)}
        made.acls = np.array([row[1] for row in rows])
        made.vectors = np.stack([vectors[id_] for id_ in made.ids])
        lengths = np.array([row[4] for row in rows], dtype=np.float64)
        norm = K1 * (1 - B + B * lengths / lengths.mean())
        counts = np.concatenate([np.array(row[3], dtype=np.int64) for row in rows])
        terms = np.concatenate([np.array(row[2], dtype=np.int64) for row in rows])
        where = np.repeat(np.arange(len(rows)), [len(row[2]) for row in rows])
        order = np.argsort(terms, kind="stable")
        made.terms, starts = np.unique(terms[order], return_index=True)
        made.bounds = np.append(starts, len(terms))
        made.where = where[order]
        made.impacts = (counts * (K1 + 1) / (counts + norm[where]))[order]
        return made

    def bm25(self, terms: Counter[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Every chunk's score."""
        scores = np.zeros(len(self.ids))
        for term, count in terms.items():
            at = int(np.searchsorted(self.terms, term))
            if at == len(self.terms) or self.terms[at] != term:
                continue
            part = slice(self.bounds[at], self.bounds[at + 1])
            df = part.stop - part.start
            idf = np.log(1 + (len(self.ids) - df + 0.5) / (df + 0.5))
            scores[self.where[part]] += count * idf * self.impacts[part]
        return scores


def recall(found: Found, leg: str, truth: Truth, exact: Any, allowed: Any, depth: int) -> float:
    """The share of the exact best `depth` permitted ones that the leg's own best `depth` holds."""
    scores = np.where(allowed, exact, -np.inf)
    order = np.argsort(-scores, kind="stable")[:depth]
    best = {truth.ids[at] for at in order if scores[at] > (0 if leg == "bm25" else -2)}
    if not best:
        return 1.0
    least = min(scores[truth.at[id_]] for id_ in best)
    mine = sorted(found.candidates, key=lambda one: -(getattr(one, leg) or 0))[:depth]
    good = sum(1 for one in mine if scores[truth.at[one.chunk.id]] >= least - 2e-3)
    return min(good / len(best), 1.0)


@dataclass
class Spent:
    """Milliseconds of each call: what its caller waited, and what Postgres computed for it."""

    waited: list[float]
    computed: list[float]


async def timed(calls: Sequence[Callable[[], Awaitable[Any]]], backend: int, warm: int = 40) -> tuple[Spent, list[Any]]:
    """(milliseconds, results) of each call, one after the other; `backend` is the process that serves them."""
    for call in calls[:warm]:
        await call()
    spent, results = Spent([], []), []
    for call in calls:
        started, before = time.perf_counter(), _computed(backend)
        results.append(await call())
        spent.waited.append((time.perf_counter() - started) * 1000)
        spent.computed.append(_computed(backend) - before)
    return spent, results


def _computed(backend: int) -> float:
    """Milliseconds on a processor: unlike waiting, they tell little of what else the machine does."""
    return int(Path(f"/proc/{backend}/schedstat").read_text("ascii").split()[0]) / 1e6


def row(name: str, spent: Spent, **more: float) -> dict[str, Any]:
    """A line of the table."""
    cuts = statistics.quantiles(spent.waited, n=100, method="inclusive")
    return {
        "what": name,
        "p50_ms": round(cuts[49], 1),
        "p95_ms": round(cuts[94], 1),
        "cpu_p50_ms": round(statistics.median(spent.computed), 1),
        "n": len(spent.waited),
    } | {key: round(value, 4) for key, value in more.items()}


@asynccontextmanager
async def writing(
    store: PgvectorStore, catalog: Pool, generation: Generation, made: Corpus, written: Sequence[Write], hertz: float
) -> AsyncIterator[list[int]]:
    """Replace documents at a steady rate, with maintenance every five seconds; yields how many so far."""
    count, over = [0], asyncio.Event()
    chosen = random.Random(3)

    async def write() -> None:
        while not over.is_set():
            started = time.perf_counter()
            old = chosen.choice(written).document
            rows = [chosen.randrange(len(made.texts)) for _ in range(PER_DOCUMENT)]
            new = document(generation, made, rows, old.document_id, 2 + count[0], old.acl_id or 0)
            async with transaction(catalog) as tx:
                await store.write(tx, generation, [new])
            count[0] += 1
            await asyncio.sleep(max(0.0, 1 / hertz - (time.perf_counter() - started)))

    async def keep() -> None:
        while not over.is_set():
            await store.maintain(generation)
            await asyncio.sleep(5)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        tasks.create_task(keep())
        try:
            yield count
        finally:
            over.set()


async def measure(dsn: str, made: Corpus, hertz: float) -> list[dict[str, Any]]:
    """Build the generation, then each line of the table."""
    table: list[dict[str, Any]] = []
    async with pool(dsn, service="bench", size=4) as catalog, pool(dsn, service="search", size=1) as searchers:
        store, searching = PgvectorStore(catalog), PgvectorStore(searchers)
        async with searchers.connection() as one:
            backend = one.info.backend_pid
        generation = Generation(
            uuid4(), "bench", 1, "pgvector", "all-minilm-l6-v2", DIGEST, made.vectors.shape[1], max_tokens=256
        )
        await store.create(generation)
        acls = await groups(catalog)
        written = documents(generation, made, acls)
        started = time.perf_counter()
        for at in range(0, len(written), 250):
            async with transaction(catalog) as tx:
                report = await store.write(tx, generation, written[at : at + 250])
            assert not report.failed
            print(f"\rwriting: {at * PER_DOCUMENT}/{len(made.texts)} chunks", end="", file=sys.stderr, flush=True)
        loaded = time.perf_counter()
        print(f"\rwritten in {loaded - started:.0f} s; indexing", file=sys.stderr, flush=True)
        await store.maintain(generation)
        indexed = time.perf_counter()
        async with catalog.connection() as one:
            await one.set_autocommit(True)
            await one.execute("VACUUM ANALYZE")
            size = await (
                await one.execute(
                    "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c WHERE relkind = 'r' "
                    "AND relnamespace = %s::regnamespace",
                    (schema(generation.id),),
                )
            ).fetchone()
            await one.set_autocommit(False)
        assert size is not None
        table.append(
            {
                "what": "build",
                "write_s": round(loaded - started, 1),
                "maintain_s": round(indexed - loaded, 1),
                "megabytes": round(size[0] / 1e6),
            }
        )
        print(json.dumps(table[-1]), file=sys.stderr)
        truth = await Truth.load(catalog, generation, written)
        async with catalog.connection() as one:
            terms = [
                Counter(
                    dict(
                        await (
                            await one.execute(
                                f"SELECT * FROM {schema(generation.id)}.terms('english', %s)".encode(), (question,)
                            )
                        ).fetchall()
                    )
                )
                for question in made.questions
            ]
        exact_bm25 = [truth.bm25(one) for one in terms]
        exact_cosine = [truth.vectors @ vector for vector in made.asked]
        queries = [Query(question, vector, DIGEST) for question, vector in zip(made.questions, made.asked, strict=True)]

        table.append(await _graph(searchers, generation, queries, backend))
        print(json.dumps(table[-1]), file=sys.stderr)
        readers = {"hybrid": "staff", "hybrid, 10 % permitted": "tenth", "hybrid, 1 % permitted": "hundredth"}
        opened = {
            "staff": set(acls.values()),
            "tenth": {acls["tenth"], acls["hundredth"]},
            "hundredth": {acls["hundredth"]},
        }
        for name, group in readers.items():
            principal = Principal(uuid4(), "bench", frozenset({group}))
            spent, found = await timed([_search(searching, generation, query, principal) for query in queries], backend)
            allowed = np.isin(truth.acls, list(opened[group]))
            recalls = {
                f"{leg}_recall@{depth}": statistics.mean(
                    recall(one, leg, truth, exact[at], allowed, depth) for at, one in enumerate(found)
                )
                for leg, exact in (("cosine", exact_cosine), ("bm25", exact_bm25))
                for depth in (10, 100)
            }
            table.append(row(name, spent, **recalls))
            print(json.dumps(table[-1]), file=sys.stderr)
        principal = Principal(uuid4(), "bench", frozenset({"staff"}))
        async with writing(store, catalog, generation, made, written, hertz) as count:
            began, before = time.perf_counter(), count[0]
            spent, _ = await timed([_search(searching, generation, query, principal) for query in queries], backend)
            rate = (count[0] - before) / (time.perf_counter() - began)
        table.append(row("hybrid, while documents are written", spent, documents_per_s=rate))
        await store.drop(generation.id)
    return table


def _search(
    store: PgvectorStore, generation: Generation, query: Query, principal: Principal
) -> Callable[[], Awaitable[Found]]:
    return lambda: store.search(generation, query, principal)


async def _graph(catalog: Pool, generation: Generation, queries: Sequence[Query], backend: int) -> dict[str, Any]:
    async with catalog.connection() as one:
        await one.execute("SET LOCAL hnsw.ef_search = 160")
        statement = (
            f"SELECT no FROM {schema(generation.id)}.vector ORDER BY embedding <#> %s::halfvec LIMIT 100".encode()
        )

        def call(query: Query) -> Callable[[], Awaitable[Any]]:
            literal = "[" + ",".join(f"{value:.6g}" for value in query.vector.tolist()) + "]"

            async def run() -> Any:
                return await (await one.execute(statement, (literal,), prepare=True)).fetchall()

            return run

        spent, _ = await timed([call(query) for query in queries], backend)
    return row("HNSW alone, ef 160, no filter", spent)


def show(table: Sequence[dict[str, Any]]) -> str:
    """The lines as Markdown."""
    lines = [
        "| | p50 ms | p95 ms | Postgres' CPU p50 ms | dense recall@10 / @100 | BM25 recall@10 / @100 |",
        "|---|---|---|---|---|---|",
    ]
    for one in table:
        if "p50_ms" in one:
            legs = [
                f"{one[f'{leg}_recall@10']:.3f} / {one[f'{leg}_recall@100']:.3f}" if f"{leg}_recall@10" in one else ""
                for leg in ("cosine", "bm25")
            ]
            lines.append(
                f"| {one['what']} | {one['p50_ms']} | {one['p95_ms']} | {one['cpu_p50_ms']} | {legs[0]} | {legs[1]} |"
            )
    return "\n".join(lines)


async def run(chunks: int, queries: int, hertz: float) -> list[dict[str, Any]]:
    """The whole measurement, on a server of its own."""
    made = await corpus(chunks, queries)
    async with servers.database() as dsn:
        return await measure(dsn, made, hertz)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--chunks", type=int, default=100_000)
    arguments.add_argument("--queries", type=int, default=400)
    arguments.add_argument("--hertz", type=float, default=5.0, help="documents a second in the run with writes")
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    lines = asyncio.run(run(given.chunks, given.queries, given.hertz))
    print(show(lines))
    if given.json:
        given.json.write_text(json.dumps(lines, indent=1) + "\n", "utf-8")
    else:
        print(json.dumps(lines, indent=1))
