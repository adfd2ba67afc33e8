"""What a Markdown file says: its front matter, its headings, and the text that a reader sees."""

from datetime import UTC, datetime

import pytest

from redoubt.ingest.parse import Limits, parse
from redoubt.model import ParsedDocument


def read(source: str, name: str = "notes/night-shift.md") -> ParsedDocument:
    return parse(source.encode(), name, limits=Limits())


def told(document: ParsedDocument) -> list[tuple[tuple[str, ...], str, str]]:
    """Heading path, kind and text of each section."""
    return [(s.heading, s.kind, document.text[s.span.start : s.span.end]) for s in document.sections]


def test_front_matter_gives_title_date_and_language() -> None:
    document = read("---\ntitle: Visiting hours\ndate: 2024-02-12\nlanguage: de-AT\n---\n\nFrom two to seven.\n")
    assert (document.title, document.language, document.text) == ("Visiting hours", "de", "From two to seven.")
    assert document.as_of == datetime(2024, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "front", ["date: 2024-13-45", "date: soon", "date: [1, 2]", "title: [7]", "language: 1", "date: 0001-01-01"]
)
def test_front_matter_that_makes_no_sense_is_ignored(front: str) -> None:
    document = read(f"---\n{front}\n---\nFrom two to seven.\n")
    assert (document.text, document.as_of, document.language) == ("From two to seven.", None, None)
    assert document.title == "night-shift"


@pytest.mark.parametrize("front", ["!!python/object/apply:os.system [id]", "- a\n- b", "a: [", "[" * 16_000])
def test_front_matter_that_is_no_mapping_is_text_and_runs_nothing(front: str) -> None:
    assert "From two to seven." in read(f"---\n{front}\n---\n\nFrom two to seven.\n").text


def test_front_matter_of_a_billion_laughs_costs_nothing() -> None:
    lines = ["a0: &a0 [lol, lol]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)), "title: *a59"]
    assert read("---\n" + "\n".join(lines) + "\n---\nText.").title == "night-shift"


def test_headings_make_paths_below_the_title() -> None:
    document = read("# Manual\n\nIntro.\n\n## Care\n\nA.\n\n### At night\n\nB.\n\n## Food\n\nC.\n")
    assert document.title == "Manual"
    assert told(document) == [
        ((), "prose", "Manual\n\nIntro."),
        (("Care",), "prose", "Care\n\nA."),
        (("Care", "At night"), "prose", "At night\n\nB."),
        (("Food",), "prose", "Food\n\nC."),
    ]


def test_an_empty_heading_opens_nothing() -> None:
    assert told(read("## Care\n\nA.\n\n#\n\nB.\n")) == [((), "prose", "Care\n\nA.\n\nB.")]


def test_text_stays_close_to_its_source() -> None:
    document = read(
        "Wash **both** hands\nfor _30_ `seconds`, see [the guide](https://a.example/g) and ![a tap](tap.png).\n\n"
        "- first\n- second\n  - inner\n\n1. one\n2. two\n\n> quoted\n\n<!-- a note to the editor -->\n\n"
        "Line<br>break <!-- hidden --> here <b>now</b>.\n\n<div>Seen</div>\n<script>unseen()</script>\n"
    )
    assert document.text == (
        "Wash both hands\nfor 30 seconds, see the guide and a tap.\n\n"
        "- first\n- second\n  - inner\n\n1. one\n2. two\n\nquoted\n\n"
        "Line\nbreak  here now.\n\nSeen"
    )


def test_code_is_a_section_of_its_own_and_keeps_its_shape() -> None:
    document = read("## Restart\n\nRun this:\n\n```sh\nif true; then\n    restart\nfi\n```\n\nThen wait.\n")
    assert [kind for _, kind, _ in told(document)] == ["prose", "code", "prose"]
    assert told(document)[1][2] == "if true; then\n    restart\nfi"


def test_each_row_of_a_table_carries_its_columns_names() -> None:
    document = read("## Doses\n\n| Drug | Dose |\n|---|---|\n| Para*cet*amol | 1 g |\n| Ibuprofen | |\n\nEnd.\n")
    assert told(document) == [
        ((), "prose", "Doses"),
        ((), "table", "Drug: Paracetamol; Dose: 1 g\nDrug: Ibuprofen"),
        ((), "prose", "End."),
    ]


def test_two_tables_are_two_sections() -> None:
    table = "| a | b |\n|---|---|\n| 1 | 2 |\n"
    assert [kind for _, kind, _ in told(read(f"{table}\n<!-- -->\n\n{table}"))] == ["table", "table"]


def test_the_title_falls_back_to_the_heading_then_to_the_files_name() -> None:
    assert read("## Care\n\nText.").title == "Care"
    assert read("Text.").title == "night-shift"


def test_invisible_characters_are_gone_and_text_is_composed() -> None:
    document = read("pa\u200bss\u00adword \u202eevil\u202c cafe\u0301 5\u00a0mg \U000e0041\ufeff x\u2028y \x07\r\nz\n")
    assert document.text == "password evil café 5 mg  x\ny\nz"


def test_joiners_stay_where_scripts_need_them() -> None:
    persian = "می\u200cخواهم"
    assert read(persian).text == persian


@pytest.mark.parametrize(
    "source",
    [">" * 100_000 + " end", "[" * 100_000 + " end", "".join(f"{' ' * 2 * i}- end\n" for i in range(300))],
    ids=["quotes", "brackets", "lists"],
)
def test_deep_nesting_loses_nothing(source: str) -> None:
    assert "end" in read(source).text
    assert read(source).text.count("end") == source.count("end")
