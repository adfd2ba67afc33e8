"""The catalogue's schema: applied once, refused when it is from the future, and each role has only its rights."""

import psycopg
import pytest

from redoubt.errors import Conflict
from redoubt.settings import Catalog
from redoubt.store.catalog.connect import single
from redoubt.store.catalog.migrate import migrate

pytestmark = pytest.mark.anyio


async def test_a_second_migration_changes_nothing(database: Catalog) -> None:
    async with single(database.dsn_for(database.admin_role), service="test") as admin:
        assert await migrate(admin) == []


async def test_a_catalogue_from_the_future_is_refused(database: Catalog) -> None:
    async with single(database.dsn_for(database.admin_role), service="test") as admin:
        await admin.execute("INSERT INTO migration (number, name) VALUES (9999, 'tomorrow')")
        with pytest.raises(Conflict, match="newer Redoubt"):
            await migrate(admin)


@pytest.mark.parametrize("statement", ["UPDATE audit SET status = 1", "DELETE FROM audit", "TRUNCATE audit"])
async def test_the_audit_trail_is_append_only_even_for_the_admin(database: Catalog, statement: str) -> None:
    async with single(database.dsn_for(database.admin_role), service="test") as admin:
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            await admin.execute(statement.encode())


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("redoubt_gateway", "SELECT * FROM audit"),
        ("redoubt_gateway", "UPDATE document SET title = ''"),
        ("redoubt_gateway", "INSERT INTO api_key (name, hash, groups) VALUES ('x', '', '{}')"),
        ("redoubt_ingest", "SELECT * FROM api_key"),
        ("redoubt_ingest", "SELECT * FROM audit"),
        ("redoubt_exporter", "SELECT * FROM api_key"),
        ("redoubt_exporter", "DELETE FROM pending"),
    ],
)
async def test_a_service_cannot_do_what_it_has_no_need_of(database: Catalog, role: str, statement: str) -> None:
    async with single(database.dsn_for(role), service="test") as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute(statement.encode())
