"""Random histories of a folder with workers killed at random moments: `make soak`.

Each round draws a handful of operations (write, change, touch, rename, delete, a sidecar that opens, closes or breaks),
starts a worker, kills it with -9 after a random time, and now and then lets one finish; then catalogue and store must
hold exactly what the folder holds, readable by exactly whom the sidecars name. `REDOUBT_SOAK_ROUNDS` and
`REDOUBT_SOAK_SEED` repeat a run; the results of the last long one stand in `docs/soak.md`.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ingest_site import IngestSite, ingest_site
from redoubt import settings

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(7200)]
ROUNDS = int(os.environ.get("REDOUBT_SOAK_ROUNDS", "60"))
SEED = int(os.environ.get("REDOUBT_SOAK_SEED", str(int(time.time()))))
CHECK_EVERY = 5
GROUPS = ("everyone", "red", "blue")


@pytest.fixture
async def site(database: settings.Catalog, embedder: settings.Embedder) -> AsyncIterator[IngestSite]:
    async with ingest_site(database, embedder) as made:
        yield made


@dataclass
class Model:
    """The folder as it ought to be, and who may read what."""

    folder: Path
    dice: random.Random
    texts: dict[str, str] = field(default_factory=dict)
    groups: dict[str, list[str] | None] = field(default_factory=dict)
    counter: int = 0
    done: Counter[str] = field(default_factory=Counter)

    def step(self) -> None:
        """One random operation, on disk and in the model."""
        names = sorted(self.texts)
        operation = self.dice.choice(["write", "write", "change", "touch", "rename", "delete", "sidecar", "sidecar"])
        if operation == "write" or not names:
            operation, name = "write", f"d{self.dice.randrange(3)}/{self.dice.randrange(40):02}.txt"
        else:
            name = self.dice.choice(names)
        getattr(self, operation)(name)
        self.done[operation] += 1

    def write(self, name: str) -> None:
        self.counter += 1
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        self.texts[name] = f"Edition {self.counter} of a text about subject {self.counter % 17}."
        path.write_text(self.texts[name])

    change = write

    def touch(self, name: str) -> None:
        os.utime(self.folder / name)

    def rename(self, name: str) -> None:
        self.counter += 1
        target = f"d{self.dice.randrange(3)}/moved-{self.counter}.txt"
        (self.folder / target).parent.mkdir(exist_ok=True)
        (self.folder / name).rename(self.folder / target)
        self.texts[target] = self.texts.pop(name)
        if name in self.groups:
            self._sidecar(name).rename(self._sidecar(target))
            self.groups[target] = self.groups.pop(name)

    def delete(self, name: str) -> None:
        (self.folder / name).unlink()
        del self.texts[name]
        if name in self.groups:
            self._sidecar(name).unlink()
            del self.groups[name]

    def sidecar(self, name: str) -> None:
        chosen = self.dice.choice([["red"], ["blue", "red"], ["everyone"], [], None])
        self._sidecar(name).write_text("groups = nonsense" if chosen is None else f"groups = {chosen!r}\n")
        self.groups[name] = chosen or None

    def readable(self, group: str) -> set[str]:
        """The texts that a member of one group may find."""
        return {
            text for name, text in self.texts.items()
            if (groups := self.groups.get(name, ["everyone"])) and ({group, "everyone"} & set(groups))
        }  # fmt: skip

    def _sidecar(self, name: str) -> Path:
        return self.folder / f"{name}.meta.toml"


async def test_random_histories_with_kills(site: IngestSite, capsys: pytest.CaptureFixture[str]) -> None:
    dice = random.Random(SEED)
    model = Model(site.folder, dice)
    await site.add_source()
    await site.configure(sidecars=True)
    kills = checks = 0
    for number in range(1, ROUNDS + 1):
        for _ in range(dice.randrange(1, 9)):
            model.step()
        if number % CHECK_EVERY:
            async with site.worker() as process:
                for _ in range(dice.randrange(1, 4)):
                    await asyncio.sleep(dice.uniform(0.0, 2.5))
                    model.step()
                process.kill()
                assert await process.wait() == -9
            kills += 1
            continue
        async with site.worker():
            await site.settled(120)
            await agree(site, model)
        checks += 1
    with capsys.disabled():
        print(
            f"\nseed {SEED}: {ROUNDS} rounds, {kills} kills, {checks} comparisons, {dict(sorted(model.done.items()))}"
        )


async def agree(site: IngestSite, model: Model) -> None:
    """Catalogue, store and what each group finds are as the model has them."""
    documents = await site.documents()
    assert {path: row["text"] for path, row in documents.items()} == model.texts
    wanted = {path: model.groups.get(path, ["everyone"]) for path in model.texts}
    assert {path: row["groups"] for path, row in documents.items()} == {
        path: sorted(groups) if groups else None for path, groups in wanted.items()
    }
    held = await site.contents()
    assert Counter(row[0] for row in held) == Counter(list(model.texts))
    assert all(
        (version, acl) == (documents[path]["version"], documents[path]["acl_id"]) for path, version, acl, _ in held
    )
    assert await site.one("SELECT count(*) FROM pending WHERE state = 'queued'") == 0
    assert set((await site.failures()).values()) <= {"bad-sidecar"}
    for group in GROUPS:
        for subject in range(0, 17, 4):
            found = await site.search(f"a text about subject {subject}", group)
            assert {candidate.chunk.text for candidate in found.candidates} <= model.readable(group)
