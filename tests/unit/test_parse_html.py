"""HTML: only what a reader sees, with headings, lists and tables told in words."""

from datetime import UTC, datetime

import pytest

from redoubt.errors import DocumentRejected
from redoubt.ingest.parse import Limits, parse
from redoubt.model import ParsedDocument, Reason


def read(source: str | bytes, limits: Limits | None = None) -> ParsedDocument:
    data = source if isinstance(source, bytes) else source.encode()
    return parse(data, "site/opening.html", limits=limits or Limits())


def tables(document: ParsedDocument) -> list[list[str]]:
    return [document.text[s.span.start : s.span.end].split("\n") for s in document.sections if s.kind == "table"]


def test_title_date_language_and_headings() -> None:
    document = read(
        '<html lang="de-DE"><head><title> Notfall\n nummern </title><meta name="date" content="2025-12-08"></head>'
        "<body><h1>Notfallnummern</h1><p>Intern.</p><h2>Brand</h2><p>Wählen Sie <b>5</b>.</p></body></html>"
    )
    assert (document.title, document.language) == ("Notfall nummern", "de")
    assert document.as_of == datetime(2025, 12, 8, tzinfo=UTC)
    assert [s.heading for s in document.sections] == [("Notfallnummern",), ("Notfallnummern", "Brand")]
    assert document.text == "Notfallnummern\n\nIntern.\n\nBrand\n\nWählen Sie 5."


@pytest.mark.parametrize(
    "hidden",
    [
        "<script>secret</script>",
        "<style>secret</style>",
        "<nav>secret</nav>",
        "<!-- secret -->",
        "<template>secret</template>",
        "<noscript>secret</noscript>",
        "<svg><text>secret</text></svg>",
        "<p hidden>secret</p>",
        '<div aria-hidden="true"><p>secret</p></div>',
        '<p style="color: red; DISPLAY : none">secret</p>',
        '<p style="visibility:hidden">secret</p>',
        '<span style="font-size:0px">secret</span>',
        '<span style="opacity:0">secret</span>',
        "<table><tr hidden><td>secret</td><td>x</td></tr><tr><td>a</td><td>b</td></tr></table>",
    ],
)
def test_what_people_do_not_see_is_not_read(hidden: str) -> None:
    document = read(f"<p>Before</p>{hidden}<p>After</p>")
    assert "secret" not in document.text
    assert document.text.startswith("Before")
    assert document.text.endswith("After")


@pytest.mark.parametrize("style", ["opacity:0.9", "font-size:0.9em", "display:block"])
def test_what_people_do_see_is_read(style: str) -> None:
    assert read(f'<p style="{style}">Seen</p>').text == "Seen"


def test_blocks_lists_breaks_and_preformatted_text() -> None:
    document = read(
        "<div>One<div>Two &amp; <i>three</i></div>four</div><ul><li>a<li>b<ul><li>c</ul></ul>"
        '<ol start="3"><li>x<li>y</ol><p>line<br>break</p><pre>  a\n    b</pre>'
    )
    assert document.text == ("One\n\nTwo & three\n\nfour\n\n- a\n- b\n  - c\n\n3. x\n4. y\n\nline\nbreak\n\n  a\n    b")


def test_rows_carry_the_names_of_their_columns() -> None:
    document = read(
        "<table><caption>Hours</caption><tr><th>Service</th><th>Week</th><th>Saturday</th></tr>"
        "<tr><td>Blood <b>tests</b></td><td colspan=2>closed</td></tr>"
        "<tr><td rowspan=2>X-ray</td><td>8–20</td><td></td></tr><tr><td>by night</td><td>no</td></tr></table>"
    )
    assert document.text.startswith("Hours")
    assert tables(document) == [
        [
            "Service: Blood tests; Week: closed; Saturday: closed",
            "Service: X-ray; Week: 8–20",
            "Service: X-ray; Week: by night; Saturday: no",
        ]
    ]


def test_a_table_without_a_header_has_its_values_only() -> None:
    assert tables(read("<table><tr><td>1</td><td>2</td></tr><tr><td>3</td><td>4</td></tr></table>")) == [
        ["1; 2", "3; 4"]
    ]


def test_a_table_that_lays_out_the_page_is_prose() -> None:
    document = read(
        "<table><tr><td>menu</td><td><h1>Top</h1><p>Text.</p><table><tr><th>a</th><th>b</th></tr>"
        "<tr><td>1</td><td>2</td></tr></table></td></tr></table>"
    )
    assert tables(document) == [["a: 1; b: 2"]]
    assert "Top\n\nText." in document.text


def test_the_declared_encoding_counts_when_it_is_not_utf8() -> None:
    page = '<meta charset="iso-8859-2"><p>Łódź żółw</p>'
    assert read(page.encode("iso-8859-2")).text == "Łódź żółw"
    with pytest.raises(DocumentRejected) as refused:
        read(b'<meta charset="no-such-thing"><p>\xa3\xf3d\xbc</p>')
    assert refused.value.reason == Reason.ENCODING


def test_a_page_of_scripts_only_holds_no_text() -> None:
    with pytest.raises(DocumentRejected) as refused:
        read("<html><script>render()</script></html>")
    assert refused.value.reason == Reason.NO_TEXT


@pytest.mark.parametrize("tag", ["div", "b", "blockquote"])
def test_a_hundred_thousand_nested_elements_are_refused_before_they_cost_anything(tag: str) -> None:
    with pytest.raises(DocumentRejected) as refused:
        read(f"<{tag}>" * 100_000 + "x")
    assert refused.value.reason == Reason.CORRUPT


def test_markup_within_scripts_and_comments_nests_nothing() -> None:
    assert read("<script>" + "if (a<b) " * 9_000 + "</script><!--" + "<b>" * 9_000 + "--><p>x").text == "x"


def test_unclosed_paragraphs_and_cells_nest_nothing() -> None:
    assert read("<p>word " * 20_000).text.count("word") == 20_000
