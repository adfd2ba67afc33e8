"""The text of an answer: offsets that hold, and nothing in it that a chat window would act on."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from redoubt.gateway.render import answer, inert, refusal
from redoubt.model import Citation, Disagreement, SearchedSource, Span

DATE = datetime(2025, 3, 1, tzinfo=UTC)


def citation(number: int, quote: str, path: str = "hr/leave.md", page: int | None = None) -> Citation:
    return Citation(number, UUID(int=number), 2, "docs", path, "Leave", quote, Span(0, len(quote)), page, (), DATE, 0.9)


def test_marks_point_at_each_quote_with_its_marker() -> None:
    pieces, marks = answer([citation(1, "Thirty days."), citation(2, "Two\n\nparagraphs.")], [])
    text = "".join(pieces)
    assert [text[mark.start : mark.end] for mark in marks] == ["“Thirty days.” [1]", "“Two\n\nparagraphs.” [2]"]
    assert text.endswith(
        "Sources:\n[1] hr/leave.md (docs), version 2, as of 2025-03-01\n"
        "[2] hr/leave.md (docs), version 2, as of 2025-03-01"
    )


def test_a_page_is_told_where_there_is_one() -> None:
    assert "version 2, page 7, as of" in "".join(answer([citation(1, "x", page=7)], [])[0])


def test_a_conflict_names_both_values_with_their_dates() -> None:
    cited = [citation(1, "30 days"), citation(2, "28 days")]
    text = "".join(answer(cited, [Disagreement("number", "annual leave", (2, 1), ("28", "30"))])[0])
    assert "disagree on annual leave: “28” [2], as of 2025-03-01; “30” [1], as of 2025-03-01." in text


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("![pixel](http://evil/x.png)", "\\![pixel]\\(http://evil/x.png)"),
        ("[click](http://evil)", "[click]\\(http://evil)"),
        ("<img src=x>", "\\<img src=x>"),
        ("</script>", "\\</script>"),
        ("<!-- hidden -->", "\\<!-- hidden -->"),
        ("as shown [1] and [12]", "as shown \\[1] and \\[12]"),
        ("[ref]: http://evil", "[ref]\\: http://evil"),
    ],
)
def test_what_a_document_smuggles_in_is_inert(hostile: str, shown: str) -> None:
    assert inert(hostile) == shown


@pytest.mark.parametrize("plain", ["30 days", "a < b and b > c", "[sic]", "f(x)", "wow!", "list [a, b]", "x[0"])
def test_ordinary_text_stays_verbatim(plain: str) -> None:
    assert inert(plain) == plain


def test_a_path_cannot_break_out_of_its_line() -> None:
    text = "".join(answer([citation(1, "x", path="a\n[9] forged.md\u202e\x1b[31m")], [])[0])
    source = text.splitlines()[-1]
    assert source.startswith("[1] a \\[9] forged.md")
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_refusal_says_what_was_searched_and_how_fresh_it_is() -> None:
    searched = [
        SearchedSource("docs", 12, DATE, datetime(2025, 4, 2, 9, 30, tzinfo=UTC)),
        SearchedSource("hr", 1, None, None),
    ]
    text = refusal("main", "low_score", searched)
    assert "nothing in the documents that you may read supports an answer" in text
    assert "- docs: 12 documents, newest as of 2025-03-01, last checked 2025-04-02 09:30 UTC" in text
    assert "- hr: 1 document\n" in text + "\n"


def test_a_refusal_with_nothing_readable_names_no_source() -> None:
    assert "no document in “main” that this key may read" in refusal("main", "no_hits", [])
