"""`redoubt index`: what is searchable, how fresh, what failed; and generations, built beside and swapped."""

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer
from psycopg import AsyncConnection

from redoubt import settings
from redoubt.cli import output
from redoubt.clients.vllm import Embedder, digest
from redoubt.store.catalog import backlog, indexes, sources
from redoubt.store.catalog.connect import pool, single
from redoubt.store.pgvector.store import PgvectorStore

app = typer.Typer(no_args_is_help=True, help="Indexes: status, failures, and generations built beside the live one.")
Name = Annotated[str, typer.Argument(help="The index. [the site's]")]
T = TypeVar("T")


def _catalog(work: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
    """Run one use case in one transaction, as the site's admin."""
    site = settings.load_site()

    async def run() -> T:
        async with single(site.catalog.dsn_for(site.catalog.admin_role), service="cli") as taken, taken.transaction():
            return await work(taken)

    return asyncio.run(run())


def _named(name: str) -> str:
    return name or settings.load_site().index


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="a-z, 0-9, - and _.")],
    alpha: Annotated[
        float, typer.Option(min=0, max=1, help="Weight of meaning against words.")
    ] = indexes.DEFAULT_TUNING[0],
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Confidence below which a question is refused.")
    ] = indexes.DEFAULT_TUNING[1],
    json: output.JsonOption = False,
) -> None:
    """Make an index; the worker gives it its first generation within seconds.

    **Examples**

    `redoubt index create research` then `redoubt source add /srv/papers --index research --group research`
    """

    async def work(tx: AsyncConnection[Any]) -> None:
        await indexes.create(tx, name, alpha, threshold)
        await tx.execute("SELECT pg_notify(%s, '')", (sources.CHANNEL,))

    _catalog(work)
    output.writer(json).record({"index": name, "alpha": alpha, "threshold": threshold})


@app.command()
def status(name: Name = "", json: output.JsonOption = False) -> None:
    """Show what is searchable, what waits, what failed, and how fresh each source is.

    **Examples**

    `redoubt index status` · `redoubt index status --json | jq '.sources[] | select(.failed > 0)'`
    """

    async def work(tx: AsyncConnection[Any]) -> tuple[list[indexes.IndexRow], list[sources.SourceStatus]]:
        if name:
            await indexes.id_of(tx, name)
        return await indexes.listing(tx), await sources.status(tx, name or None)

    rows, fed = _catalog(work)
    rows = [row for row in rows if name in ("", row.name)]
    show(output.writer(json), rows, fed)


def show(out: output.Writer, rows: list[indexes.IndexRow], fed: list[sources.SourceStatus]) -> None:
    """Two tables for eyes, one object for scripts."""
    if out.json:
        out.record({"indexes": rows, "sources": fed})
        return
    now = datetime.now(UTC)
    out.rows(
        [
            {
                "source": row.source, "index": row.index, "documents": row.documents, "chunks": row.chunks,
                "waiting": row.queued + row.deleting, "failed": row.failed, "nobody": row.without_acl,
                "scanned": _ago(now, row.last_success_at), "newest": _ago(now, row.newest_searchable_at),
                "p50": output.duration(row.freshness_p50_s), "p95": output.duration(row.freshness_p95_s),
            }
            for row in fed
        ],
        {"source": "source", "index": "index", "documents": "documents", "chunks": "passages", "waiting": "waiting",
         "failed": "failed", "nobody": "readable by nobody", "scanned": "last scan", "newest": "newest searchable",
         "p50": "freshness p50", "p95": "p95"},
        empty="no source yet: `redoubt source add FOLDER`",
    )  # fmt: skip
    for row in fed:
        if row.last_error:
            out.note(f"{row.source}: {row.last_error}")
        if row.without_acl:
            out.note(f"{row.source}: {row.without_acl} documents match no access rule, so nobody may read them")
        if row.failed:
            out.note(f"{row.source}: {row.failed} documents are parked; see `redoubt index failures`")
    out.rows(
        rows,
        {"name": "index", "live": "generation", "previous": "before", "building": "in the making",
         "embedder": "embedder", "alpha": "α", "threshold": "threshold"},
    )  # fmt: skip


@app.command()
def failures(name: Name = "", json: output.JsonOption = False) -> None:
    """Show the documents that could not be taken in, each with its reason.

    A parked document is tried again when its file changes.

    **Examples**

    `redoubt index failures` · `redoubt index failures --json | jq -r '.[] | [.reason, .path] | @tsv'`
    """
    found = _catalog(lambda tx: backlog.failures(tx, name or None))
    output.writer(json).rows(
        found,
        {"source": "source", "path": "document", "reason": "reason", "detail": "what to know", "parked_at": "since"},
        empty="nothing failed",
    )


@app.command()
def reindex(name: Name = "", json: output.JsonOption = False) -> None:
    """Build a new generation beside the live one, with the embedder that runs now.

    Answers come from the old one until `redoubt index swap`.

    **Examples**

    `redoubt index reindex` then `redoubt index status` then `redoubt index swap`
    """
    site, index = settings.load_site(), _named(name)

    async def work(tx: AsyncConnection[Any]) -> Any:
        await indexes.id_of(tx, index)
        async with Embedder(site.embedder.url, site.embedder.model, api_key=site.embedder.api_key) as embedder:
            dimensions = int((await embedder.embed(["ready"])).shape[1])
        made = await indexes.add_generation(
            tx, index, backend="pgvector", embedder=site.embedder.model,
            digest=await asyncio.to_thread(digest, site.embedder.path), dimensions=dimensions,
            max_tokens=site.embedder.max_tokens,
        )  # fmt: skip
        await tx.execute("SELECT pg_notify(%s, '')", (sources.CHANNEL,))
        return made

    made = _catalog(work)
    output.writer(json).record({"index": made.index, "generation": made.number, "state": "building"})


@app.command()
def swap(name: Name = "", json: output.JsonOption = False) -> None:
    """Answer from the generation that is ready; the old one stays for `redoubt index rollback`.

    **Examples**

    `redoubt index swap` · `redoubt index swap research`
    """
    _swap(name, "swap", json)


@app.command()
def rollback(name: Name = "", json: output.JsonOption = False) -> None:
    """Answer from the generation before again.

    **Examples**

    `redoubt index rollback`
    """
    _swap(name, "rollback", json)


def _swap(name: str, kind: str, json: bool) -> None:
    index = _named(name)
    now = _catalog(lambda tx: indexes.swap(tx, index, getpass.getuser(), kind=kind))
    output.writer(json).record({"index": index, "generation": now.number, "state": "live"})


@app.command()
def drop(
    name: Annotated[str, typer.Argument(help="The index.")],
    generation: Annotated[
        int | None, typer.Option(min=1, help="Only this generation, which must not be the live one.")
    ] = None,
    json: output.JsonOption = False,
) -> None:
    """Drop an index that no source feeds, or one of its generations.

    **Examples**

    `redoubt index drop research` · `redoubt index drop main --generation 1`
    """
    site = settings.load_site()

    async def run() -> list[int]:
        admin = site.catalog.dsn_for(site.catalog.admin_role)
        async with single(admin, service="cli") as taken, taken.transaction():
            gone = await indexes.drop(taken, name, generation)
        async with pool(admin, service="cli", size=1) as connections:
            for one in gone:
                await PgvectorStore(connections).drop(one.id)
        return [one.number for one in gone]

    output.writer(json).record({"index": name, "dropped": asyncio.run(run())})


def _ago(now: datetime, at: datetime | None) -> str:
    return "never" if at is None else output.duration(max(0.0, (now - at).total_seconds())) + " ago"
