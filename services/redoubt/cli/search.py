"""`redoubt search`: the passages themselves, ranked, before anything is judged or quoted."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any

import typer

from redoubt import settings
from redoubt.cli import output
from redoubt.cli.ask import GroupOption, IndexOption, KeyOption, access
from redoubt.clients.gateway import Gateway

_SHOWN_CHARS = 100


def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    *,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=100, help="Passages at most.")] = 10,
    index: IndexOption = None,
    key: KeyOption = None,
    group: GroupOption = None,
    json: output.JsonOption = False,
) -> None:
    """Show the best passages that the key may read, with their scores by leg."""
    site = settings.load_site()
    hits = asyncio.run(_search(access(site, key, group or []), query, index or site.index, top_k))
    out = output.writer(json)
    columns = {"score": "score", "dense": "dense", "sparse": "sparse", "document": "document", "passage": "passage"}
    out.rows(hits if json else [_row(hit) for hit in hits], columns, empty="nothing that this key may read matches")


async def _search(
    entering: AbstractAsyncContextManager[Gateway], query: str, index: str, top_k: int
) -> list[dict[str, Any]]:
    async with entering as gateway:
        return await gateway.search(query, index, top_k)


def _row(hit: dict[str, Any]) -> dict[str, Any]:
    text = " ".join(str(hit["text"]).split())
    return {**hit, **hit["scores"], "passage": text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"}
