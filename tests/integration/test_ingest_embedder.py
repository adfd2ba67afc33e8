"""An embedder that is down, slow, or answers nonsense: nothing is lost, nothing wrong gets in, and it is said."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from scripted_embedder import Scripted, scripted_embedder

from ingest_site import IngestSite, ingest_site
from redoubt import settings

pytestmark = pytest.mark.anyio
MODES = ("down", "slow", "dimension", "nan", "zero", "few", "garbage")


@pytest.fixture
async def scripted(database: settings.Catalog, model_path: Path) -> AsyncIterator[tuple[Scripted, IngestSite]]:
    async with scripted_embedder(model_path) as (script, part), ingest_site(database, part) as site:
        yield script, site


async def test_parked_with_its_reason_and_taken_up_again(scripted: tuple[Scripted, IngestSite]) -> None:
    script, site = scripted
    await site.add_source()
    async with site.worker(REDOUBT_INGEST_ATTEMPTS="2", REDOUBT_INGEST_EMBED_TIMEOUT_S="1"):
        for number, mode in enumerate(MODES, start=1):
            script.mode = mode
            path = f"{mode}.txt"
            (site.folder / path).write_text(f"The words of document {mode} stay out of messages.")
            detail = ""

            async def parked(path: str = path) -> bool:
                nonlocal detail
                rows = await site.rows("SELECT reason, detail FROM pending WHERE path = %s AND state = 'failed'", path)
                detail = rows[0]["detail"] if rows else ""
                return bool(rows) and rows[0]["reason"] == "embedder"

            await site.until(parked, what=f"{mode}: parked after two tries")
            assert detail
            assert "stay out" not in detail
            assert path not in await site.documents()
            script.mode = "well"

            async def searchable(number: int = number) -> bool:
                return len(await site.documents()) == number

            await site.until(searchable, what=f"{mode}: searchable once the embedder is back")
    assert "stay out" not in site.file.with_suffix(".log").read_text()


async def test_a_text_that_the_embedder_refuses_harms_no_other(scripted: tuple[Scripted, IngestSite]) -> None:
    script, site = scripted
    script.mode = "picky"
    for number in range(20):
        (site.folder / f"{number}.txt").write_text(f"Document {number} is like any other.")
    (site.folder / "bad.txt").write_text("This one is poison to the embedder.")
    await site.add_source()
    async with site.worker(REDOUBT_INGEST_ATTEMPTS="2", REDOUBT_INGEST_SCAN_INTERVAL_S="600"):

        async def rest() -> bool:
            return len(await site.documents()) == 20

        await site.until(rest, what="the others")

        async def parked() -> bool:
            return await site.failures() == {"bad.txt": "embedder"}

        await site.until(parked, what="the one that is refused")
    assert "poison" not in str(await site.rows("SELECT detail FROM pending"))


async def test_what_needs_no_embedder_does_not_wait_for_it(scripted: tuple[Scripted, IngestSite]) -> None:
    script, site = scripted
    for path in ("gone.txt", "stays.txt"):
        (site.folder / path).write_text(f"The file called {path}.")
    (site.folder / "stays.txt.meta.toml").write_text('groups = ["staff"]')
    await site.add_source()
    await site.configure(sidecars=True)
    async with site.worker():
        await site.settled()
    script.mode = "gone"
    (site.folder / "gone.txt").unlink()
    (site.folder / "stays.txt.meta.toml").write_text('groups = ["board"]')
    (site.folder / "new.txt").write_text("This has to wait.")
    async with site.worker():

        async def done() -> bool:
            found = await site.documents()
            return set(found) == {"stays.txt"} and found["stays.txt"]["groups"] == ["board"]

        await site.until(done, what="the deletion and the new access list")
        assert [row[0] for row in await site.contents()] == ["stays.txt"]
        script.mode = "well"

        async def waited() -> bool:
            return "new.txt" in await site.documents()

        await site.until(waited, what="what had to wait")


async def test_a_first_start_without_an_embedder(scripted: tuple[Scripted, IngestSite]) -> None:
    script, site = scripted
    script.mode = "gone"
    (site.folder / "a.txt").write_text("The first document.")
    await site.add_source()
    async with site.worker():

        async def noted() -> bool:
            return bool(await site.one("SELECT count(*) FROM pending WHERE state = 'queued'"))

        await site.until(noted, what="the backlog")
        script.mode = "well"

        async def searchable() -> bool:
            return len(await site.documents()) == 1 and len(await site.contents()) == 1

        await site.until(searchable, what="the first document")
