"""Documents in, over a real folder, a real worker process, real Postgres and a real embedder."""

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingest_site import IngestSite, ingest_site
from redoubt import settings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(database: settings.Catalog, embedder: settings.Embedder) -> AsyncIterator[IngestSite]:
    async with ingest_site(database, embedder) as made:
        yield made


async def test_add_change_touch_rename_delete(site: IngestSite) -> None:
    (site.folder / "a.md").write_text("---\ntitle: Alpha\ndate: 2025-02-03\n---\n# Alpha\n\nThe gate opens at seven.\n")
    (site.folder / "deep").mkdir()
    (site.folder / "deep/b.txt").write_text("Beta stands in the second folder.")
    await site.add_source()
    async with site.worker():
        await site.settled()
        before = await site.documents()
        assert set(before) == {"a.md", "deep/b.txt"}
        assert before["a.md"]["title"] == "Alpha"
        assert before["a.md"]["as_of"].date().isoformat() == "2025-02-03"
        assert await site.finds("The gate opens at seven.")

        (site.folder / "a.md").write_text("# Alpha\n\nThe gate opens at eight.\n")
        await site.until(lambda: _version(site, "a.md", 2), what="the second version")
        assert await site.finds("The gate opens at eight.")
        assert not await site.finds("The gate opens at seven.")
        old = await site.rows(
            "SELECT text, ended_at, content_hash FROM document_version WHERE number = 1 AND document_id = %s",
            before["a.md"]["id"],
        )
        assert old[0]["text"] is None
        assert old[0]["ended_at"] is not None

        os.utime(site.folder / "deep/b.txt")
        await site.settled()
        touched = (await site.documents())["deep/b.txt"]
        assert (touched["version"], touched["searchable_at"]) == (1, before["deep/b.txt"]["searchable_at"])
        assert touched["stamp"] != before["deep/b.txt"]["stamp"]

        (site.folder / "deep/b.txt").rename(site.folder / "c.txt")
        await site.until(lambda: _has(site, "c.txt"), what="the rename")
        renamed = await site.documents()
        assert renamed["c.txt"]["id"] == before["deep/b.txt"]["id"]
        assert "deep/b.txt" not in renamed

        (site.folder / "c.txt").unlink()
        await site.until(lambda: _lacks(site, "c.txt"), what="the deletion")
        assert not await site.finds("Beta stands in the second folder.")
        assert [row[0] for row in await site.contents()] == ["a.md"]
        assert await site.one("SELECT count(*) FROM document_version WHERE text IS NOT NULL") == 1
        assert await site.one("SELECT count(*) FROM pending") == 0


async def test_a_second_start_brings_nothing_in_again(site: IngestSite) -> None:
    for number in range(5):
        (site.folder / f"{number}.txt").write_text(f"Document number {number} says something.")
    await site.add_source()
    async with site.worker():
        await site.settled()
    before = await site.rows("SELECT id, version, searchable_at FROM document ORDER BY id")
    async with site.worker():
        await site.settled()
    assert await site.rows("SELECT id, version, searchable_at FROM document ORDER BY id") == before


async def test_access_by_pattern_sidecar_and_change_without_embedding(site: IngestSite, tmp_path: Path) -> None:
    (site.folder / "hr").mkdir()
    (site.folder / "hr/pay.txt").write_text("Salaries rise by four percent.")
    (site.folder / "open.txt").write_text("The canteen has soup.")
    (site.folder / "lost.md").write_text("Nobody wrote a rule for this one.")
    (site.folder / "open.txt.meta.toml").write_text('groups = ["everyone"]\nas_of = 2024-05-06\n')
    rules = tmp_path / "source.toml"
    rules.write_text('sidecars = true\n[[acl]]\npattern = "hr/**"\ngroups = ["hr"]\n')
    await site.add_source(file=rules, groups=())
    async with site.worker():
        await site.settled()
        documents = await site.documents()
        assert set(documents) == {"hr/pay.txt", "open.txt", "lost.md"}
        assert documents["open.txt"]["as_of"].date().isoformat() == "2024-05-06"
        assert documents["lost.md"]["acl_id"] is None
        assert await site.finds("Salaries rise", "hr")
        assert not await site.finds("Salaries rise")
        assert await site.finds("The canteen has soup.")
        assert not await site.finds("Nobody wrote", "hr", "everyone")

        (site.folder / "open.txt.meta.toml").write_text('groups = ["kitchen"]\nas_of = 2024-05-06\n')
        await site.until(lambda: _groups(site, "open.txt", ["kitchen"]), what="the sidecar's change")
        assert not await site.finds("The canteen has soup.")
        assert await site.finds("The canteen has soup.", "kitchen")

        (site.folder / "open.txt.meta.toml").write_text("groups = 'everyone'")
        await site.until(lambda: _groups(site, "open.txt", None), what="the malformed sidecar")
        assert not await site.finds("The canteen has soup.", "kitchen")

        (site.folder / "hr/pay.txt").rename(site.folder / "pay.txt")
        await site.until(lambda: _groups(site, "pay.txt", None), what="the rename out of its pattern")
        assert not await site.finds("Salaries rise", "hr")
        assert (await site.documents())["pay.txt"]["version"] == 1
        assert await site.one("SELECT max(version) FROM document") == 1, "nothing was embedded again"


async def test_bad_input_is_parked_with_its_reason_and_harms_nothing_else(site: IngestSite) -> None:
    outside = site.folder.parent / "secret.txt"
    outside.write_text("The vault's number is 4711.")
    (site.folder / "good.txt").write_text("This one is fine.")
    (site.folder / "empty.txt").write_text("")
    (site.folder / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing of it")
    (site.folder / "zip.docx").write_bytes(b"PK\x03\x04" + b"\0" * 60)
    (site.folder / "odd.txt").write_bytes(b"\x00\x01\x02binary")
    (site.folder / "picture.jpg").write_bytes(b"\xff\xd8\xff")
    (site.folder / "big.txt").write_text("x" * 3000)
    (site.folder / "link.txt").symlink_to(outside)
    (site.folder / "inner.txt").symlink_to(site.folder / "good.txt")
    odd = os.fsencode(site.folder) + b"/\xff odd \\ \n'\"%name.txt"
    Path(os.fsdecode(odd)).write_text("A name with every odd character.")
    os.mkfifo(site.folder / "pipe.txt")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(site.folder / "socket.txt"))
    await site.add_source()
    await site.configure(max_bytes=2000)
    async with site.worker():
        await site.settled()
        assert await site.failures() == {
            "empty.txt": "empty",
            "broken.pdf": "corrupt",
            "zip.docx": "corrupt",
            "odd.txt": "encoding",
            "picture.jpg": "unsupported-format",
            "big.txt": "too-large",
            "link.txt": "outside-source",
        }
        documents = await site.documents()
        assert set(documents) == {"good.txt", "inner.txt", "\\xff odd \\\\ \n'\"%name.txt"}
        assert not await site.finds("The vault's number")
        assert await site.finds("A name with every odd character.")

        (site.folder / "empty.txt").write_text("Now it says something.")
        await site.until(lambda: _has(site, "empty.txt"), what="the mended document")
        (site.folder / "good.txt").write_bytes(b"\x00\x00broken now")
        await site.until(lambda: _failed(site, "good.txt"), what="the failure of the new version")
        assert await site.finds("This one is fine."), "the old version stays while the new one cannot be read"
        Path(os.fsdecode(odd)).unlink()
        await site.until(lambda: _lacks(site, "\\xff odd \\\\ \n'\"%name.txt"), what="the odd name's deletion")
    server.close()
    details = await site.rows("SELECT detail FROM pending WHERE state = 'failed'")
    assert all(row["detail"] for row in details)
    assert "4711" not in str(details)


async def test_a_source_that_is_removed_takes_its_documents_along(site: IngestSite) -> None:
    (site.folder / "a.txt").write_text("Alpha is here.")
    await site.add_source()
    async with site.worker():
        await site.settled()
        async with site.admin() as connection:
            from redoubt.store.catalog import sources

            await sources.remove(connection, "docs")
        await site.until(lambda: _empty(site), what="the removal")
        assert await site.contents() == []
        assert (site.folder / "a.txt").exists()
        await site.add_source()
        await site.until(lambda: _has(site, "a.txt"), what="the same source, added again")


async def test_a_folder_that_cannot_be_read_loses_nothing(site: IngestSite) -> None:
    (site.folder / "a.txt").write_text("Alpha is here.")
    await site.add_source()
    async with site.worker():
        await site.settled()
    aside = site.folder.with_name("aside")
    site.folder.rename(aside)
    async with site.worker():
        await site.until(lambda: _problem(site), what="the problem shown")
        assert await site.finds("Alpha is here.")
        aside.rename(site.folder)
        await site.until(lambda: _no_problem(site), what="the problem gone")
    assert set(await site.documents()) == {"a.txt"}


async def test_reindex_builds_beside_and_swaps(site: IngestSite) -> None:
    from redoubt.store.catalog import indexes

    for number in range(8):
        (site.folder / f"{number}.txt").write_text(f"Document number {number} about harbours.")
    await site.add_source()
    async with site.worker():
        await site.settled()
        async with site.admin() as connection:
            live = await indexes.live(connection, "main")
            assert live is not None
        async with await _plain(site) as connection:
            await indexes.add_generation(
                connection, "main", backend="pgvector", embedder=live.embedder, digest=live.embedder_digest,
                dimensions=live.dimensions, max_tokens=64,
            )  # fmt: skip
        await site.until(lambda: _ready(site), what="the new generation")
        (site.folder / "0.txt").write_text("Document number 0 is about rivers now.")
        await site.until(lambda: _version(site, "0.txt", 2), what="a write while both are kept")
        async with await _plain(site) as connection:
            swapped = await indexes.swap(connection, "main", "test")
        assert swapped.number == 2
        assert len(await site.contents()) == 8
        assert await site.finds("is about rivers now")
        async with await _plain(site) as connection:
            assert (await indexes.swap(connection, "main", "test", kind="rollback")).number == 1
        assert await site.one("SELECT count(*) FROM release") == 3


async def _plain(site: IngestSite):  # type: ignore[no-untyped-def]
    import psycopg

    return await psycopg.AsyncConnection.connect(site.site.catalog.dsn_for("redoubt_admin"))


async def _version(site: IngestSite, path: str, number: int) -> bool:
    return (await site.documents()).get(path, {}).get("version") == number


async def _has(site: IngestSite, path: str) -> bool:
    return path in await site.documents()


async def _lacks(site: IngestSite, path: str) -> bool:
    return path not in await site.documents()


async def _groups(site: IngestSite, path: str, groups: list[str] | None) -> bool:
    found = (await site.documents()).get(path)
    return found is not None and found["groups"] == groups


async def _failed(site: IngestSite, path: str) -> bool:
    return path in await site.failures()


async def _empty(site: IngestSite) -> bool:
    return await site.one("SELECT count(*) FROM source WHERE name = 'docs'") == 0


async def _problem(site: IngestSite) -> bool:
    return bool(await site.one("SELECT coalesce(last_error, '') FROM source"))


async def _no_problem(site: IngestSite) -> bool:
    return not await _problem(site)


async def _ready(site: IngestSite) -> bool:
    return bool(await site.one("SELECT count(*) FROM generation WHERE state = 'ready'"))
