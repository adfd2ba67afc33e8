"""What sidecars, rules and names say about a document: taken over when it changes, listed when it makes no sense."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ingest_site import IngestSite, ingest_site
from redoubt import settings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(database: settings.Catalog, embedder: settings.Embedder) -> AsyncIterator[IngestSite]:
    async with ingest_site(database, embedder) as made:
        yield made


async def until(site: IngestSite, path: str, **expected: Any) -> dict[str, Any]:
    """Wait until the document is like this; returns it."""
    document: dict[str, Any] = {}

    async def like_this() -> bool:
        nonlocal document
        document = (await site.documents()).get(path, {})
        return {key: document.get(key) for key in expected} == expected

    await site.until(like_this, what=f"{path} with {expected}")
    return document


async def test_title_language_and_date_of_a_sidecar(site: IngestSite) -> None:
    (site.folder / "a.txt").write_text("Die Katzen schlafen auf den warmen Dächern der Häuser.")
    sidecar = site.folder / "a.txt.meta.toml"
    sidecar.write_text('title = "Katzenbericht"\nlanguage = "de"\nas_of = 2024-05-06\n')
    await site.add_source()
    await site.configure(sidecars=True)
    async with site.worker(REDOUBT_INGEST_SCAN_INTERVAL_S="600"):
        first = await until(site, "a.txt", version=1, title="Katzenbericht", config="german")
        assert first["as_of"].isoformat().startswith("2024-05-06")
        found = await site.search("Katzenbericht")
        assert [candidate.title for candidate in found.candidates if candidate.bm25] == ["Katzenbericht"]

        sidecar.write_text('title = "Dachbericht"\nlanguage = "de"\nas_of = 2024-05-06\n')
        second = await until(site, "a.txt", version=2, title="Dachbericht")
        assert second["id"] == first["id"]
        assert any(candidate.bm25 for candidate in (await site.search("Dachbericht")).candidates)
        assert not any(candidate.bm25 for candidate in (await site.search("Katzenbericht")).candidates)

        sidecar.write_text('title = "Dachbericht"\nlanguage = "en"\nas_of = 2025-07-08\n')
        third = await until(site, "a.txt", version=3, config="english")
        assert third["as_of"].isoformat().startswith("2025-07-08")

        sidecar.unlink()
        plain = await until(site, "a.txt", version=4)
        assert plain["title"] != "Dachbericht"
        assert not plain["as_of"].isoformat().startswith("2025-07-08")


async def test_a_language_rule_that_comes_later(site: IngestSite) -> None:
    (site.folder / "de").mkdir()
    (site.folder / "de/a.txt").write_text("Kurz.")
    (site.folder / "b.txt").write_text("Short.")
    await site.add_source()
    async with site.worker(REDOUBT_INGEST_SCAN_INTERVAL_S="600"):
        await until(site, "de/a.txt", config="simple")
        await site.configure(language=[{"pattern": "de/**", "config": "german"}])
        await until(site, "de/a.txt", config="german", version=2)
        assert (await site.documents())["b.txt"]["version"] == 1, "what the rule does not match is left alone"


async def test_a_sidecar_of_no_use_hides_its_document_and_is_listed(site: IngestSite, tmp_path: Path) -> None:
    (site.folder / "a.txt").write_text("For the board only.")
    (site.folder / "b.txt").write_text("For the board as well.")
    (site.folder / "a.txt.meta.toml").write_text("groups = 'board'")
    (site.folder / "b.txt.meta.toml").write_text("groups = ['board']")
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text("groups = ['everyone']")
    await site.add_source()
    await site.configure(sidecars=True)
    async with site.worker(REDOUBT_INGEST_SCAN_INTERVAL_S="600"):
        await until(site, "a.txt", groups=None)
        await until(site, "b.txt", groups=["board"])
        assert await site.failures() == {"a.txt": "bad-sidecar"}
        assert not await site.finds("For the board only.", "board")

        (site.folder / "a.txt.meta.toml").write_text("groups = ['board']")
        await until(site, "a.txt", groups=["board"], version=1)
        assert await site.failures() == {}

        (site.folder / "b.txt.meta.toml").unlink()
        (site.folder / "b.txt.meta.toml").symlink_to(elsewhere)
        await until(site, "b.txt", groups=None, version=1)
        assert await site.failures() == {"b.txt": "bad-sidecar"}
        (site.folder / "a.txt").write_text("For the board only, second edition.")
        await until(site, "a.txt", groups=["board"], version=2)


async def test_a_document_that_is_called_after_its_file(site: IngestSite) -> None:
    words = "these words go on for a while so that nobody would take them for a title " * 5
    (site.folder / "minutes-march.txt").write_text(words)
    await site.add_source()
    async with site.worker(REDOUBT_INGEST_SCAN_INTERVAL_S="600"):
        before = await until(site, "minutes-march.txt", version=1, title="minutes-march")
        (site.folder / "minutes-march.txt").rename(site.folder / "minutes-april.txt")
        after = await until(site, "minutes-april.txt", version=2, title="minutes-april")
        assert after["id"] == before["id"]


async def test_rotated_files_keep_their_identity(site: IngestSite) -> None:
    for number in (1, 2):
        (site.folder / f"log.{number}.txt").write_text(f"# Log\n\nThe log that was number {number} at first.")
    await site.add_source()
    async with site.worker():
        await site.settled()
        before = await site.documents()
    (site.folder / "log.2.txt").rename(site.folder / "log.3.txt")
    (site.folder / "log.1.txt").rename(site.folder / "log.2.txt")
    (site.folder / "log.1.txt").write_text("# Log\n\nA new one.")
    async with site.worker():
        await site.settled()
        after = await site.documents()
    assert after["log.3.txt"]["id"] == before["log.2.txt"]["id"]
    assert after["log.2.txt"]["id"] == before["log.1.txt"]["id"]
    assert after["log.1.txt"]["id"] not in {row["id"] for row in before.values()}
    assert len(after) == 3
