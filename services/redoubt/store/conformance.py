"""The suite that every backend passes unmodified: each sentence of `protocol.Store` is a test, named by `keeps`.

A backend's test module subclasses `StoreConformance` and gives it two fixtures: `pool` (the catalogue's, as the role
that ingests) and `store`. What a backend cannot do is in its `capabilities`, never in an overridden test.
It is longer than a module should be because it is read as one list, beside the protocol's.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar
from uuid import UUID, uuid4

import numpy as np
import pytest

from redoubt.errors import EmbedderMismatch
from redoubt.model import Candidate, Found, Generation, Query
from redoubt.store.catalog.connect import Pool, transaction
from redoubt.store.protocol import Store, Write
from redoubt.store.reference import Reference
from redoubt.store.trial import CLOSE, DIMENSIONS, Made, Trial, agree, principal, shown, summary

Test = TypeVar("Test", bound=Callable[..., object])
kept: set[str] = set()  # the sentences that some test names


def sentences() -> set[str]:
    """The protocol's promises, one a bullet."""
    text = " ".join((Store.__doc__ or "").split())
    return {part.strip() for part in text.split(" - ")[1:]}


def keeps(sentence: str) -> Callable[[Test], Test]:
    """Tie a test to the promise that it proves; a promise that is no longer made breaks the suite."""
    assert sentence in sentences(), f"the protocol does not say: {sentence}"
    kept.add(sentence)
    return lambda test: test


class StoreConformance:
    """See the module; every test makes its own generation."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def trial(self, store: Store, pool: Pool) -> AsyncIterator[Trial]:
        """An empty generation, and an ACL for staff, one for the board, one for both."""
        generation = Generation(
            uuid4(), "conformance", 1, "pgvector", "random", "sha256:" + "0" * 64, DIMENSIONS, max_tokens=256
        )
        acls = {}
        async with transaction(pool) as tx:
            for name, groups in {"staff": ["staff"], "board": ["board"], "both": ["board", "staff"]}.items():
                await tx.execute("INSERT INTO acl (groups) VALUES (%s) ON CONFLICT DO NOTHING", (groups,))
                row = await (await tx.execute("SELECT id FROM acl WHERE groups = %s", (groups,))).fetchone()
                assert row is not None
                acls[name] = int(row[0])
        await store.create(generation)
        yield Trial(store, pool, generation, acls, Made(generation))
        await store.drop(generation.id)

    # Generations ------------------------------------------------------------------------------

    @keeps("`create` twice is `create` once. `drop` of what does not exist does nothing.")
    async def test_create_and_drop_are_idempotent(self, trial: Trial) -> None:
        await trial.put(trial.made.document(trial.acls["staff"]))
        before = await trial.held()
        await trial.store.create(trial.generation)
        assert await trial.held() == before
        assert len(before) == 1
        await trial.store.drop(uuid4())
        await trial.store.drop(trial.generation.id)
        await trial.store.drop(trial.generation.id)
        await trial.store.create(trial.generation)
        assert await trial.held() == []

    async def test_two_creators_at_once(self, trial: Trial) -> None:
        await trial.store.drop(trial.generation.id)
        await asyncio.gather(*(trial.store.create(trial.generation) for _ in range(4)))
        assert await trial.held() == []

    async def test_generations_are_apart(self, trial: Trial) -> None:
        other = Generation(
            uuid4(), "conformance", 2, "pgvector", "random", trial.generation.embedder_digest, DIMENSIONS, 256
        )
        await trial.store.create(other)
        await replace(trial, generation=other).put(trial.made.document(trial.acls["staff"]))
        assert (await trial.search(trial.made.query(), principal("staff"))).candidates == ()
        assert len(await replace(trial, generation=other).held()) == 1
        await trial.store.drop(other.id)
        assert await trial.held() == []

    # Writing ----------------------------------------------------------------------------------

    @keeps(
        "`write` is idempotent; it replaces all chunks of each document in the batch, so that a reader sees the old "
        "version or the new, never neither and never both. An empty `chunks` removes the document."
    )
    async def test_write_replaces(self, trial: Trial) -> None:
        first = trial.made.document(trial.acls["staff"], 4)
        id_, query, reader = first.document.document_id, trial.made.query("amber basalt"), principal("staff")
        bystander = trial.made.document(trial.acls["staff"], 2)
        await trial.put(first, bystander)
        once = await trial.search(query, reader)
        report = await trial.put(first)
        assert report.done == (id_,)
        assert not report.failed
        again = await trial.search(query, reader)
        assert summary(again) == summary(once)
        assert again.question_idf == pytest.approx(once.question_idf)
        await trial.put(trial.made.document(trial.acls["staff"], 2, id_=id_, version=2))
        assert {(version, ordinal) for doc, version, ordinal in shown(await trial.search(query, reader))
                if doc == id_} == {(2, 0), (2, 1)}  # fmt: skip
        await trial.put(trial.made.document(trial.acls["staff"], 0, id_=id_, version=3))
        assert {row[0] for row in await trial.held()} == {bystander.document.document_id}
        assert {doc for doc, _, _ in shown(await trial.search(query, reader))} == {bystander.document.document_id}

    @keeps(
        "`write` is idempotent; it replaces all chunks of each document in the batch, so that a reader sees the old "
        "version or the new, never neither and never both. An empty `chunks` removes the document."
    )
    async def test_a_reader_sees_one_version_while_it_changes(self, trial: Trial) -> None:
        id_, reader, query = uuid4(), principal("staff"), trial.made.query("amber basalt cedar")
        versions = [trial.made.document(trial.acls["staff"], 3, id_=id_, version=number) for number in range(1, 25)]
        await trial.put(versions[0])
        over = asyncio.Event()

        async def change() -> None:
            for count, version in enumerate(versions[1:]):
                await trial.put(version)
                if count % 8 == 3:
                    await trial.store.maintain(trial.generation)
            over.set()

        seen: list[int] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(change())
            while not over.is_set():
                found = shown(await trial.search(query, reader))
                numbers = {number for _, number, _ in found}
                assert len(numbers) == 1, f"versions {sorted(numbers)} at once"
                assert {ordinal for _, _, ordinal in found} == {0, 1, 2}
                seen.append(numbers.pop())
        assert seen == sorted(seen)
        assert len(set(seen)) > 1, "the reader never overlapped a change"

    async def test_two_writers_of_one_document_leave_one_version(self, trial: Trial) -> None:
        id_ = uuid4()
        versions = [
            trial.made.document(trial.acls["staff"], number % 3 + 1, id_=id_, version=number) for number in range(1, 9)
        ]
        await asyncio.gather(*(trial.put(version) for version in versions))
        ((_, version, _, chunks),) = await trial.held()
        found = shown(await trial.search(trial.made.query("amber"), principal("staff")))
        assert found == {(id_, version, ordinal) for ordinal in range(chunks)}
        assert chunks == version % 3 + 1

    @keeps("`write` refuses vectors of the wrong dimension, or with NaN or infinity, before anything is stored.")
    @keeps("A batch may fail in part: the report says which documents, and the others are whole.")
    @pytest.mark.parametrize("flaw", ["dimension", "count", "nan", "infinity", "zero", "text"])
    async def test_a_bad_document_fails_alone(self, trial: Trial, flaw: str) -> None:
        old, fine = trial.made.document(trial.acls["staff"], 3), trial.made.document(trial.acls["staff"], 2)
        id_ = old.document.document_id
        await trial.put(old)
        new = trial.made.document(trial.acls["staff"], 2, id_=id_, version=2)
        vectors = new.vectors.copy()
        match flaw:
            case "dimension":
                vectors = vectors[:, :-1]
            case "count":
                vectors = vectors[:1]
            case "nan":
                vectors[1, 3] = np.nan
            case "infinity":
                vectors[1, 3] = np.inf
            case "zero":
                vectors[1] = 0
            case _:
                new = trial.made.document(trial.acls["staff"], ["amber", "ba\x00salt"], id_=id_, version=2)
                vectors = new.vectors
        report = await trial.put(Write(new.document, new.chunks, vectors), fine)
        assert report.done == (fine.document.document_id,)
        assert set(report.failed) == {id_}
        assert report.failed[id_]
        assert "salt" not in report.failed[id_]
        assert await trial.held() == sorted(
            [(id_, 1, trial.acls["staff"], 3), (fine.document.document_id, 1, trial.acls["staff"], 2)]
        )
        found = await trial.search(trial.made.query("amber basalt"), principal("staff"))
        assert len(shown(found)) == 5

    @keeps("On a transactional backend nothing is visible before `tx` commits, and nothing remains if it rolls back.")
    async def test_a_rollback_leaves_nothing(self, trial: Trial) -> None:
        if not trial.store.capabilities.transactional:
            return
        kept_one, reader, query = (
            trial.made.document(trial.acls["staff"], 2),
            principal("staff"),
            trial.made.query("amber basalt cedar"),
        )
        await trial.put(kept_one)
        before, holding = await trial.search(query, reader), await trial.held()

        class Away(Exception):
            pass

        with suppress(Away):
            async with transaction(trial.pool) as tx:
                await trial.store.write(tx, trial.generation, [trial.made.document(trial.acls["staff"], 3)])
                await trial.store.write(
                    tx,
                    trial.generation,
                    [trial.made.document(trial.acls["board"], 1, id_=kept_one.document.document_id, version=2)],
                )
                await trial.store.set_acl(tx, trial.generation, [kept_one.document.document_id], None)
                assert await trial.held() == holding
                assert summary(await trial.search(query, reader)) == summary(before)
                raise Away
        await trial.store.maintain(trial.generation)
        assert await trial.held() == holding
        after = await trial.search(query, reader)
        assert summary(after) == summary(before)
        assert after.question_idf == pytest.approx(before.question_idf)

    # Access -----------------------------------------------------------------------------------

    @keeps("`set_acl` changes who may read without new vectors; `None` hides from everybody.")
    async def test_an_acl_holds_on_the_next_query(self, trial: Trial) -> None:
        item = trial.made.document(trial.acls["staff"], 3)
        id_, query = item.document.document_id, trial.made.query("amber basalt")
        await trial.put(item)
        staff = await trial.search(query, principal("staff"))
        assert len(staff.candidates) == 3
        for acl, readers in (("board", {"board"}), ("both", {"board", "staff"}), (None, set()), ("staff", {"staff"})):
            async with transaction(trial.pool) as tx:
                await trial.store.set_acl(tx, trial.generation, [id_, uuid4()], trial.acls[acl] if acl else None)
            for group in ("staff", "board", "stranger"):
                found = await trial.search(query, principal(group))
                assert summary(found) == (summary(staff) if group in readers else {})
            assert await trial.held() == [(id_, 1, trial.acls[acl] if acl else None, 3)]

    @keeps("`search` returns nothing that the principal may not read: no groups in common, no candidate, no count.")
    async def test_no_groups_in_common_is_no_candidate(self, trial: Trial) -> None:
        nobodys = trial.made.document(None, ["amber amber"])
        await trial.put(trial.made.document(trial.acls["board"], ["amber basalt"]), nobodys)
        for who in (principal("staff"), principal(), principal("BOARD"), principal("boar", "board ")):
            assert await trial.search(trial.made.query("amber"), who) == Found((), 0.0)
        found = await trial.search(trial.made.query("amber"), principal("board", "staff"))
        assert len(found.candidates) == 1
        assert nobodys.document.document_id not in {one.document_id for one in found.candidates}

    @keeps(
        "`search` never changes its result because of documents that the principal cannot read, up to BM25's "
        "collection statistics."
    )
    async def test_what_may_not_be_read_changes_nothing(self, trial: Trial) -> None:
        query, reader = trial.made.query("amber basalt", limit=5), principal("staff")
        await trial.put(*(trial.made.document(trial.acls["staff"], 4) for _ in range(6)))

        def cosines(found: Found) -> dict[UUID, float | None]:
            best = sorted(found.candidates, key=lambda one: -(one.cosine or 0))[: query.limit]
            return {one.chunk.id: one.cosine for one in best}

        before = await trial.search(query, reader)
        near = trial.made.document(trial.acls["board"], ["amber basalt"] * 40, title="amber basalt")
        near = Write(near.document, near.chunks, np.tile(query.vector, (40, 1)))
        await trial.put(near)
        for _ in range(2):
            after = await trial.search(query, reader)
            assert cosines(after) == cosines(before)
            assert {one.chunk.id for one in after.candidates if one.bm25} >= {
                one.chunk.id for one in _best(before, "bm25", 3)
            }
            assert near.document.document_id not in {one.document_id for one in after.candidates}
            await trial.store.maintain(trial.generation)

    # Searching --------------------------------------------------------------------------------

    @keeps("`search` refuses a query whose embedder digest is not the generation's (`EmbedderMismatch`).")
    async def test_another_embedder_is_refused(self, trial: Trial) -> None:
        await trial.put(trial.made.document(trial.acls["staff"]))
        query = Query("amber", trial.made.vectors(1)[0], "sha256:" + "1" * 64)
        with pytest.raises(EmbedderMismatch) as refused:
            await trial.search(query, principal("staff"))
        assert refused.value.fix

    async def test_a_hit_carries_what_a_citation_needs(self, trial: Trial) -> None:
        item = trial.made.document(
            trial.acls["both"], ["amber's “quoted”\n\ttext, with \\ and 漢字", "basalt"], version=7, title="A ’title’"
        )
        await trial.put(item)
        found = await trial.search(trial.made.query("basalt"), principal("staff"))
        by_ordinal = {one.chunk.ordinal: one for one in found.candidates}
        for chunk in item.chunks:
            one = by_ordinal[chunk.ordinal]
            assert one.chunk == chunk
            assert (one.document_id, one.version, one.title) == (item.document.document_id, 7, "A ’title’")

    @pytest.mark.parametrize("text", ["", "   ", "zebra", "\x00", "!?…", "amber " * 3000, "' | & ! ( ) : * \\"])
    async def test_odd_questions_are_answered(self, trial: Trial, text: str) -> None:
        await trial.put(trial.made.document(trial.acls["staff"], ["amber basalt", "cedar"]))
        found = await trial.search(trial.made.query(text), principal("staff"))
        assert len(found.candidates) == 2
        assert all(one.bm25 is None or one.bm25 >= 0 for one in found.candidates)
        assert (found.question_idf > 0) == any(letter.isalpha() for letter in text)

    @keeps(
        "`idf_share` holds a chunk against the question as the chunk's own text-search configuration analyses it; "
        "`question_idf` is the largest of these."
    )
    async def test_each_language_is_judged_by_its_own_analysis(self, trial: Trial) -> None:
        english = trial.made.document(trial.acls["staff"], ["The patients waited"], title="", config="english")
        german = trial.made.document(trial.acls["staff"], ["Die Patienten warteten"], title="", config="german")
        await trial.put(english, german)
        for text, whole in (("Did the patients wait?", english), ("Warteten die Patienten?", german)):
            found = await trial.search(trial.made.query(text), principal("staff"))
            shares = {one.document_id: one.idf_share for one in found.candidates}
            assert max(shares, key=lambda id_: shares[id_]) == whole.document.document_id
            scores = {one.document_id: one.bm25 or 0 for one in found.candidates}
            assert max(scores, key=lambda id_: scores[id_]) == whole.document.document_id
            if whole is german:
                assert shares[german.document.document_id] == pytest.approx(1.0)
            assert found.question_idf > 0

    @keeps("`search` returns the best `query.limit` of each leg with both raw scores wherever the backend knows them.")
    @keeps("`contents` lists what the generation holds, for comparison with the catalogue.")
    @keeps("`maintain` folds recent writes into the shape that is fast to search; it may be killed at any point.")
    @pytest.mark.parametrize("seed", range(4))
    async def test_search_equals_the_reference(self, trial: Trial, seed: int) -> None:
        trial = replace(trial, made=Made(trial.generation, seed))
        truth = Reference()
        choose = trial.made.random
        readers = {
            principal("staff"): frozenset({trial.acls["staff"], trial.acls["both"]}),
            principal("board"): frozenset({trial.acls["board"], trial.acls["both"]}),
            principal("staff", "board"): frozenset(trial.acls.values()),
            principal("stranger"): frozenset[int](),
        }
        for _ in range(30):
            act = choose.random()
            known = sorted(truth.documents)
            if act < 0.45 or not known:
                batch = [
                    trial.made.document(choose.choice([*trial.acls.values(), None]), choose.randint(1, 5))
                    for _ in range(6)
                ]
                await trial.put(*batch)
                truth.write(batch)
            elif act < 0.65:
                id_ = choose.choice(known)
                version = truth.documents[id_].document.version + 1
                batch = [
                    trial.made.document(
                        choose.choice([*trial.acls.values()]), choose.randint(0, 4), id_=id_, version=version
                    )
                ]
                await trial.put(*batch)
                truth.write(batch)
            elif act < 0.8:
                some, acl = choose.sample(known, min(3, len(known))), choose.choice([*trial.acls.values(), None])
                async with transaction(trial.pool) as tx:
                    await trial.store.set_acl(tx, trial.generation, some, acl)
                truth.set_acl(some, acl)
            elif act < 0.9:
                await trial.store.maintain(trial.generation)
            else:
                working = asyncio.create_task(trial.store.maintain(trial.generation))
                await asyncio.sleep(choose.random() * 0.02)
                working.cancel()
                with suppress(asyncio.CancelledError):
                    await working
            for reader, opens in readers.items():
                query = trial.made.query(limit=choose.choice((3, 10, 100)))
                found = await trial.search(query, reader)
                agree(found, truth.scores(query, opens), query.limit)
                if found.candidates:
                    assert found.question_idf == pytest.approx(truth.question_idf(query.text), abs=CLOSE)
        assert await trial.held() == truth.contents()

    @keeps("`maintain` folds recent writes into the shape that is fast to search; it may be killed at any point.")
    async def test_maintenance_changes_no_result(self, trial: Trial) -> None:
        items = [trial.made.document(trial.acls["staff"], 5) for _ in range(20)]
        await trial.put(*items[:10])
        await trial.store.maintain(trial.generation)
        await trial.put(*items[10:])
        gone = [Write(item.document, (), item.vectors[:0]) for item in items[5:15]]
        await trial.put(*gone)
        query, reader = trial.made.query("amber basalt cedar delta"), principal("staff")
        before = await trial.search(query, reader)
        await asyncio.gather(*(trial.store.maintain(trial.generation) for _ in range(3)))
        after = await trial.search(query, reader)
        assert summary(after) == summary(before)
        assert after.question_idf == pytest.approx(before.question_idf)

    async def test_every_sentence_has_a_test(self) -> None:
        assert kept == sentences()


def _best(found: Found, leg: str, count: int) -> list[Candidate]:
    return sorted(found.candidates, key=lambda one: -(getattr(one, leg) or 0))[:count]
