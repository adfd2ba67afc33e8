"""Brings the catalogue's schema to this version: numbered SQL files, each applied once, in one transaction.

procrastinate's own schema comes first, so that one command prepares a site's whole database.
"""

from importlib.resources import files
from typing import Any

import psycopg
from procrastinate.schema import SchemaManager
from psycopg import AsyncConnection, sql

from redoubt.errors import Conflict

_LOCK = 0x7265646F756274  # "redoubt": one migration at a time
SERVICE_ROLES = ("redoubt_gateway", "redoubt_ingest", "redoubt_exporter")


def migrations() -> list[tuple[int, str, str]]:
    """(number, name, SQL) of every migration, in order."""
    folder = files("redoubt.store.catalog") / "migrations"
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(int(name[:4]), name.removesuffix(".sql"), (folder / name).read_text("utf-8")) for name in found]


async def migrate(connection: AsyncConnection[Any]) -> list[str]:
    """Apply what is missing and return its names; needs a role that may create roles and extensions."""
    applied: list[str] = []
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migration "
            "(number int PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        rows = await (await connection.execute("SELECT number FROM migration")).fetchall()
        present = {row[0] for row in rows}
        known = migrations()
        if unknown := present - {0, *(number for number, _, _ in known)}:
            raise Conflict(
                "the catalogue was made by a newer Redoubt",
                why=f"it holds migration {max(unknown)}, this version ends at {known[-1][0]}",
                fix="use the newer version, or restore the backup that was taken before the upgrade",
            )
        await _ensure_roles(connection)
        if 0 not in present:
            await _run(connection, 0, "procrastinate", SchemaManager.get_schema())
            applied.append("procrastinate")
        for number, name, text in known:
            if number not in present:
                await _run(connection, number, name, text)
                applied.append(name)
        await _grant(connection)
    return applied


async def _run(connection: AsyncConnection[Any], number: int, name: str, text: str) -> None:
    await connection.execute(text.encode())
    await connection.execute("INSERT INTO migration (number, name) VALUES (%s, %s)", (number, name))


async def _ensure_roles(connection: AsyncConnection[Any]) -> None:
    for role in SERVICE_ROLES:
        try:
            async with connection.transaction():
                await connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            continue  # roles belong to the cluster: another database's migration may have made it


async def _grant(connection: AsyncConnection[Any]) -> None:
    """Give each service what it needs and no more; said at every migration, so that new tables are covered."""
    text = (files("redoubt.store.catalog") / "grants.sql").read_text("utf-8")
    await connection.execute(text.encode())
