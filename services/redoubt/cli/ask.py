"""`redoubt ask`: a question through the public gateway, with the key of the site, of one's own, or of a group."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from typing import Annotated

import typer
from rich.text import Text

from redoubt import settings
from redoubt.cli import output
from redoubt.cli.exits import Exit
from redoubt.clients.gateway import Gateway, Reply
from redoubt.errors import AuthError
from redoubt.store.catalog import keys
from redoubt.store.catalog.connect import single

KeyOption = Annotated[
    str | None, typer.Option("--key", envvar="REDOUBT_KEY", help="An API key; the site's own key if none is given.")
]
GroupOption = Annotated[
    list[str] | None,
    typer.Option("--group", "-g", help="Ask as a member of this group (repeatable); needs the site's catalogue."),
]
IndexOption = Annotated[str | None, typer.Option("--index", "-i", help="The index; the site's own if none is named.")]

_TEMPORARY = timedelta(minutes=5)


def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    index: IndexOption = None,
    key: KeyOption = None,
    group: GroupOption = None,
    json: output.JsonOption = False,
) -> None:
    """Ask a question; answered with quotes from the documents that the key may read.

    Exit code 0: answered. 3: refused, since nothing that may be read supports an answer.
    """
    site = settings.load_site()
    out = output.writer(json)
    reply = asyncio.run(_ask(access(site, key, group or []), question, index or site.index, out))
    if json:
        out.record({"answer": reply.text, **reply.redoubt})
    else:
        _show(out, reply)
    if reply.refused:
        raise typer.Exit(Exit.REFUSED)


async def _ask(entering: AbstractAsyncContextManager[Gateway], question: str, index: str, out: output.Writer) -> Reply:
    def show(piece: str) -> None:
        out.show(Text(piece.rstrip("\n") + "\n"))

    async with entering as gateway:
        return await gateway.ask(question, index, None if out.json else show)


def _show(out: output.Writer, reply: Reply) -> None:
    redoubt = reply.redoubt
    if reply.refused:
        out.show(Text(reply.text))
    else:
        columns = {
            "number": "", "document": "document", "source": "source", "version": "version", "page": "page",
            "as of": "as of", "score": "score",
        }  # fmt: skip
        out.rows([{**cited, "as of": cited["as_of"][:10]} for cited in redoubt["citations"]], columns)
    stages = ", ".join(f"{name} {took:.0f}" for name, took in redoubt["stages"].items())
    fresh = redoubt["freshness"]["last_success_at"]
    out.note(f"{f'sources last checked {fresh[:19]}Z; ' if fresh else ''}milliseconds: {stages}")


def access(site: settings.Site, key: str | None, groups: list[str]) -> AbstractAsyncContextManager[Gateway]:
    """The gateway with the key that was named, with the site's own, or with one made for `groups` meanwhile."""
    return _as_group(site, groups) if groups else _gateway(site, key or _site_key(site.gateway.key_file))


def _gateway(site: settings.Site, key: str) -> Gateway:
    return Gateway(site.gateway.url, key, ca_file=site.gateway.ca_file)


@asynccontextmanager
async def _as_group(site: settings.Site, groups: list[str]) -> AsyncIterator[Gateway]:
    name = f"ask-{token_hex(6)}"
    dsn = site.catalog.dsn_for(site.catalog.admin_role)
    async with single(dsn, service="cli") as connection:
        _, secret = await keys.create(connection, name, groups, _TEMPORARY)
        try:
            async with _gateway(site, secret) as gateway:
                yield gateway
        finally:
            await keys.revoke(connection, name)


def _site_key(path: Path | None) -> str:
    if path is None:
        raise AuthError("no key was given", why="the site names none", fix="pass --key, or set REDOUBT_KEY")
    try:
        return path.read_text("utf-8").strip()
    except OSError as error:
        raise AuthError(
            "the site's key cannot be read", why=f"{path}: {error.strerror}", fix="pass --key, or set REDOUBT_KEY"
        ) from error
