"""The pgvector backend keeps the protocol, in each of its ways to search, and what is its own besides."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from redoubt import settings
from redoubt.errors import CatalogDown, EmbedderMismatch, NotFound
from redoubt.model import Query
from redoubt.store.catalog.connect import Pool, transaction
from redoubt.store.catalog.connect import pool as open_pool
from redoubt.store.conformance import StoreConformance
from redoubt.store.pgvector.statements import schema
from redoubt.store.pgvector.store import PgvectorStore
from redoubt.store.protocol import Store
from redoubt.store.trial import DIMENSIONS, Made, Trial, principal, summary


class Pgvector:
    """The suite's two fixtures; the worker's role, so that a missing right is found."""

    @pytest.fixture
    async def pool(self, database: settings.Catalog) -> AsyncIterator[Pool]:
        async with open_pool(database.dsn_for("redoubt_ingest"), service="test", size=12) as opened:
            yield opened

    @pytest.fixture
    def store(self, pool: Pool) -> Store:
        return PgvectorStore(pool)


class TestFew(Pgvector, StoreConformance):
    """Few chunks: every permitted one is compared."""


class TestMany(Pgvector, StoreConformance):
    """The ways that a large index is searched: the graph, postings before permission."""

    @pytest.fixture
    def store(self, pool: Pool) -> Store:
        return PgvectorStore(pool, exact_weight=0, graph_above=1)


class TestOwn(Pgvector):
    """What the protocol does not say."""

    pytestmark = pytest.mark.anyio
    trial = StoreConformance.trial

    async def test_the_gateway_may_search_and_no_more(self, trial: Trial, database: settings.Catalog) -> None:
        await trial.put(trial.made.document(trial.acls["staff"]))
        async with open_pool(database.dsn_for("redoubt_gateway"), service="test") as others:
            gateway = PgvectorStore(others)
            found = await gateway.search(trial.generation, trial.made.query(), principal("staff"))
            assert len(found.candidates) == 3
            for statement in ("DELETE FROM {}.chunk", "UPDATE {}.chunk SET acl_id = 1", "DROP SCHEMA {} CASCADE"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    async with others.connection() as connection:
                        await connection.execute(statement.format(schema(trial.generation.id)).encode())

    async def test_what_an_administrator_makes_the_worker_may_drop(
        self, trial: Trial, database: settings.Catalog
    ) -> None:
        other = replace(trial.generation, id=uuid4())
        async with open_pool(database.dsn_for("redoubt_admin"), service="test") as admins:
            await PgvectorStore(admins).create(other)
        theirs = replace(trial, generation=other, made=Made(other))
        await theirs.put(theirs.made.document(trial.acls["staff"]))
        await trial.store.maintain(other)
        await trial.store.drop(other.id)
        with pytest.raises(NotFound):
            await theirs.search(theirs.made.query(), principal("staff"))
        with pytest.raises(NotFound):
            await theirs.put(theirs.made.document(trial.acls["staff"]))

    async def test_a_new_acl_touches_neither_vectors_nor_postings(self, trial: Trial) -> None:
        item = trial.made.document(trial.acls["staff"], 5)
        await trial.put(item)

        async def rows() -> list[Any]:
            found = []
            for table in ("vector", "posting", "lexical", "passage"):
                found.append(await _all(trial, f"SELECT ctid, xmin, xmax FROM {{}}.{table} ORDER BY 1"))  # noqa: PERF401
            return found

        before = await rows()
        async with transaction(trial.pool) as tx:
            await trial.store.set_acl(tx, trial.generation, [item.document.document_id], trial.acls["board"])
        assert await rows() == before

    async def test_a_revocation_that_waited_for_a_write_holds_for_what_was_written(self, trial: Trial) -> None:
        item = trial.made.document(trial.acls["staff"], 3)
        id_, query, reader = item.document.document_id, trial.made.query("amber"), principal("staff")
        await trial.put(item)

        async def revoke() -> None:
            async with transaction(trial.pool) as tx:
                await trial.store.set_acl(tx, trial.generation, [id_], None)

        async with transaction(trial.pool) as tx:
            new = trial.made.document(trial.acls["staff"], 4, id_=id_, version=2)
            await trial.store.write(tx, trial.generation, [new])
            revoking = asyncio.create_task(revoke())
            await _waiting(trial, revoking)
            assert len((await trial.search(query, reader)).candidates) == 3
        await revoking
        assert (await trial.search(query, reader)).candidates == ()
        assert await trial.held() == [(id_, 2, None, 4)]

    async def test_maintenance_whose_backend_dies_changes_nothing_and_can_be_done_again(self, trial: Trial) -> None:
        store = PgvectorStore(trial.pool, graph_above=1)
        for _ in range(12):
            await trial.put(*(trial.made.document(trial.acls["staff"], 8) for _ in range(10)))
        query, reader = trial.made.query("amber basalt cedar"), principal("staff")
        before = await trial.search(query, reader)
        segments = await _all(trial, "SELECT * FROM {}.segment ORDER BY 1")
        killed = 0
        for step in ("INSERT INTO {}.posting", "CREATE INDEX CONCURRENTLY"):
            # A lock that the step must wait for: the moment of its death is then no matter of chance.
            table = "posting" if "posting" in step else "vector"
            async with trial.pool.connection() as blocker:
                mode = "ROW EXCLUSIVE" if table == "posting" else "SHARE"
                await blocker.execute(
                    f"LOCK TABLE {schema(trial.generation.id)}.{table} IN {_against(mode)} MODE".encode()
                )
                working = asyncio.create_task(store.maintain(trial.generation))
                pid = await _waiting(trial, working)
                await _all(trial, f"SELECT pg_terminate_backend({pid})")
                with pytest.raises(CatalogDown):
                    await working
                killed += 1
            assert summary(await trial.search(query, reader)) == summary(before)
            if step.startswith("INSERT"):
                assert await _all(trial, "SELECT * FROM {}.segment ORDER BY 1") == segments
                await PgvectorStore(trial.pool).maintain(trial.generation)  # merges, makes no graph
        assert killed == 2
        await store.maintain(trial.generation)
        assert await _all(trial, "SELECT indisvalid FROM pg_index WHERE indexrelid = '{}.vector_graph'::regclass") == [
            (True,)
        ]
        assert len(await _all(trial, "SELECT * FROM {}.segment")) == 1
        after = await trial.search(query, reader)
        assert summary(after) == summary(before)
        assert after.question_idf == pytest.approx(before.question_idf)

    async def test_an_unfinished_graph_is_built_anew(self, trial: Trial) -> None:
        store = PgvectorStore(trial.pool, graph_above=1)
        await trial.put(trial.made.document(trial.acls["staff"], 5))
        name = schema(trial.generation.id)
        async with trial.pool.connection() as other:
            await other.execute(f"LOCK TABLE {name}.vector IN ROW EXCLUSIVE MODE".encode())
            working = asyncio.create_task(store.maintain(trial.generation))
            await _waiting(trial, working)
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
        valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{}.vector_graph')"
        assert await _all(trial, valid) in ([], [(False,)])
        await store.maintain(trial.generation)
        assert await _all(trial, valid) == [(True,)]

    async def test_postings_of_what_is_gone_are_merged_away(self, trial: Trial) -> None:
        ids = [uuid4() for _ in range(50)]
        for version in range(1, 41):
            await trial.put(*(trial.made.document(trial.acls["staff"], 4, id_=id_, version=version) for id_ in ids))
            if version % 5 == 0:
                await trial.store.maintain(trial.generation)
        ((held,),) = await _all(trial, "SELECT count(DISTINCT no) FROM {}.posting, unnest(nos) AS u (no)")
        assert held <= 1.5 * 200 + 1000 + 200
        ((tallies,),) = await _all(trial, "SELECT count(*) FROM {}.tally")
        assert tallies <= 70

    async def test_a_long_passage_fails_alone_and_says_nothing_of_its_text(self, trial: Trial) -> None:
        fine = trial.made.document(trial.acls["staff"], 1)
        long = trial.made.document(trial.acls["staff"], [" ".join(f"secret{n}" for n in range(200_000))])
        report = await trial.put(long, fine)
        assert report.done == (fine.document.document_id,)
        assert "secret" not in report.failed[long.document.document_id]
        odd = trial.made.document(trial.acls["staff"], 1, config="klingon")
        report = await trial.put(odd)
        assert "configuration" in report.failed[odd.document.document_id]

    async def test_a_wrong_dimension_is_refused_before_postgres_sees_it(self, trial: Trial) -> None:
        wrong = Query("amber", Made(trial.generation).vectors(1)[0][: DIMENSIONS - 1], trial.generation.embedder_digest)
        with pytest.raises(EmbedderMismatch):
            await trial.search(wrong, principal("staff"))

    async def test_a_database_that_is_gone_reads_as_such(self, trial: Trial, database: settings.Catalog) -> None:
        dsn = database.dsn_for("redoubt_ingest").replace("host=", "host=/nowhere")
        async with open_pool(dsn, service="test", timeout_s=0.2) as away:
            with pytest.raises(CatalogDown):
                await PgvectorStore(away).search(trial.generation, trial.made.query(), principal("staff"))


async def _all(trial: Trial, statement: str) -> list[Any]:
    async with trial.pool.connection() as connection:
        found = await connection.execute(statement.replace("{}", schema(trial.generation.id)).encode())
        return await found.fetchall()


def _against(mode: str) -> str:
    """A lock that conflicts with `mode`."""
    return {"ROW EXCLUSIVE": "SHARE", "SHARE": "ROW EXCLUSIVE"}[mode]


async def _waiting(trial: Trial, working: asyncio.Task[None]) -> int:
    """The process id of what `working` does, once it waits for a lock."""
    while not working.done():
        rows = await _all(
            trial,
            "SELECT pid FROM pg_locks WHERE NOT granted AND (locktype IN ('virtualxid', 'transactionid') OR database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database()))",
        )
        if rows:
            return int(rows[0][0])
        await asyncio.sleep(0.01)
    raise AssertionError(f"it did not wait: {working.exception()}")
