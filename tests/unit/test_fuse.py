"""The one ranking: order, range, unknown scores, α, bridges."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redoubt.model import Candidate, Chunk, Span
from redoubt.store.fuse import DEFAULT_ALPHA, fuse


def candidate(
    number: int,
    cosine: float | None,
    bm25: float | None,
    *,
    share: float = 0.0,
    title: str = "",
    text: str = "text",
    ordinal: int = 0,
) -> Candidate:
    chunk = Chunk(UUID(int=number * 100 + ordinal), ordinal, text, Span(0, len(text)), None, ())
    return Candidate(chunk, UUID(int=number), 1, title, cosine, bm25, share)


def ranked(candidates: list[Candidate], alpha: float = DEFAULT_ALPHA) -> list[int]:
    return [found.document_id.int for found, _ in fuse(candidates, alpha)]


def test_nothing_found_is_nothing_ranked() -> None:
    assert fuse([], 0.5) == []


def test_alpha_weighs_the_legs() -> None:
    dense, sparse, neither = candidate(1, 0.9, 1.0), candidate(2, 0.2, 9.0), candidate(3, 0.1, 0.0)
    assert ranked([sparse, dense, neither], 1.0)[0] == 1
    assert ranked([dense, sparse, neither], 0.0)[0] == 2


def test_what_both_legs_like_comes_first() -> None:
    assert ranked([candidate(1, 0.9, 0.0), candidate(2, 0.8, 8.0), candidate(3, 0.1, 9.0)])[0] == 2


def test_an_unknown_score_counts_as_the_worst_known_one() -> None:
    assert ranked([candidate(1, None, 5.0), candidate(2, 0.7, 5.0), candidate(3, 0.2, 5.0)]) == [2, 1, 3]


def test_a_leg_that_knows_nothing_leaves_the_order_to_the_other() -> None:
    assert ranked([candidate(1, None, 1.0), candidate(2, None, 3.0), candidate(3, None, 2.0)]) == [2, 3, 1]


def test_the_share_of_the_question_decides_between_equal_scores() -> None:
    assert ranked([candidate(1, 0.5, 4.0, share=0.3), candidate(2, 0.5, 4.0, share=0.9)])[0] == 2


def test_ties_go_by_document_and_then_by_place() -> None:
    same = [candidate(2, 0.5, 1.0), candidate(1, 0.5, 1.0, ordinal=1), candidate(1, 0.5, 1.0)]
    order = [(found.document_id.int, found.chunk.ordinal) for found, _ in fuse(same, 0.5)]
    assert order == [(1, 0), (1, 1), (2, 0)]


def bridge(text: str, title: str, own: str = "Harbour Street") -> list[int]:
    first = candidate(1, 0.9, 9.0, title=own, text=text)
    rival = candidate(2, 0.45, 2.2, title="Canteen")
    named = candidate(3, 0.4, 2.0, title=title)
    far = [candidate(number, 0.1, 0.0, title="Elsewhere") for number in range(4, 12)]
    return ranked([first, rival, named, *far])


def test_a_document_that_the_best_passage_names_is_lifted() -> None:
    assert bridge("It is led by Ada Frost.", "Unrelated")[:2] == [1, 2]
    assert bridge("It is led by Ada Frost.", "Ada Frost")[:2] == [1, 3]
    assert bridge("It is led by Ada Frost.", "Ada Frost (surgeon)")[:2] == [1, 3]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("It is led by ada frost.", "Ada Frost"),  # a mention, not the name
        ("It is led by Ada Frostby.", "Ada Frost"),  # part of a longer word
        ("See Day.", "Day"),  # too short to be a name
    ],
)
def test_what_is_no_name_lifts_nothing(text: str, title: str) -> None:
    assert bridge(text, title)[:2] == [1, 2]


def test_a_document_does_not_name_itself() -> None:
    assert bridge("Ada Frost writes of Ada Frost.", "Ada Frost", own="Ada Frost")[:2] == [1, 2]


scores = st.one_of(st.none(), st.floats(0, 50))


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.floats(-1, 1)), scores, st.floats(0, 1)), max_size=40), st.floats(0, 1)
)
def test_every_candidate_is_ranked_once_with_a_score_in_range(
    raw: list[tuple[float | None, float | None, float]], alpha: float
) -> None:
    found = [candidate(at, cosine, bm25, share=share) for at, (cosine, bm25, share) in enumerate(raw)]
    order = fuse(found, alpha)
    assert {one.document_id for one, _ in order} == {one.document_id for one in found}
    assert all(0 <= score <= 1 for _, score in order)
    assert [score for _, score in order] == sorted((score for _, score in order), reverse=True)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 50)), min_size=1, max_size=20), st.randoms())
def test_the_order_of_the_input_does_not_matter(raw: list[tuple[float, float]], random: object) -> None:
    found = [candidate(at, cosine, bm25) for at, (cosine, bm25) in enumerate(raw)]
    mixed = list(found)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    scored = {one.document_id: score for one, score in fuse(mixed, 0.5)}
    assert all(scored[one.document_id] == pytest.approx(score) for one, score in fuse(found, 0.5))
