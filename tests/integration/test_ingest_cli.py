"""`redoubt source` and `redoubt index` over a running worker, and what that worker tells Prometheus."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ingest_site import IngestSite, ingest_site
from redoubt import settings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(database: settings.Catalog, embedder: settings.Embedder) -> AsyncIterator[IngestSite]:
    async with ingest_site(database, embedder) as made:
        yield made


async def redoubt(site: IngestSite, *arguments: str, code: int = 0) -> Any:
    """Run a command; returns what it prints as JSON, or its error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "redoubt.cli.main", *arguments, "--json",
        env=os.environ | {"REDOUBT_SITE": str(site.file)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == code, (arguments, out, err)
    return json.loads(out or err) if code == 0 else json.loads(out or err)["error"]


async def test_sources_and_generations_from_the_command_line(site: IngestSite, tmp_path: Path) -> None:
    folder = str(site.folder)
    (site.folder / "a.txt").write_text("Alpha is here.")
    (site.folder / "empty.txt").write_text("")
    added = await redoubt(site, "source", "add", folder, "--name", "docs", "--group", "staff", "--group", "board")
    assert (added["source"], added["groups"], added["changed"]) == ("docs", ["staff", "board"], True)
    again = await redoubt(site, "source", "add", folder, "--name", "docs", "--group", "staff", "--group", "board")
    assert again["changed"] is False
    bad = tmp_path / "source.toml"
    bad.write_text('[[acl]]\npattern = "**"\ngroups = ["hr "]\n')
    refused = await redoubt(site, "source", "add", folder, "--name", "docs", "--file", str(bad), code=2)
    assert "hr" not in refused.get("why", "").split()
    async with site.worker():
        await site.settled()
        (listed,) = await redoubt(site, "source", "list")
        assert (listed["name"], listed["folder"], listed["index"]) == ("docs", folder, "main")
        status = await redoubt(site, "index", "status")
        (source,) = status["sources"]
        assert {key: source[key] for key in ("documents", "chunks", "queued", "deleting", "failed", "without_acl")} == {
            "documents": 1, "chunks": 1, "queued": 0, "deleting": 0, "failed": 1, "without_acl": 0,
        }  # fmt: skip
        assert source["last_success_at"]
        assert source["newest_searchable_at"]
        assert 0 < source["freshness_p95_s"] < 60
        (failure,) = await redoubt(site, "index", "failures")
        assert (failure["source"], failure["path"], failure["reason"]) == ("docs", "empty.txt", "empty")

        assert (await redoubt(site, "index", "swap", code=5))["reference"] == "conflict"
        assert (await redoubt(site, "index", "rollback", code=5))["reference"] == "conflict"
        assert (await redoubt(site, "index", "reindex"))["generation"] == 2

        async def ready() -> bool:
            return bool(await site.one("SELECT count(*) FROM generation WHERE state = 'ready'"))

        await site.until(ready, what="the second generation")
        assert (await redoubt(site, "index", "swap"))["generation"] == 2
        assert (await redoubt(site, "index", "rollback"))["generation"] == 1
        await redoubt(site, "index", "drop", "main", "--generation", "1", code=5)
        assert (await redoubt(site, "index", "drop", "main", "--generation", "2"))["dropped"] == [2]
        assert await site.finds("Alpha is here.", "staff")

        await redoubt(site, "index", "create", "second")
        await redoubt(site, "index", "create", "second", code=5)
        await redoubt(site, "index", "drop", "main", code=5)
        await redoubt(site, "source", "remove", "docs")
        assert await redoubt(site, "source", "list") == []
        assert (await redoubt(site, "source", "remove", "docs", code=4))["reference"] == "not-found"

        async def out() -> bool:
            return await site.contents() == []

        await site.until(out, what="its documents taken out")
        assert (await redoubt(site, "index", "drop", "second"))["index"] == "second"
    assert await site.one("SELECT count(*) FROM document_version WHERE text IS NOT NULL") == 0


async def test_metrics_and_readiness(site: IngestSite) -> None:
    run = site.folder.parent / "run"
    run.mkdir()
    (site.folder / "a.txt").write_text("Alpha is here.")
    os.utime(site.folder / "a.txt", (1_000_000_000, 1_000_000_000))
    (site.folder / "empty.txt").write_text("")
    await site.add_source()
    async with site.worker(REDOUBT_RUN_DIR=str(run)):
        await site.settled()
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(run / "ingest.sock"))) as session:

            async def get(path: str) -> tuple[int, str]:
                async with session.get(f"http://worker{path}") as answer:
                    return answer.status, await answer.text()

            assert (await get("/health/live"))[0] == 200
            assert (await get("/health/ready"))[0] == 200
            text = (await get("/metrics"))[1]
            values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
            assert float(values['redoubt_index_freshness_seconds_count{source="docs"}']) == 1
            assert float(values['redoubt_index_freshness_seconds_sum{source="docs"}']) < 60, (
                "not since the file's birth"
            )
            assert float(values['redoubt_index_pending_documents{source="docs",state="failed"}']) == 1
            assert float(values['redoubt_index_pending_documents{source="docs",state="queued"}']) == 0
            assert float(values['redoubt_index_pending_documents{source="docs",state="delete"}']) == 0
            assert float(values['redoubt_index_oldest_pending_change_timestamp_seconds{source="docs"}']) == 0
            assert float(values['redoubt_index_last_success_timestamp_seconds{source="docs"}']) > 0
            assert float(values['redoubt_index_newest_searchable_timestamp_seconds{source="docs"}']) > 0
            assert float(values['redoubt_index_freshness_objective_seconds{source="docs"}']) == 60
            for step in ("parse", "chunk", "embed", "write"):
                assert float(values[f'redoubt_ingest_step_duration_seconds_count{{step="{step}"}}']) > 0
