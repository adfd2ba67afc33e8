"""The embedded site's own database: made, migrated, with one key to begin with, and described in `site.toml`."""

import os
from pathlib import Path

from psycopg import sql

from redoubt import settings
from redoubt.embedded import vllm
from redoubt.embedded.postgres import DATABASE, SUPERUSER
from redoubt.embedded.state import Layout
from redoubt.store.catalog import keys
from redoubt.store.catalog.connect import single
from redoubt.store.catalog.migrate import migrate

KEY = "local"  # the name of the first key


def describe(layout: Layout, port: int, name: str, embedder: vllm.Vllm) -> settings.Site:
    """The site as its services and the command line find it."""
    return settings.Site(
        name=name,
        catalog=settings.Catalog(dsn=f"host={layout.postgres} dbname={DATABASE}"),
        embedder=settings.Embedder(url=embedder.url, model=vllm.MODEL, path=embedder.model, max_tokens=vllm.MAX_TOKENS),
        gateway=settings.Gateway(url=f"http://127.0.0.1:{port}", key_file=layout.key),
        index="main",
    )


def write_site(layout: Layout, site: settings.Site) -> None:
    """Replace `site.toml` whole; it holds no secret."""
    _replace(layout.site, settings.dump_site(site), 0o644)


async def prepare(layout: Layout) -> list[str]:
    """Create and migrate the database, make sure of the first key; returns the migrations that were applied."""
    admin = f"host={layout.postgres} user={SUPERUSER}"
    async with single(f"{admin} dbname=postgres", service="supervisor") as connection:
        row = await (await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))).fetchone()
        if row is None:
            await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    async with single(f"{admin} dbname={DATABASE}", service="supervisor") as connection:
        applied = await migrate(connection)
        hashed = keys.digest(_read(layout.key))
        if hashed is None or await keys.lookup(connection, hashed) is None:
            async with connection.transaction():
                if any(key.name == KEY for key in await keys.listing(connection)):
                    await keys.revoke(connection, KEY)
                _, secret = await keys.create(connection, KEY, [], None)
                # Before the commit: a key on file that is not in the catalogue is made anew at the next start.
                _replace(layout.key, secret + "\n", 0o600)
    return applied


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _replace(path: Path, text: str, mode: int) -> None:
    fresh = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        file.write(text)
    fresh.chmod(mode)
    fresh.replace(path)
