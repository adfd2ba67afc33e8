"""Keys through the front door: every kind of wrong key reads the same, and a revoked one ends within a second."""

import asyncio
from datetime import timedelta
from time import monotonic

import httpx
import pytest

from gateway_site import Corpus, Served, end_backends, serving
from redoubt import settings
from redoubt.errors import AuthError, Conflict, InputError, NotFound
from redoubt.gateway.auth import KeyRing
from redoubt.store.catalog import keys
from redoubt.store.catalog.connect import pool, transaction

pytestmark = pytest.mark.anyio

ROUTES = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/main"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/search"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/documents/00000000-0000-0000-0000-000000000000/versions/1"),
    ("GET", "/v1/anything/else"),
]


async def until_revoked(client: httpx.AsyncClient, seconds: float = 5) -> float:
    began = monotonic()
    while (await client.get("/v1/models")).status_code != 401:
        assert monotonic() - began < seconds, "the key still works"
    return monotonic() - began


async def test_no_route_answers_without_a_key(gateway: Served) -> None:
    async with gateway.client() as client:
        for method, path in ROUTES:
            response = await client.request(method, path, content=b"{not even json" if method == "POST" else None)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["error"]["type"] == "authentication_error"


async def test_every_wrong_key_reads_the_same(gateway: Served, corpus: Corpus) -> None:
    expired = await corpus.key("expired", lifetime=timedelta(days=1))
    await corpus.execute("UPDATE api_key SET expires_at = now() - interval '1 s' WHERE name = 'expired'")
    revoked = await corpus.key("revoked")
    await corpus.execute("UPDATE api_key SET revoked_at = now() WHERE name = 'revoked'")
    unknown = "rdt_" + "a" * 52
    bodies = set()
    async with gateway.client() as client:
        for header in (
            None, "", "Bearer", f"Bearer {unknown}", f"Bearer {expired}", f"Bearer {revoked}",
            f"Basic {expired}", f"Bearer {expired}x", "Bearer " + "x" * 5000, f"Bearer {unknown.upper()}", "Bearer ä",
        ):  # fmt: skip
            headers = {} if header is None else {"Authorization": header.encode("latin-1")}
            response = await client.get("/v1/models", headers=headers)
            assert response.status_code == 401, header
            bodies.add(response.text)
    assert len(bodies) == 1


async def test_only_the_hash_of_a_key_is_kept(corpus: Corpus) -> None:
    secret = await corpus.key("anna", "hr")
    (row,) = await corpus.execute("SELECT * FROM api_key")
    assert secret.removeprefix("rdt_") not in repr(row)
    assert row["hash"] == keys.digest(secret)
    assert row["groups"] == ["everyone", "hr"]


async def test_a_believed_key_is_revoked_within_a_second(gateway: Served, corpus: Corpus) -> None:
    key = await corpus.key("anna")
    async with gateway.client(key) as client:
        for _ in range(3):
            assert (await client.get("/v1/models")).status_code == 200
        await corpus.execute("UPDATE api_key SET revoked_at = now() WHERE name = 'anna'")
        assert await until_revoked(client) < 1


async def test_new_groups_of_a_key_hold_within_a_second(gateway: Served, corpus: Corpus) -> None:
    document = await corpus.add("hr/pay.md", "Salaries are paid monthly.", ["hr"])
    key = await corpus.key("anna")
    path = f"/v1/documents/{document}/versions/1"
    async with gateway.client(key) as client:
        assert (await client.get(path)).status_code == 404
        await corpus.execute("UPDATE api_key SET groups = '{everyone,hr}' WHERE name = 'anna'")
        began = monotonic()
        while (await client.get(path)).status_code != 200:
            assert monotonic() - began < 1


async def test_revocation_holds_when_nobody_tells_of_it(site: settings.Site, corpus: Corpus) -> None:
    """The listening connection is cut again and again, and the notification is suppressed altogether."""
    await corpus.execute("ALTER TABLE api_key DISABLE TRIGGER api_key_changed")
    key = await corpus.key("anna")
    async with serving(site) as served, served.client(key) as client:
        assert (await client.get("/v1/models")).status_code == 200
        assert await end_backends(site.catalog, "redoubt-gateway-keys") == 1
        await corpus.execute("UPDATE api_key SET revoked_at = now() WHERE name = 'anna'")
        assert await until_revoked(client) < 1


async def test_a_lookup_overtaken_by_a_revocation_is_not_remembered(
    database: settings.Catalog, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await corpus.key("anna")
    original, reached, go_on = keys.lookup, asyncio.Event(), asyncio.Event()

    async def slow(connection: object, hashed: bytes) -> object:
        found = await original(connection, hashed)
        reached.set()
        await go_on.wait()
        return found

    dsn = database.dsn_for(database.gateway_role)
    async with pool(dsn, service="test") as connections:
        ring = KeyRing(connections, dsn, cache_s=60, timeout_s=5)
        async with ring.listening():
            while not ring.believing:
                await asyncio.sleep(0.01)
            monkeypatch.setattr(keys, "lookup", slow)
            first = asyncio.create_task(ring.principal(f"Bearer {key}"))
            await reached.wait()
            monkeypatch.setattr(keys, "lookup", original)
            epoch = ring._epoch
            await corpus.execute("UPDATE api_key SET revoked_at = now() WHERE name = 'anna'")
            while ring._epoch == epoch:
                await asyncio.sleep(0.01)
            go_on.set()
            await first  # it was valid when it was asked
            with pytest.raises(AuthError):
                await ring.principal(f"Bearer {key}")


async def test_a_believed_key_costs_no_query(
    database: settings.Catalog, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await corpus.key("anna", "hr")
    now = [0.0]
    dsn = database.dsn_for(database.gateway_role)
    asked, original = [], keys.lookup

    async def counted(connection: object, hashed: bytes) -> object:
        asked.append(hashed)
        return await original(connection, hashed)

    monkeypatch.setattr(keys, "lookup", counted)
    async with pool(dsn, service="test") as connections:
        ring = KeyRing(connections, dsn, cache_s=60, timeout_s=5, clock=lambda: now[0])
        ring._alive_at = 0.0
        for _ in range(3):
            assert (await ring.principal(f"Bearer {key}")).groups == {"hr", "everyone"}
        assert len(asked) == 1
        now[0] = 1.01  # no sign of life since
        await ring.principal(f"Bearer {key}")
        assert len(asked) == 2


async def test_a_believed_key_still_expires(database: settings.Catalog, corpus: Corpus) -> None:
    key = await corpus.key("anna", lifetime=timedelta(seconds=30))
    now = [0.0]
    dsn = database.dsn_for(database.gateway_role)
    async with pool(dsn, service="test") as connections:
        ring = KeyRing(connections, dsn, cache_s=600, timeout_s=5, clock=lambda: now[0])
        ring._alive_at = 0.0
        await ring.principal(f"Bearer {key}")
        (known,) = ring._known.values()
        assert 25 < known.until <= 30


async def test_names_are_unique_among_valid_keys(corpus: Corpus) -> None:
    await corpus.key("anna")
    with pytest.raises(Conflict):
        await corpus.key("anna")
    async with transaction(corpus.pool) as tx:
        await keys.revoke(tx, "anna")
        with pytest.raises(NotFound):
            await keys.revoke(tx, "anna")
    await corpus.key("anna")


async def test_odd_names_are_refused(corpus: Corpus) -> None:
    for name, groups in [("", []), (" ", []), ("a" * 101, []), ("x\n", []), ("a", ["b c"]), ("a", [""])]:
        with pytest.raises(InputError):
            await corpus.key(name, *groups)
