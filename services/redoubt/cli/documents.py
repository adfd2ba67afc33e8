"""Folders on the command line: named, given their readers, taken in, and waited for until they are searchable."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redoubt import settings
from redoubt.cli.progress import Progress
from redoubt.errors import Unavailable
from redoubt.ingest import register
from redoubt.store.catalog import sources
from redoubt.store.catalog.connect import single

POLL_S = 0.25
STALLED_S = 120.0  # without any progress, waiting is given up


@dataclass(frozen=True, slots=True)
class Taken:
    """A folder as it is now a source."""

    name: str
    root: Path
    groups: list[str]  # who may read something in it
    changed: bool  # it is new, or its rules are


async def take_in(
    site: settings.Site, folders: Sequence[Path], groups: Sequence[str], acl_file: Path | None
) -> list[Taken]:
    """Make each folder a source, or give it these rules; a known folder keeps its own if none are given.

    Otherwise a folder that is for one group only would open to everyone by being named again.
    """
    taken: list[Taken] = []
    async with single(site.catalog.dsn_for(site.catalog.admin_role), service="cli") as connection:
        for folder in folders:
            known = {row.name: row for row in await sources.listing(connection, removed=True)}
            same = next((row for row in known.values() if row.config.get("root") == str(folder)), None)
            if same is not None and same.removed_at is None and not groups and acl_file is None:
                taken.append(Taken(same.name, folder, _readers(same.config), changed=False))
                continue
            config = register.describe(folder, name=same.name if same else "", groups=groups, file=acl_file)
            if same is None:
                config = config.model_copy(update={"name": free_name(config.name or "", set(known))})
            async with connection.transaction():
                added = await register.add(connection, config, site.index)
            taken.append(Taken(added.source, folder, _readers(config.model_dump()), added.changed))
    return taken


def free_name(wanted: str, taken: set[str]) -> str:
    """The name, with a number if another folder has it."""
    return next(name for name in [wanted, *(f"{wanted[:50]}-{n}" for n in range(2, 10_000))] if name not in taken)


def _readers(config: dict[str, Any]) -> list[str]:
    return sorted({group for rule in config.get("acl", ()) for group in rule["groups"]})


async def searchable(site: settings.Site, progress: Progress) -> list[sources.SourceStatus]:
    """Return when every source was scanned and nothing found is pending; parked documents do not hold it up."""
    loop = asyncio.get_running_loop()
    before: tuple[int, ...] = ()
    moved = loop.time()
    async with single(site.catalog.dsn_for(site.catalog.admin_role), service="cli") as connection:
        while True:
            found = await sources.status(connection)
            pending = sum(row.queued + row.deleting for row in found)
            now = (sum(row.documents for row in found), pending, sum(row.failed for row in found))
            progress.documents(*now, scanning=not all(row.scanned for row in found))
            if pending == 0 and all(row.scanned for row in found):
                return found
            if now != before:
                before, moved = now, loop.time()
            elif loop.time() - moved > STALLED_S:
                raise Unavailable(
                    f"nothing became searchable for {STALLED_S:.0f} s; {pending} documents are pending",
                    why=next((row.last_error for row in found if row.last_error), None) or "the worker may be stuck",
                    fix="see `redoubt index status` and `redoubt logs ingest`; the work goes on in the background",
                )
            await asyncio.sleep(POLL_S)
