"""kill -9 at every named step of a document's journey, repeated: nothing lost, nothing twice, each with its ACL."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from ingest_site import IngestSite, ingest_site
from redoubt import settings

pytestmark = pytest.mark.anyio
STEPS = ("read", "parse", "embed", "catalogue", "write", "mark", "settle", "commit")


@pytest.fixture
async def site(database: settings.Catalog, embedder: settings.Embedder) -> AsyncIterator[IngestSite]:
    async with ingest_site(database, embedder) as made:
        yield made


async def crash(site: IngestSite, step: str, when: str, nth: int) -> None:
    """Start a worker that dies at the step; it has to die there, by its own hand."""
    command = ("tests/integration/crashing_worker.py", step, when, str(nth))
    async with site.worker(*command) as process:
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


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_every_step_again_and_again(site: IngestSite, when: str) -> None:
    expected = {}
    for number in range(12):
        expected[f"{number}.txt"] = f"Sentence number {number} of the first edition."
        (site.folder / f"{number}.txt").write_text(expected[f"{number}.txt"])
    await site.add_source()
    for nth, step in enumerate(STEPS, start=1):
        await crash(site, step, when, 1 + nth % 3)
        # Work is left for every crash: the next step meets changed, new, and gone documents.
        changed, gone = f"{nth % 6}.txt", f"{6 + nth % 6}.txt"
        expected[changed] = f"Sentence changed before crash number {nth}."
        (site.folder / changed).write_text(expected[changed])
        expected[f"new{nth}.txt"] = f"Sentence that came before crash number {nth}."
        (site.folder / f"new{nth}.txt").write_text(expected[f"new{nth}.txt"])
        expected.pop(gone, None)
        (site.folder / gone).unlink(missing_ok=True)
    async with site.worker():
        await site.settled()
        await check(site, expected)
        for path, text in list(expected.items())[:3]:
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
