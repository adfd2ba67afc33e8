"""kill -9 at every named step of a document's journey, repeated: nothing lost, nothing twice, each with its ACL."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingest_site import IngestSite, ingest_site
from redoubt import settings

pytestmark = pytest.mark.anyio
WRITING = ("read", "parse", "embed", "catalogue", "write", "mark", "settle", "commit")
SETTLING = ("judge", "remove")  # what needs no writing: renames and deletions


@pytest.fixture
async def site(database: settings.Catalog, embedder: settings.Embedder) -> AsyncIterator[IngestSite]:
    async with ingest_site(database, embedder) as made:
        yield made


async def crash(site: IngestSite, step: str, when: str, nth: int) -> None:
    """Start a worker that dies at the step; it has to die there, by its own hand."""
    command = ("tests/integration/crashing_worker.py", step, when, str(nth))
    async with site.worker(*command) as process, asyncio.timeout(60):
        assert await process.wait() == -9, f"the worker did not reach {step}"


async def check(site: IngestSite, expected: dict[str, str]) -> None:
    """Catalogue and store hold exactly what the folder holds, once, with its access list."""
    documents = await site.documents()
    assert {path: row["text"] for path, row in documents.items()} == expected
    held = await site.contents()
    assert Counter(row[0] for row in held) == Counter(list(expected))
    for path, version, acl, chunks in held:
        assert version == documents[path]["version"]
        assert acl is not None
        assert acl == documents[path]["acl_id"]
        assert chunks == 1
    assert await site.one("SELECT count(*) FROM pending") == 0
    assert await site.one("SELECT count(*) FROM document_version WHERE text IS NOT NULL") == len(expected)


class Changing:
    """A folder in which something is changed, added, moved and deleted before every crash."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rounds = 0
        self.expected: dict[str, str] = {}
        for number in range(40):
            self._save(f"{number}.txt", f"Sentence number {number} of the first edition.")

    def change(self) -> None:
        self._rounds += 1
        self._save(f"{self._rounds % 6}.txt", f"Sentence changed before crash number {self._rounds}.")
        self._save(f"new{self._rounds}.txt", f"Sentence that came before crash number {self._rounds}.")
        gone, moved, target = f"{6 + self._rounds}.txt", f"{20 + self._rounds}.txt", f"moved{self._rounds}.txt"
        del self.expected[gone]
        (self._folder / gone).unlink()
        self.expected[target] = self.expected.pop(moved)
        (self._folder / moved).rename(self._folder / target)

    def _save(self, path: str, text: str) -> None:
        self.expected[path] = text
        (self._folder / path).write_text(text)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_every_step_again_and_again(site: IngestSite, when: str) -> None:
    changing = Changing(site.folder)
    await site.add_source()
    for nth, step in enumerate(WRITING, start=1):
        await crash(site, step, when, 1 + nth % 3)
        changing.change()
    async with site.worker():
        await site.settled()
        await check(site, changing.expected)
    for step in SETTLING:
        changing.change()
        await crash(site, step, when, 1)
    async with site.worker():
        await site.settled()
        await check(site, changing.expected)
        for path, text in list(changing.expected.items())[:3]:
            assert await site.finds(text), path


async def test_killed_while_postings_are_folded(site: IngestSite) -> None:
    expected = {f"{number}.txt": f"Folding survives, sentence {number}." for number in range(6)}
    for path, text in expected.items():
        (site.folder / path).write_text(text)
    await site.add_source()
    await crash(site, "fold", "before", 1)
    await crash(site, "fold", "after", 1)
    async with site.worker():
        await site.settled()
        await check(site, expected)
        found = await site.search("folding survives")
        assert len(found.candidates) == 6
        assert all(candidate.bm25 for candidate in found.candidates)
