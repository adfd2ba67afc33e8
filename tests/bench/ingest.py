"""Ingest beside the embedder's own rate, and beside LlamaIndex's pipeline into the same Postgres.

    python -m tests.bench.ingest [--documents 600] [--json FILE]

The documents are MuSiQue's paragraphs, one text file each, from `REDOUBT_DATASETS` (default `../shared/datasets`). In
one run, one after the other: Redoubt, from `source add` until all is searchable; the embedder alone, given the very
texts that Redoubt gave it; LlamaIndex's `IngestionPipeline` into the same Postgres, if its environment is there
(`make bench` installs it). All three use the same vLLM, with requests of 32 texts, four at once. Rates are passages a
second, as a share of the embedder's own.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

import psycopg
from tests.bench.search import datasets
from tests.bench.site import BenchSite, site

from redoubt.clients.vllm import Embedder
from redoubt.ingest.chunk import Chunker
from redoubt.ingest.parse import Limits, parse

PEER = Path(".cache/llamaindex/bin/python")
BATCH, IN_FLIGHT = 32, 4


def write(folder: Path, documents: int) -> None:
    """One file a paragraph."""
    corpus = datasets() / "musique200" / "corpus.jsonl"
    for number, line in enumerate(corpus.read_text("utf-8").splitlines()[:documents]):
        row = json.loads(line)
        (folder / f"{number:05}.txt").write_text(f"{row['title']}\n\n{row['text']}\n", "utf-8")


def ours(where: BenchSite, folder: Path, documents: int) -> float:
    """Seconds until everything is searchable."""
    started = time.perf_counter()
    where.redoubt("source", "add", str(folder), "--name", "bench")
    dsn = tomllib.loads((where.home / "site.toml").read_text())["catalog"]["dsn"] + " user=redoubt_admin"
    with psycopg.connect(dsn, autocommit=True) as connection:
        while True:
            (done,) = connection.execute("SELECT count(*) FROM document").fetchone() or (0,)
            if done == documents:
                break
            time.sleep(0.05)
    return time.perf_counter() - started


def texts_of(folder: Path, model: Path, max_tokens: int) -> list[str]:
    """The very texts that the worker embeds."""
    chunker = Chunker(model / "tokenizer.json", max_tokens)
    parsed = (parse(path.read_bytes(), path.name, limits=Limits()) for path in sorted(folder.iterdir()))
    return [piece.embed_text for document in parsed for piece in chunker.chunk(document)]


async def alone(url: str, model: str, texts: list[str]) -> float:
    """Seconds that the embedder takes for the texts when nothing else is asked of the machine."""
    async with Embedder(url, model, timeout_s=120) as embedder:
        await embedder.embed(texts[:BATCH])
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def one(part: list[str]) -> None:
            async with slots:
                await embedder.embed(part)

        started = time.perf_counter()
        await asyncio.gather(*(one(texts[at : at + BATCH]) for at in range(0, len(texts), BATCH)))
        return time.perf_counter() - started


async def peer(where: BenchSite, folder: Path, url: str, model: str, dsn: str) -> dict[str, Any]:
    """LlamaIndex, in its own environment; it speaks TCP, so the embedder's socket is relayed."""
    with psycopg.connect(dsn + " user=redoubt_admin", autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS peer")
        connection.execute("CREATE DATABASE peer")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_unix_connection(url.removeprefix("unix://"))

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, upstream[1]), pump(upstream[0], writer), return_exceptions=True)

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sockets = dict(part.split("=", 1) for part in dsn.split())["host"]
    process = await asyncio.create_subprocess_exec(
        str(PEER), "tests/bench/llamaindex_ingest.py", str(folder), f"http://127.0.0.1:{port}", model, "peer", sockets,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    server.close()
    assert process.returncode == 0, "the peer failed"
    return dict(json.loads(out.decode().strip().splitlines()[-1]))


def measure(documents: int) -> list[dict[str, Any]]:
    with site() as where, tempfile.TemporaryDirectory(prefix="rdt-docs-") as name:
        folder = Path(name)
        write(folder, documents)
        described = tomllib.loads((where.home / "site.toml").read_text())
        embedder, dsn = described["embedder"], described["catalog"]["dsn"]
        seconds = ours(where, folder, documents)
        texts = texts_of(folder, Path(embedder["path"]), embedder["max_tokens"])
        own = asyncio.run(alone(embedder["url"], embedder["model"], texts))
        rate = len(texts) / own
        lines = [
            {"what": "the embedder alone", "passages": len(texts), "seconds": own, "rate": rate, "share": 1.0},
            {"what": "Redoubt", "passages": len(texts), "seconds": seconds, "rate": len(texts) / seconds},
        ]
        if PEER.exists():
            got = asyncio.run(peer(where, folder, embedder["url"], embedder["model"], dsn))
            lines.append(
                {
                    "what": "LlamaIndex",
                    "passages": got["chunks"],
                    "seconds": got["seconds"],
                    "rate": got["chunks"] / got["seconds"],
                }
            )
        for line in lines:
            line["share"] = line["rate"] / rate
            line["documents_a_second"] = documents / line["seconds"]
        return lines


def show(lines: list[dict[str, Any]]) -> str:
    table = [
        "| | passages | seconds | passages/s | share of the embedder's own rate | documents/s |",
        "|---|---|---|---|---|---|",
    ]
    table += [
        f"| {x['what']} | {x['passages']} | {x['seconds']:.1f} | {x['rate']:.1f} | {x['share']:.2f} |"
        f" {x['documents_a_second']:.1f} |"
        for x in lines
    ]
    return "\n".join(table)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--documents", type=int, default=600)
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    found = measure(given.documents)
    print(show(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    sys.exit(0)
