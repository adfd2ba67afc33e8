"""`redoubt up`: a whole site on this machine, from nothing to searchable."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from redoubt import settings
from redoubt.cli import documents, output
from redoubt.cli.progress import Progress
from redoubt.cli.starting import begin, starting, wait_ready
from redoubt.embedded.services import ORDER
from redoubt.embedded.state import Layout, read
from redoubt.errors import InputError
from redoubt.store.catalog.sources import SourceStatus


def up(
    docs: Annotated[
        list[Path] | None,
        typer.Option("--docs", "-d", exists=True, file_okay=False, resolve_path=True, help="A folder; repeatable."),
    ] = None,
    name: Annotated[str, typer.Option(help="The site's name, for people.")] = "",
    group: Annotated[
        list[str] | None, typer.Option("--group", "-g", help="Who may read the folders; repeatable. [everyone]")
    ] = None,
    acl_file: Annotated[
        Path | None,
        typer.Option("--acl-file", exists=True, dir_okay=False, help="A source file with path patterns and groups."),
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The gateway's port on 127.0.0.1. [8460]")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the models and the documents.")] = False,
    json: output.JsonOption = False,
) -> None:
    """Start the site here, take in the folders, and return when everything found is searchable.

    What already runs is left alone, what was already taken in is not taken in again. State lives under
    REDOUBT_HOME; set it to keep two sites side by side, each on a port of its own.

    **Examples**

    `redoubt up --docs ~/handbook` · `redoubt up --docs ~/hr --group hr` · `redoubt up --json | jq -r .key`
    """
    out = output.writer(json)
    wanted = Wanted(docs or [], name, group or [], acl_file, port, detach)
    try:
        result = bring_up(wanted, Layout(settings.home()), out)
    except KeyboardInterrupt:
        out.note("what was begun goes on in the background: see `redoubt status`; `redoubt down` ends it")
        raise
    out.record(
        result,
        {"url": "address", "key": "key", "home": "home", "documents": "documents searchable", "failed": "failed"},
    )
    show_sources(out, result["sources"])
    show_next(out, result)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `up` was asked for."""

    docs: Sequence[Path] = ()
    name: str = ""
    groups: Sequence[str] = ()
    acl_file: Path | None = None
    port: int | None = None
    detach: bool = False


def bring_up(wanted: Wanted, layout: Layout, out: output.Writer) -> dict[str, Any]:
    """The use case: a running site that has taken in the folders; its address, key and documents."""
    began = time.monotonic()
    if (wanted.groups or wanted.acl_file) and not wanted.docs:
        raise InputError("--group and --acl-file say who may read a folder", fix="name the folder with --docs")
    if wanted.groups and wanted.acl_file:
        raise InputError("--group and --acl-file exclude each other", fix="write the group into the file's patterns")
    for folder in wanted.docs:
        if holds_home(folder, layout.home):
            raise InputError(
                f"{folder} holds the site's own state",
                why=f"{layout.home} is in it, and would be taken in with every change of it",
                fix="set REDOUBT_HOME to a folder elsewhere, or name the folders beside it",
            )
    with starting(layout), Progress(out.json) as progress:
        state, fresh = begin(layout, wanted.port, wanted.name, out)
        progress.known = [] if fresh else state.notes
        wait_ready(layout, progress, ("postgres", "catalog"))
        site = settings.load_site(layout.site)
        taken = asyncio.run(documents.take_in(site, wanted.docs, wanted.groups, wanted.acl_file))
        if not wanted.detach:
            wait_ready(layout, progress, ORDER)
    ready_s = time.monotonic() - began
    found: list[SourceStatus] = []
    if not wanted.detach:
        with Progress(out.json) as progress:
            found = asyncio.run(documents.searchable(site, progress))
    status = {row.source: row for row in found}
    return {
        "url": f"http://127.0.0.1:{state.port}",
        "key": layout.key.read_text("ascii").strip(),
        "home": layout.home,
        "documents": None if wanted.detach else sum(row.documents for row in found),
        "failed": None if wanted.detach else sum(row.failed for row in found),
        "without_acl": None if wanted.detach else sum(row.without_acl for row in found),
        "sources": [
            {
                "name": folder.name,
                "root": folder.root,
                "groups": folder.groups,
                "changed": folder.changed,
                "documents": status[folder.name].documents if folder.name in status else None,
                "failed": status[folder.name].failed if folder.name in status else None,
            }
            for folder in taken
        ],
        "detached": wanted.detach,
        "notes": (read(layout) or state).notes if fresh else [],
        "seconds": {"ready": round(ready_s, 2), "searchable": round(time.monotonic() - began, 2)},
    }


def holds_home(folder: Path, home: Path) -> bool:
    """Whether the folder, taken in, would bring the site's state with it; what is hidden is not taken in."""
    return home.is_relative_to(folder) and not any(part.startswith(".") for part in home.relative_to(folder).parts)


def show_sources(out: output.Writer, sources: list[dict[str, Any]]) -> None:
    """Which folders are in, and who may read them."""
    if sources and not out.json:
        out.show("")
        columns = {"name": "source", "root": "folder", "groups": "readable by", "documents": "documents"}
        out.rows(sources, {**columns, "failed": "failed"})


def show_next(out: output.Writer, result: dict[str, Any]) -> None:
    """What to do with it now."""
    if result["failed"]:
        out.show("", f"{result['failed']} documents could not be taken in: see `redoubt index failures`.")
    if result["without_acl"]:
        out.show(
            "", f"{result['without_acl']} documents are visible to nobody: no pattern of their source names a group."
        )
    if result["detached"]:
        out.show("", "The rest starts in the background: `redoubt status`, `redoubt index status`.")
    out.show(
        "",
        'next   redoubt ask "…"          an answer with its citations',
        "       redoubt index status     how fresh each source is",
        "       redoubt up --docs DIR    one more folder",
        "       redoubt down             stop; nothing is lost",
    )
