"""Connections to the catalogue: one pool a process, each driver error translated here once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from redoubt.errors import CatalogDown

Pool = AsyncConnectionPool[AsyncConnection[Any]]
_DOWN = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)


@asynccontextmanager
async def pool(
    dsn: str, *, service: str, size: int = 8, timeout_s: float = 5.0, autocommit: bool = False
) -> AsyncIterator[Pool]:
    """A pool of connections that name their service; `timeout_s` bounds the wait for a free one.

    `autocommit` spares two round trips a use, for a service whose every use is one statement.
    """
    conninfo = make_conninfo(dsn, application_name=f"redoubt-{service}", connect_timeout=5)
    connections: Pool = AsyncConnectionPool(
        conninfo,
        kwargs={"autocommit": autocommit},
        min_size=1,
        max_size=size,
        timeout=timeout_s,
        open=False,
        check=AsyncConnectionPool.check_connection,
    )
    async with connections:
        yield connections


@asynccontextmanager
async def connection(connections: Pool) -> AsyncIterator[AsyncConnection[Any]]:
    """A connection of the pool; what Postgres itself refuses to do reads as `CatalogDown`."""
    try:
        async with connections.connection() as taken:
            yield taken
    except _DOWN as error:
        raise down(error) from error


@asynccontextmanager
async def transaction(connections: Pool) -> AsyncIterator[AsyncConnection[Any]]:
    """A connection inside one transaction: all of it, or nothing."""
    async with connection(connections) as taken, taken.transaction():
        yield taken


@asynccontextmanager
async def single(dsn: str, *, service: str) -> AsyncIterator[AsyncConnection[Any]]:
    """One connection for one command, in autocommit."""
    try:
        async with await AsyncConnection.connect(
            dsn, application_name=f"redoubt-{service}", connect_timeout=5, autocommit=True
        ) as taken:
            yield taken
    except _DOWN as error:
        raise down(error) from error


def down(error: Exception) -> CatalogDown:
    """The driver's failure as ours; its text names hosts and roles, never a row's content."""
    return CatalogDown(
        "the catalogue (Postgres) does not answer",
        why=(str(error).strip().splitlines() or [type(error).__name__])[0],
        fix="see `redoubt status`; a stopped site starts with `redoubt up`",
    )
