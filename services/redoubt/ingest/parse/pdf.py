"""PDF: lines of text by page, with where they stand; `layout` tells what they are."""

import ctypes
import math
import re
from collections.abc import Iterator

import pypdfium2 as pdfium
from pypdfium2 import raw

from redoubt.errors import DocumentRejected
from redoubt.ingest.parse.dates import instant
from redoubt.ingest.parse.detect import corrupt
from redoubt.ingest.parse.draft import Draft
from redoubt.ingest.parse.layout import Line, write
from redoubt.ingest.parse.limits import Limits
from redoubt.model import ParsedDocument, Reason

COLUMN_GAP = 1.0  # of a line's size, between two columns

_NO_TITLE = re.compile(r"untitled|\(anonymous\)|microsoft word.*|.*\.(?:docx?|pdf|tex|indd|odt|rtf)", re.IGNORECASE)


def parse(data: bytes, name: str, limits: Limits) -> ParsedDocument:
    """Paragraphs are told by distance, headings by size; running heads are kept on their first page only."""
    document = _open(data)
    try:
        lines: list[Line] = []
        length = 0
        for number in range(len(document)):
            page = list(_lines(document, number))
            lines += page
            length += sum(len(line.text) for line in page)
            if length > 2 * limits.max_text_chars:
                break  # the draft says so
        meta = document.get_metadata_dict()
        language = _language(document)
    finally:
        document.close()
    draft = Draft(name, limits)
    write(lines, draft)
    title = meta.get("Title", "").strip()
    return draft.finish(
        title="" if _NO_TITLE.fullmatch(title) else title,
        as_of=instant(meta.get("ModDate")) or instant(meta.get("CreationDate")),
        language=language,
    )


def _open(data: bytes) -> pdfium.PdfDocument:
    try:
        document = pdfium.PdfDocument(data)
        pages = len(document)
    except pdfium.PdfiumError as error:
        code = raw.FPDF_GetLastError()
        if code in {raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY}:
            raise DocumentRejected(
                Reason.ENCRYPTED, "the PDF is encrypted", fix="save it without a password, or exclude it"
            ) from error
        raise corrupt("the PDF cannot be opened", "its structure is broken") from error
    if pages == 0:
        raise corrupt("the PDF has no pages")
    return document


def _lines(document: pdfium.PdfDocument, number: int) -> Iterator[Line]:
    try:
        page = document[number]
        textpage = page.get_textpage()
    except pdfium.PdfiumError:
        return  # one broken page does not cost the others
    try:
        count = textpage.count_chars()
        text = "".join(chr(raw.FPDFText_GetUnicode(textpage, i)) for i in range(count))
        for match in re.finditer(r"[^\r\n\x02]+", text):
            line = match[0]
            if text[match.end() : match.end() + 1] == "\x02":
                line += "-"  # pdfium's sign for a hyphen that it takes to divide a word between two lines
            if stripped := line.strip():
                first = match.start() + line.index(stripped[0])
                size = _size(textpage, first)
                yield Line(_cells(textpage, first, stripped, size), _baseline(textpage, first), size, number + 1)
    finally:
        textpage.close()
        page.close()


def _cells(textpage: pdfium.PdfTextPage, start: int, line: str, size: float) -> tuple[str, ...]:
    """A line's text, divided where the gap between two words is a column's."""
    cells = []
    at = 0
    for gap in re.finditer(r"\s+", line):
        if _gap(textpage, start + gap.start() - 1, start + gap.end()) > COLUMN_GAP * size > 0:
            cells.append(line[at : gap.start()])
            at = gap.end()
    return (*cells, line[at:])


def _gap(textpage: pdfium.PdfTextPage, before: int, after: int) -> float:
    """The distance between two letters of a line, points."""
    left, right = raw.FS_RECTF(), raw.FS_RECTF()
    raw.FPDFText_GetLooseCharBox(textpage, before, ctypes.byref(left))
    raw.FPDFText_GetLooseCharBox(textpage, after, ctypes.byref(right))
    return float(right.left - left.right)


def _baseline(textpage: pdfium.PdfTextPage, index: int) -> float:
    x, y = ctypes.c_double(), ctypes.c_double()
    raw.FPDFText_GetCharOrigin(textpage, index, ctypes.byref(x), ctypes.byref(y))
    return y.value


def _size(textpage: pdfium.PdfTextPage, index: int) -> float:
    """A letter's font size as it is seen, points: the page may scale what the font says."""
    matrix = raw.FS_MATRIX()
    scaled = raw.FPDFText_GetMatrix(textpage, index, ctypes.byref(matrix))
    scale = math.hypot(matrix.c, matrix.d) if scaled else 1.0
    return round(float(raw.FPDFText_GetFontSize(textpage, index)) * scale, 1)


def _language(document: pdfium.PdfDocument) -> str | None:
    buffer = (ctypes.c_ushort * 64)()
    if not raw.FPDFCatalog_GetLanguage(document, buffer, ctypes.sizeof(buffer)):
        return None
    return bytes(buffer).decode("utf-16-le", "ignore").split("\x00")[0] or None
