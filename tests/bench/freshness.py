"""Saved file to searchable, deleted file to gone: as a client of the gateway sees it.

    python -m tests.bench.freshness [--files 60] [--json FILE]

A whole embedded site watches a folder. Each file is written and asked for through `/v1/search` until it is found; then
it is deleted and asked for until it is not. One file at a time; seconds from the write's or the deletion's return.
"""

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from tests.bench.site import site

BACKGROUND = 300  # documents that are there already


async def measure(files: int) -> list[dict[str, Any]]:
    with site() as where, tempfile.TemporaryDirectory(prefix="rdt-docs-") as name:
        folder = Path(name)
        for number in range(BACKGROUND):
            (folder / f"{number:05}.txt").write_text(
                f"Background document {number} on the storage of apples and pears.\n"
            )
        where.redoubt("up", "--docs", str(folder), "--json")
        saved, gone = [], []
        headers = {"Authorization": f"Bearer {where.key}"}
        async with aiohttp.ClientSession(where.url, headers=headers) as session:
            for number in range(files):
                token = f"quartz{number:04}marmot"
                path = folder / f"fresh-{number}.txt"
                path.write_text(f"Fresh document\n\nThe {token} was weighed this morning and found to be heavy.\n")
                saved.append(await until(session, token, present=True))
                path.unlink()
                gone.append(await until(session, token, present=False))
        return [row("saved → searchable", saved), row("deleted → gone", gone)]


async def until(session: aiohttp.ClientSession, token: str, *, present: bool) -> float:
    """Seconds until the token's passage is found, or no longer."""
    started = time.perf_counter()
    while True:
        async with session.post("/v1/search", json={"query": f"the {token}", "top_k": 5}) as answer:
            assert answer.status == 200, await answer.text()
            hits = (await answer.json())["hits"]
        if any(token in hit["text"] for hit in hits) is present:
            return time.perf_counter() - started
        assert time.perf_counter() - started < 60, "never"
        await asyncio.sleep(0.02)


def row(what: str, seconds: list[float]) -> dict[str, Any]:
    p50, p95 = np.percentile(seconds, [50, 95])
    return {"what": what, "files": len(seconds), "p50_s": float(p50), "p95_s": float(p95), "max_s": max(seconds)}


def show(lines: list[dict[str, Any]]) -> str:
    table = ["| | files | p50 s | p95 s | slowest s |", "|---|---|---|---|---|"]
    table += [f"| {x['what']} | {x['files']} | {x['p50_s']:.2f} | {x['p95_s']:.2f} | {x['max_s']:.2f} |" for x in lines]
    return "\n".join(table)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--files", type=int, default=60)
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    found = asyncio.run(measure(given.files))
    print(show(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
