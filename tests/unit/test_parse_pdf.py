"""PDF: pages, headings by size, and words mended at line ends."""

import io
from datetime import UTC, datetime

import pytest
from reportlab.lib.pagesizes import A5
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, PageBreak, Paragraph, SimpleDocTemplate, Table

from redoubt.errors import DocumentRejected
from redoubt.ingest.parse import Limits, parse
from redoubt.ingest.parse.layout import join
from redoubt.model import ParsedDocument, Reason

SENTENCE = "The ward is open from nine to five on weekdays, and the night nurse answers calls at all other hours. "


def read(data: bytes, name: str = "pub/guide.pdf") -> ParsedDocument:
    return parse(data, name, limits=Limits())


def story(*blocks: str, title: str | None = "Guide", running: str = "") -> bytes:
    """A PDF of blocks: "# " and "## " are headings, "---" is a new page, the rest paragraphs."""
    styles = getSampleStyleSheet()
    flow: list[Flowable] = []
    for block in blocks:
        if block == "---":
            flow.append(PageBreak())
        else:
            style = "Heading1" if block.startswith("# ") else "Heading2" if block.startswith("## ") else "BodyText"
            flow.append(Paragraph(block.lstrip("# "), styles[style]))
    out = io.BytesIO()

    def edge(canvas: Canvas, document: SimpleDocTemplate) -> None:
        canvas.drawString(40, 20, running.format(document.page))

    SimpleDocTemplate(out, pagesize=A5, title=title).build(flow, onFirstPage=edge, onLaterPages=edge)
    return out.getvalue()


def drawn(*lines: tuple[float, str], **options: object) -> bytes:
    """A PDF of one page with each text at its height."""
    out = io.BytesIO()
    canvas = Canvas(out, **options)
    for height, text in lines:
        canvas.drawString(72, height, text)
    canvas.showPage()
    canvas.save()
    return out.getvalue()


def test_headings_pages_and_paragraphs() -> None:
    document = read(story("# Guide", SENTENCE * 3, "## Nights", SENTENCE * 2, SENTENCE, "---", SENTENCE * 2))
    assert document.title == "Guide"
    assert [(s.heading, s.page) for s in document.sections] == [((), 1), (("Nights",), 1), (("Nights",), 2)]
    nights = document.sections[1].span
    assert document.text[nights.start : nights.end] == f"Nights\n\n{(SENTENCE * 2).strip()}\n\n{SENTENCE.strip()}"


def test_title_and_date_come_from_the_metadata() -> None:
    document = read(
        story("# Opening hours", SENTENCE).replace(b"/Title (Guide)", b"/Title (Hours)")
        # Same length, so that the file's offsets stay right.
    )
    assert document.title == "Hours"
    assert document.as_of is not None
    assert document.as_of.tzinfo == UTC


def test_a_modification_date_is_read_with_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1709300000")
    document = read(drawn((700, SENTENCE), invariant=0))
    assert document.as_of == datetime(2024, 3, 1, 13, 33, 20, tzinfo=UTC)


@pytest.mark.parametrize("title", [None, "untitled", "Microsoft Word - plan.docx", "plan.indd"])
def test_a_title_that_a_program_made_up_is_none(title: str | None) -> None:
    assert read(story("# Opening hours", SENTENCE, title=title)).title == "Opening hours"


def test_a_tables_rows_carry_their_columns_names() -> None:
    styles = getSampleStyleSheet()
    out = io.BytesIO()
    rows = [["Item", "2025", "2026"], ["Income", "471.0", "486.2"], ["Result", "-3.9", "-2.8"]]
    SimpleDocTemplate(out).build(
        [Paragraph(SENTENCE * 2, styles["BodyText"]), Table(rows), Paragraph(SENTENCE, styles["BodyText"])]
    )
    document = read(out.getvalue())
    assert [s.kind for s in document.sections] == ["prose", "table", "prose"]
    span = document.sections[1].span
    assert document.text[span.start : span.end] == (
        "Item: Income; 2025: 471.0; 2026: 486.2\nItem: Result; 2025: -3.9; 2026: -2.8"
    )


def test_running_heads_stay_once() -> None:
    pages = [SENTENCE * 2, "---"] * 4
    document = read(story(*pages[:-1], running="Larkmere Group, page {}"))
    assert document.text.count("Larkmere Group") == 1
    assert document.text.count("night nurse") == 8
    assert {s.page for s in document.sections} == {1, 2, 3, 4}


def test_words_divided_at_line_ends_are_mended() -> None:
    document = read(
        drawn((700, "Please keep the anti-"), (686, "coagulants refrige-"), (672, "rated at Tallow-"), (658, "Hill."))
    )
    assert document.text == "Please keep the anticoagulants refrigerated at Tallow-Hill."


@pytest.mark.parametrize(
    ("lines", "words", "whole"),
    [
        (["a well-", "known fact"], {"well-known"}, "a well-known fact"),
        (["a well-", "known fact"], set(), "a wellknown fact"),
        (["from 2024-", "2026"], set(), "from 2024- 2026"),
        (["Emil-", "Noether"], set(), "Emil-Noether"),
        (["cost \u2013", "benefit"], set(), "cost \u2013 benefit"),
    ],
)
def test_a_hyphen_goes_only_where_it_divides(lines: list[str], words: set[str], whole: str) -> None:
    assert join(lines, words) == whole


def test_a_paragraph_of_several_fonts_stays_one() -> None:
    text = "A word <font name='Courier'>in typewriter face</font> and so on, and the next line may begin with it. " * 6
    styles = getSampleStyleSheet()
    out = io.BytesIO()
    SimpleDocTemplate(out, pagesize=A5).build([Paragraph(text, styles["BodyText"])])
    assert "\n" not in read(out.getvalue()).text


def test_a_scan_holds_no_text() -> None:
    out = io.BytesIO()
    canvas = Canvas(out)
    canvas.rect(100, 100, 200, 200, fill=1)
    canvas.showPage()
    canvas.save()
    with pytest.raises(DocumentRejected) as refused:
        read(out.getvalue())
    assert refused.value.reason == Reason.NO_TEXT


def test_an_encrypted_file_is_told_from_a_broken_one() -> None:
    locked = drawn((700, SENTENCE), encrypt=StandardEncryption("reader", "owner"))
    whole = drawn((700, SENTENCE))
    for data, reason in (
        (locked, Reason.ENCRYPTED),
        (b"%PDF-1.7\n" + b"garbage " * 100, Reason.CORRUPT),
        (whole[:200], Reason.CORRUPT),
        (b"no PDF at all", Reason.CORRUPT),
    ):
        with pytest.raises(DocumentRejected) as refused:
            read(data)
        assert refused.value.reason == reason


def test_a_file_that_anyone_may_open_is_read() -> None:
    assert "night nurse" in read(drawn((700, SENTENCE), encrypt=StandardEncryption("", "owner"))).text


def test_a_pdf_is_a_pdf_whatever_it_is_called() -> None:
    assert "night nurse" in read(drawn((700, SENTENCE)), "notes.txt").text
