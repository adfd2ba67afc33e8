"""Things that happen at once: a write that is overtaken, a backlog that is jumped, a worker that dies among others.

Full scans are too far apart here to mend anything: what is to happen has to come of the events alone.
"""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from scripted_embedder import Scripted, scripted_embedder

from ingest_site import IngestSite, ingest_site
from redoubt import settings

pytestmark = pytest.mark.anyio
RARE = {"REDOUBT_INGEST_SCAN_INTERVAL_S": "600"}


@pytest.fixture
async def scripted(database: settings.Catalog, model_path: Path) -> AsyncIterator[tuple[Scripted, IngestSite]]:
    async with scripted_embedder(model_path) as (script, part), ingest_site(database, part) as site:
        yield script, site


async def holding(site: IngestSite, script: Scripted, asked: int) -> None:
    async def held() -> bool:
        return script.asked >= asked

    await site.until(held, what="a document at the embedder")


async def test_a_write_that_is_overtaken(scripted: tuple[Scripted, IngestSite]) -> None:
    script, site = scripted
    await site.add_source()
    async with site.worker(**RARE):
        await site.settled()

        script.gate.clear()
        (site.folder / "deleted.txt").write_text("Deleted while it is embedded.")
        await holding(site, script, 1)
        (site.folder / "deleted.txt").unlink()

        async def forgotten() -> bool:
            return await site.one("SELECT count(*) FROM pending") == 0

        await site.until(forgotten, what="the deletion")
        script.gate.set()

        script.gate.clear()
        (site.folder / "changed.txt").write_text("First edition.")
        await holding(site, script, 2)
        before = await site.one("SELECT stamp FROM pending")
        (site.folder / "changed.txt").write_text("Second edition, saved while the first one was embedded.")

        async def newer() -> bool:
            return bool(await site.one("SELECT stamp <> %s FROM pending", before))

        await site.until(newer, what="the second edition in the backlog")
        script.gate.set()

        async def second() -> bool:
            return "Second" in (await site.documents()).get("changed.txt", {}).get("text", "")

        await site.until(second, seconds=15, what="the second edition")
        assert set(await site.documents()) == {"changed.txt"}
        assert [row[0] for row in await site.contents()] == ["changed.txt"]
        await site.until(forgotten, what="nothing left to do")


async def test_a_change_does_not_wait_for_the_backfill(scripted: tuple[Scripted, IngestSite]) -> None:
    script, site = scripted
    script.seconds = 0.2
    for number in range(200):
        (site.folder / f"{number:03}.txt").write_text(f"Old document number {number}.")
    await site.add_source()
    async with site.worker(**RARE, REDOUBT_INGEST_EMBED_BATCH="4", REDOUBT_INGEST_EMBED_IN_FLIGHT="1"):

        async def begun() -> bool:
            return "000.txt" in await site.documents()

        await site.until(begun, what="the first of the backfill")
        (site.folder / "000.txt").write_text("Changed just now.")
        (site.folder / "new.txt").write_text("Saved just now.")

        async def there() -> bool:
            found = await site.documents()
            return found["000.txt"]["version"] == 2 and "new.txt" in found

        await site.until(there, seconds=5, what="what was saved just now")
        assert await site.one("SELECT count(*) FROM pending") > 50, "the backfill was not over"


async def test_a_dead_workers_documents_are_taken_over(scripted: tuple[Scripted, IngestSite]) -> None:
    script, site = scripted
    await site.add_source()
    async with site.worker(**RARE) as first:
        await site.settled()
        script.gate.clear()
        (site.folder / "a.txt").write_text("In the hands of the first worker.")
        await holding(site, script, 1)
        async with site.worker(**RARE):
            first.send_signal(signal.SIGKILL)
            await first.wait()
            script.gate.set()

            async def there() -> bool:
                return "a.txt" in await site.documents()

            await site.until(there, seconds=40, what="the document, by the second worker")
            assert (await site.documents())["a.txt"]["version"] == 1
