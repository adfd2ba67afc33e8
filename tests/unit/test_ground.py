"""Answer or refuse: what moves the verdict, and what must not."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redoubt.gateway import ground
from redoubt.gateway.ground import DEFAULT_THRESHOLD, decide
from redoubt.model import Chunk, Hit, Span

THEN = datetime(2026, 1, 1, tzinfo=UTC)
QUESTION = "How long is lost property kept?"
ANSWER = "Lost property is kept for 60 days. After that it goes to charity."
OTHER = "The canteen serves lunch from noon."


def hit(
    number: int,
    cosine: float | None,
    bm25: float | None = 0.0,
    text: str = OTHER,
    title: str = "Notes",
    score: float = 0.5,
) -> Hit:
    chunk = Chunk(UUID(int=number), 0, text, Span(0, len(text)), None, ())
    return Hit(chunk, score, cosine, bm25, 0.5, UUID(int=number), 1, "docs", f"{number}.md", title, THEN, THEN)


def rest(cosine: float = 0.25) -> list[Hit]:
    return [hit(number, cosine) for number in range(10, 16)]


def test_no_hits_are_refused_as_such() -> None:
    verdict = decide(QUESTION, [], 0.0)
    assert (verdict.answerable, verdict.reason, verdict.confidence) == (False, "no_hits", 0.0)


def test_a_passage_that_says_it_is_answered() -> None:
    verdict = decide(QUESTION, [hit(1, 0.7, 12.0, ANSWER), *rest()], DEFAULT_THRESHOLD)
    assert verdict.answerable
    assert verdict.reason == ""


def test_passages_about_something_else_are_refused() -> None:
    verdict = decide(QUESTION, [hit(1, 0.3, 2.0), *rest()], DEFAULT_THRESHOLD)
    assert not verdict.answerable
    assert verdict.reason == "low_score"


def test_the_threshold_decides() -> None:
    hits = [hit(1, 0.5, 5.0, ANSWER), *rest()]
    confidence = decide(QUESTION, hits, 0.5).confidence
    assert decide(QUESTION, hits, confidence).answerable
    assert not decide(QUESTION, hits, confidence + 1e-9).answerable


def test_the_fused_score_decides_nothing() -> None:
    found = [
        decide(QUESTION, [hit(1, 0.5, 5.0, ANSWER, score=score), *rest()], 0.5).confidence for score in (0.1, 0.99)
    ]
    assert found[0] == found[1]


def test_a_superseded_version_beside_it_takes_nothing_from_the_best() -> None:
    alone = [hit(1, 0.7, 12.0, ANSWER), *rest()]
    again = [alone[0], hit(1, 0.69, 11.0, ANSWER), *rest()]  # another passage of the same document
    assert ground.signals(QUESTION, again)["gap"] == ground.signals(QUESTION, alone)["gap"]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (hit(1, 0.7, 9.0, ANSWER), hit(1, 0.5, 9.0, ANSWER)),
        (hit(1, 0.6, 9.0, ANSWER), hit(1, 0.6, 9.0, OTHER)),
        (hit(1, 0.6, 9.0, ANSWER), hit(1, 0.6, 0.5, ANSWER)),
        (hit(1, 0.6, 9.0, ANSWER), hit(1, 0.6, 9.0, ANSWER, title="Lost property: how it is kept")),
    ],
)
def test_what_makes_an_answer_likelier(better: Hit, worse: Hit) -> None:
    others = [hit(number, 0.25, 0.4) for number in range(10, 16)]
    assert decide(QUESTION, [better, *others], 0.5).confidence > decide(QUESTION, [worse, *others], 0.5).confidence


def test_words_that_ask_are_not_looked_for() -> None:
    found = ground.signals(
        "Wie lange werden Fundsachen aufbewahrt?", [hit(1, 0.6, 3.0, "Fundsachen werden 60 Tage aufbewahrt.")]
    )
    assert found["sentence"] == 1.0
    assert found["unseen"] == 0.0


def test_a_backend_without_cosines_is_judged_by_the_words() -> None:
    knows = [hit(1, None, 9.0, ANSWER), *[hit(number, None, 1.0) for number in range(10, 16)]]
    vague = [hit(1, None, 2.0), *[hit(number, None, 1.9) for number in range(10, 16)]]
    assert decide(QUESTION, knows, 0.5).confidence > decide(QUESTION, vague, 0.5).confidence


raw = st.tuples(st.one_of(st.none(), st.floats(-1, 1)), st.one_of(st.none(), st.floats(0, 60)))


@given(st.text(max_size=60), st.lists(raw, min_size=1, max_size=10), st.floats(0, 1))
def test_any_question_over_any_hits_gets_a_verdict(
    question: str, scores: list[tuple[float | None, float | None]], threshold: float
) -> None:
    verdict = decide(question, [hit(at, *pair) for at, pair in enumerate(scores)], threshold)
    assert 0 <= verdict.confidence <= 1
    assert verdict.answerable == (verdict.confidence >= threshold)
