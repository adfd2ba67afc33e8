"""`redoubt source`: the folders that documents come from."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from redoubt import settings
from redoubt.cli import output
from redoubt.ingest import register
from redoubt.store.catalog import sources
from redoubt.store.catalog.connect import single

app = typer.Typer(no_args_is_help=True, help="Folders that documents come from: add, list, remove.")


@app.command()
def add(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, resolve_path=True, help="The folder.")],
    name: Annotated[str, typer.Option(help="The source's name. [the folder's]")] = "",
    group: Annotated[
        list[str] | None, typer.Option("--group", "-g", help="Who may read all of it; repeatable.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", exists=True, dir_okay=False, help="A source file with path patterns.")
    ] = None,
    index: Annotated[str, typer.Option(help="The index that it feeds. [the site's]")] = "",
    objective: Annotated[
        float, typer.Option(min=0.1, help="Seconds from a change to searchable that are aimed at.")
    ] = 60.0,
    json: output.JsonOption = False,
) -> None:
    """Take in a folder, and whatever changes in it from now on.

    Without --group and --file, everyone with a key may read it.

    **Examples**

    `redoubt source add ~/handbook` · `redoubt source add /srv/hr --group hr` ·
    `redoubt source add /srv/all -f source.toml`
    """
    site, out = settings.load_site(), output.writer(json)
    config = register.describe(folder, name=name, groups=group or (), file=file)

    async def run() -> register.Registered:
        async with single(site.catalog.dsn_for(site.catalog.admin_role), service="cli") as taken, taken.transaction():
            return await register.add(taken, config, index or site.index, objective)

    added = asyncio.run(run())
    out.record(
        {
            "source": added.source,
            "folder": added.folder,
            "index": added.index,
            "groups": added.groups,
            "changed": added.changed,
        },
        {"source": "source", "folder": "folder", "index": "index", "groups": "readable by"},
    )
    out.note("see `redoubt index status` for how far it is")


@app.command("list")
def listing(json: output.JsonOption = False) -> None:
    """Show the sources.

    **Examples**

    `redoubt source list` · `redoubt source list --json | jq -r '.[].name'`
    """
    site, out = settings.load_site(), output.writer(json)

    async def run() -> list[sources.SourceRow]:
        async with single(site.catalog.dsn_for(site.catalog.admin_role), service="cli") as taken:
            return await sources.listing(taken)

    out.rows(
        [_row(row) for row in asyncio.run(run())],
        {"name": "source", "folder": "folder", "index": "index", "groups": "readable by", "last_error": "problem"},
        empty="no source yet: `redoubt source add FOLDER`",
    )


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="The source's name.")],
    json: output.JsonOption = False,
) -> None:
    """Remove a source: its documents cannot be found from now on, and are then taken out.

    The folder itself is not touched.

    **Examples**

    `redoubt source remove handbook`
    """
    site, out = settings.load_site(), output.writer(json)

    async def run() -> None:
        async with single(site.catalog.dsn_for(site.catalog.admin_role), service="cli") as taken, taken.transaction():
            await sources.remove(taken, name)

    asyncio.run(run())
    out.record({"removed": name})


def _row(row: sources.SourceRow) -> dict[str, Any]:
    rules = row.config.get("acl", [])
    whole = ", ".join(rules[0]["groups"]) if [r["pattern"] for r in rules] == ["**"] else f"{len(rules)} patterns"
    return {
        "name": row.name, "folder": row.config.get("root"), "index": row.index, "groups": whole,
        "sidecars": row.config.get("sidecars", False), "objective_seconds": row.objective_seconds,
        "last_success_at": row.last_success_at, "last_error": row.last_error or "",
    }  # fmt: skip
