"""Generations beside each other: each cut to its own budget, whole when it answers, of one embedder only."""

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from ingest_site import IngestSite, ingest_site
from redoubt import settings
from redoubt.clients.vllm import digest
from redoubt.errors import Conflict
from redoubt.store.catalog import indexes

pytestmark = pytest.mark.anyio
LONG = " ".join(f"Sentence number {n} tells of harbours, cranes and ropes in some detail." for n in range(40))


@pytest.fixture
async def site(database: settings.Catalog, embedder: settings.Embedder) -> AsyncIterator[IngestSite]:
    async with ingest_site(database, embedder) as made:
        yield made


async def admin(site: IngestSite) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(site.site.catalog.dsn_for("redoubt_admin"))


async def reindex(site: IngestSite, max_tokens: int, model: Path | None = None) -> None:
    async with await admin(site) as tx:
        live = await indexes.live(tx, "main")
        assert live is not None
        await indexes.add_generation(
            tx, "main", backend="pgvector", embedder=live.embedder, dimensions=live.dimensions, max_tokens=max_tokens,
            digest=digest(model) if model else live.embedder_digest,
        )  # fmt: skip

    async def ready() -> bool:
        return bool(await site.one("SELECT count(*) FROM generation WHERE state = 'ready'"))

    await site.until(ready, what="the new generation")


async def swap(site: IngestSite, kind: str = "swap") -> int:
    async with await admin(site) as tx:
        return (await indexes.swap(tx, "main", "test", kind=kind)).number


async def chunks(site: IngestSite) -> dict[str, tuple[int, int]]:
    """Version and number of chunks by path, in the live generation."""
    return {path: (version, count) for path, version, _, count in await site.contents()}


async def test_budgets_swap_and_rollback(site: IngestSite) -> None:
    for number in range(4):
        (site.folder / f"{number}.txt").write_text(f"Document {number}. {LONG}")
    await site.add_source()
    async with site.worker():
        await site.settled()
        whole = await chunks(site)
        await reindex(site, max_tokens=64)
        (site.folder / "0.txt").write_text(f"Document 0, another edition. {LONG}")
        await site.until(lambda: has(site, "0.txt", 2), what="a write into both")
        assert (await chunks(site))["0.txt"][1] == whole["0.txt"][1], "the old budget in the live generation"
        assert await swap(site) == 2
        small = await chunks(site)
        assert {count for _, count in small.values()} == {small["1.txt"][1]}, "the new budget, also while it was built"
        assert small["1.txt"][1] > 2 * whole["1.txt"][1]

        (site.folder / "1.txt").write_text("Document 1 became short.")
        (site.folder / "2.txt").unlink()
        await site.until(lambda: has(site, "1.txt", 2), what="a write into the new one only")
        assert await swap(site, "rollback") == 1
        assert "2.txt" not in await chunks(site), "what was deleted does not come back"

        async def made_whole() -> bool:
            return await chunks(site) == {"0.txt": (2, whole["0.txt"][1]), "1.txt": (2, 1), "3.txt": whole["3.txt"]}

        await site.until(made_whole, what="the old generation, brought up to date")
        assert await site.one("SELECT count(*) FROM release") == 3


async def test_another_embedder(site: IngestSite, tmp_path: Path) -> None:
    """Nothing of it enters an index that was built with the one before; what to do is said, and then done."""
    (site.folder / "a.txt").write_text("Alpha was here first.")
    (site.folder / "b.txt").write_text("Beta goes away.")
    await site.add_source()
    async with site.worker():
        await site.settled()
    model = tmp_path / "model"
    for file in site.site.embedder.path.rglob("*"):
        if file.is_file():
            target = model / file.relative_to(site.site.embedder.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file)
    (model / "another.txt").write_text("This makes it another model.")
    other = site.site.embedder.model_copy(update={"path": model})
    site.file.write_text(settings.dump_site(site.site.model_copy(update={"embedder": other})))
    (site.folder / "c.txt").write_text("Gamma came with the other embedder.")
    (site.folder / "b.txt").unlink()
    async with site.worker():

        async def told() -> bool:
            return "redoubt index reindex main" in (await site.one("SELECT coalesce(last_error, '') FROM source"))

        await site.until(told, what="what to do")
        await site.until(lambda: lacks(site, "b.txt"), what="a deletion needs no embedder")
        assert set(await chunks(site)) == {"a.txt"}
        await reindex(site, 256, model)
        assert await swap(site) == 2
        await site.until(lambda: has(site, "c.txt", 1), what="what had to wait for the swap")
        assert set(await chunks(site)) == {"a.txt", "c.txt"}


async def test_a_generation_that_lacks_something_is_not_swapped_in(site: IngestSite) -> None:
    (site.folder / "a.txt").write_text("Alpha.")
    await site.add_source()
    async with site.worker():
        await site.settled()
        await reindex(site, 64)
    async with await admin(site) as tx:
        await tx.execute("DELETE FROM indexed WHERE generation_id = (SELECT id FROM generation WHERE number = 2)")
    with pytest.raises(Conflict, match="lacks documents"):
        await swap(site)


async def has(site: IngestSite, path: str, version: int) -> bool:
    return (await site.documents()).get(path, {}).get("version") == version


async def lacks(site: IngestSite, path: str) -> bool:
    return path not in await site.documents()
