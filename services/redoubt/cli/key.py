"""`redoubt key`: who may ask, and as a member of which groups."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from psycopg import AsyncConnection

from redoubt import settings
from redoubt.cli import output
from redoubt.errors import InputError
from redoubt.store.catalog import keys
from redoubt.store.catalog.connect import single

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST = timedelta(days=3650)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="A name to know the key by.")],
    group: Annotated[
        list[str] | None, typer.Option("--group", "-g", help="A group that the key's holder is in (repeatable).")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="Lifetime, such as 90d, 12h, 30m, 4w; without: for ever.")] = None,
    json: output.JsonOption = False,
) -> None:
    """Make a key. Its secret is shown this once: only its hash is kept."""
    lifetime = None if expires is None else parse_lifetime(expires)
    key, secret = asyncio.run(_create(name, group or [], lifetime))
    out = output.writer(json)
    out.record(
        {"key": secret, "name": key.name, "groups": key.groups, "expires_at": key.expires_at, "id": key.id},
        {"key": "key", "name": "name", "groups": "groups", "expires_at": "expires"},
    )
    out.note("Keep the key now: it cannot be shown again.")


@app.command("list")
def list_(
    every: Annotated[bool, typer.Option("--all", help="Also revoked and expired keys.")] = False,
    json: output.JsonOption = False,
) -> None:
    """List the keys, without their secrets."""
    found = asyncio.run(_list(every))
    now = datetime.now(UTC)
    rows = [{**_plain(key), "state": _state(key, now)} for key in found]
    columns = {"name": "name", "groups": "groups", "state": "state", "created_at": "created", "expires_at": "expires"}
    shown = [row for row in rows if every or row["state"] == "valid"]
    output.writer(json).rows(shown, columns, empty="no keys; make one with `redoubt key create NAME`")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    json: output.JsonOption = False,
) -> None:
    """Take a key back; no gateway accepts it a second later."""
    key = asyncio.run(_revoke(name))
    output.writer(json).record(
        {"name": key.name, "revoked_at": key.revoked_at, "id": key.id}, {"name": "name", "revoked_at": "revoked"}
    )


def parse_lifetime(text: str) -> timedelta:
    """`90d`, `12h`, `30m`, `4w` as a length of time."""
    found = re.fullmatch(r"([1-9]\d{0,6})([mhdw])", text.strip())
    lifetime = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None
    if lifetime is None or lifetime > _LONGEST:
        raise InputError(
            f"{text!r} is no lifetime",
            why="a lifetime is a number and one of m, h, d, w, up to ten years",
            fix="for example --expires 90d",
        )
    return lifetime


@asynccontextmanager
async def _catalog() -> AsyncIterator[AsyncConnection[Any]]:
    catalog = settings.load_site().catalog
    async with single(catalog.dsn_for(catalog.admin_role), service="cli") as connection:
        yield connection


async def _create(name: str, groups: list[str], lifetime: timedelta | None) -> tuple[keys.Key, str]:
    async with _catalog() as connection:
        return await keys.create(connection, name, groups, lifetime)


async def _list(every: bool) -> list[keys.Key]:
    async with _catalog() as connection:
        return await keys.listing(connection, revoked=every)


async def _revoke(name: str) -> keys.Key:
    async with _catalog() as connection:
        return await keys.revoke(connection, name)


def _plain(key: keys.Key) -> dict[str, Any]:
    names = ("id", "name", "groups", "created_at", "expires_at", "revoked_at")
    return {name: getattr(key, name) for name in names}


def _state(key: keys.Key, now: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "valid"
