"""Quotes are verbatim, placed, cut to what answers, and from passages worth quoting."""

from datetime import UTC, datetime
from itertools import pairwise
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from redoubt.gateway.quote import cut, select
from redoubt.gateway.sentences import sentences
from redoubt.model import Chunk, Hit, Span

THEN = datetime(2026, 1, 1, tzinfo=UTC)
PAGE = (
    "Lost property\n\nLost property is kept for 60 days. The welcome desk is painted green and stands beside "
    "the stairs. A band plays there on some Sundays in summer, and coffee is sold. "
    "Unclaimed property is sold after those 60 days."
)


def hit(text: str, *, number: int = 1, score: float = 0.95, start: int = 0, heading: tuple[str, ...] = ()) -> Hit:
    chunk = Chunk(UUID(int=number), 0, text, Span(start, start + len(text)), None, heading)
    return Hit(chunk, score, 0.6, 5.0, 0.5, UUID(int=number), 1, "docs", f"{number}.md", "Notes", THEN, THEN)


def test_the_answering_sentence_is_quoted_and_the_heading_is_not() -> None:
    quotes = select("How long is lost property kept?", [hit(PAGE, heading=("Lost property",))], 4)
    assert quotes[0].text.startswith("Lost property is kept for 60 days.")
    assert not any("band plays" in quote.text for quote in quotes)


def test_spans_are_absolute_in_the_document() -> None:
    document = f"{'x' * 500}\n{PAGE}"
    found = hit(PAGE, start=501)
    for quote in select("How long is lost property kept?", [found], 4):
        assert document[quote.span.start : quote.span.end] == quote.text


def test_a_table_is_quoted_by_rows() -> None:
    table = "\n".join(
        f"Service: scan {name}; Price: {price} euros" for name, price in (("A", 310), ("B", 380), ("C", 95))
    )
    spans = cut("price of scan B", table)
    assert table[spans[0].start : spans[0].end].startswith("Service: scan")
    lines = {0, *(at + 1 for at, c in enumerate(table) if c == "\n")}
    assert all(span.start in lines for span in spans)


def test_german_is_cut_at_its_sentences() -> None:
    text = "Die Besuchszeit ist von 10.30 bis 20 Uhr. Am 3. März gilt z. B. eine Ausnahme. Blumen sind erlaubt."
    assert [text[s.start : s.end] for s in sentences(text)] == [
        "Die Besuchszeit ist von 10.30 bis 20 Uhr.",
        "Am 3. März gilt z. B. eine Ausnahme.",
        "Blumen sind erlaubt.",
    ]


def test_a_passage_far_behind_is_not_quoted_unless_it_speaks_of_the_question() -> None:
    question = "How long is lost property kept?"
    weak = hit("The canteen opens at noon.", number=2, score=0.6)
    strong = hit("Lost property is kept at the welcome desk.", number=3, score=0.6)
    assert [quote.hit.path for quote in select(question, [hit(PAGE), weak, strong], 9) if quote.hit.path != "1.md"] == [
        "3.md"
    ]


def test_every_passage_gets_its_best_stretch_before_any_gets_a_second() -> None:
    hits = [hit(PAGE, number=number, score=0.95 - number / 1000) for number in (1, 2)]
    assert [quote.hit.path for quote in select("How long is lost property kept?", hits, 2)] == ["1.md", "2.md"]


def test_the_limit_holds() -> None:
    hits = [hit(PAGE, number=number) for number in range(1, 9)]
    assert len(select("How long is lost property kept?", hits, 3)) == 3


def test_nothing_to_quote() -> None:
    assert select("What?", [], 4) == []
    assert select("What?", [hit("\n \n")], 4) == []


@given(st.text(alphabet="ab .!?\n|-0Ä'\"", max_size=80))
def test_sentences_cover_all_but_white_space_in_order(text: str) -> None:
    spans = sentences(text)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    assert "".join("".join(text[s.start : s.end] for s in spans).split()) == "".join(text.split())


@given(st.text(max_size=120), st.text(max_size=40))
def test_any_cut_is_verbatim_and_within(text: str, question: str) -> None:
    spans = cut(question, text)
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert bool(spans) == bool(text.strip())
