"""Comparing a source with the catalogue: pure, so every case is one call."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from redoubt.ingest.sources.protocol import Entry
from redoubt.ingest.sync import Known, Parked, Plan, plan

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
RULES = "r1"


def entry(path: str, stamp: str = "s", size: int = 3, sidecar: str = "") -> Entry:
    return Entry(path, stamp, sidecar, WHEN, WHEN, size)


def known(path: str, stamp: str = "s", content: bytes = b"abc", rules: str = RULES, sidecar: str = "") -> Known:
    return Known(uuid4(), path, f"{stamp}|{sidecar}|{rules}", content, len(content))


def run(
    before: list[Known],
    now: list[Entry],
    *,
    parked: dict[str, Parked] | None = None,
    hashes: dict[str, bytes] | None = None,
) -> Plan:
    return plan(before, now, parked or {}, RULES, (hashes or {}).get)


def test_nothing_changed_means_nothing_to_do() -> None:
    assert run([known("a")], [entry("a")]) == Plan()


def test_new_changed_and_gone() -> None:
    gone = known("gone")
    found = run([known("a"), gone], [entry("a", "s2"), entry("new", size=9)])
    assert {e.path for e in found.writes} == {"a", "new"}
    assert found.deletes == (gone,)


def test_a_rename_keeps_the_document() -> None:
    old = known("old")
    found = run([old], [entry("new")], hashes={"new": b"abc"})
    assert found.renames == ((old, entry("new")),)
    assert not found.writes
    assert not found.deletes


def test_equal_size_but_other_content_is_no_rename() -> None:
    found = run([known("old")], [entry("new")], hashes={"new": b"xyz"})
    assert not found.renames
    assert len(found.deletes) == len(found.writes) == 1


def test_documents_that_each_take_the_next_ones_place_are_moved_last_first() -> None:
    """As log files are rotated."""
    one, two = known("log.1", content=b"one"), known("log.2", content=b"two")
    contents = {"log.1": b"new", "log.2": b"one", "log.3": b"two"}
    found = run([one, two], [entry(path, f"moved-{path}") for path in contents], hashes=contents)
    assert [(document.id, e.path) for document, e in found.renames] == [(two.id, "log.3"), (one.id, "log.2")]
    assert [e.path for e in found.writes] == ["log.1"]
    assert not found.deletes


def test_what_cannot_be_seen_is_not_gone() -> None:
    hidden, other = known("closed/a"), known("closed-not/a")
    found = plan([hidden, other], [], {"closed/b": Parked("s", True, False)}, RULES, lambda _: None, ["closed"])
    assert found.deletes == (other,)
    assert not found.forget


def test_a_document_that_moved_away_while_another_took_its_place() -> None:
    old = known("a")
    found = run([old], [entry("a", "s2", size=5), entry("b")], hashes={"a": b"other", "b": b"abc"})
    assert found.renames == ((old, entry("b")),)
    assert [e.path for e in found.writes] == ["a"]


def test_a_copy_beside_its_touched_original_is_a_new_document() -> None:
    found = run([known("a")], [entry("a", "touched"), entry("b")], hashes={"a": b"abc", "b": b"abc"})
    assert not found.renames
    assert {e.path for e in found.writes} == {"a", "b"}


def test_changed_rules_or_sidecar_judge_again_without_reading() -> None:
    by_rule, by_sidecar = known("a", rules="r0"), known("b", sidecar="old")
    found = run([by_rule, by_sidecar], [entry("a"), entry("b", sidecar="new")])
    assert {document.path for document, _ in found.judge} == {"a", "b"}
    assert not found.writes


def test_what_failed_is_tried_again_only_when_it_changed_or_may_have_healed() -> None:
    parked = {
        "same": Parked("s||r1", failed=True, retry=False),
        "changed": Parked("s0||r1", failed=True, retry=False),
        "healed": Parked("s||r1", failed=True, retry=True),
        "gone": Parked("s||r1", failed=True, retry=False),
    }
    found = run([], [entry("same"), entry("changed"), entry("healed")], parked=parked)
    assert {e.path for e in found.writes} == {"changed", "healed"}
    assert found.forget == ("gone",)


names = st.sampled_from(["a", "b", "c", "d/e", "f"])
contents = st.sampled_from([b"one", b"two", b"three"])


@given(st.dictionaries(names, contents), st.dictionaries(names, contents))
def test_applying_the_plan_gives_the_source(before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """Whatever happened in between: renames, deletions and writes together lead to what is there."""
    documents = [
        Known(uuid4(), path, f"{content!r}||{RULES}", content, len(content)) for path, content in before.items()
    ]
    entries = [Entry(path, repr(content), "", WHEN, WHEN, len(content)) for path, content in after.items()]
    found = plan(documents, entries, {}, RULES, after.get)
    state: dict[str, tuple[UUID, bytes]] = {
        document.path: (document.id, document.content_hash) for document in documents
    }
    for document, target in found.renames:
        del state[document.path]
        assert target.path not in state
        state[target.path] = (document.id, document.content_hash)
    for document in found.deletes:
        del state[document.path]
    for target in found.writes:
        state[target.path] = (state[target.path][0] if target.path in state else uuid4(), after[target.path])
    assert {path: content for path, (_, content) in state.items()} == after
    assert len({id_ for id_, _ in state.values()}) == len(state)
