"""PDF: text by page, with headings told by their size and words mended at line ends."""

import ctypes
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pypdfium2 as pdfium
from pypdfium2 import raw

from redoubt.errors import DocumentRejected
from redoubt.ingest.parse.clean import clean
from redoubt.ingest.parse.dates import instant
from redoubt.ingest.parse.detect import corrupt
from redoubt.ingest.parse.draft import Draft
from redoubt.ingest.parse.limits import Limits
from redoubt.model import ParsedDocument, Reason

HEADING_RATIO = 1.15  # of a heading's size to the body's
PARAGRAPH_RATIO = 1.35  # of a paragraph's distance to a line's
MAX_HEADING = 150  # characters
MAX_LEVELS = 4

_NO_TITLE = re.compile(r"untitled|\(anonymous\)|microsoft word.*|.*\.(?:docx?|pdf|tex|indd|odt|rtf)", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_BROKEN = re.compile(r"([^\W\d_]+)[-\u00ad\u2010]$")
_ITEM = re.compile(r"(?:[-•◦▪‣*]|\(?(?:\d{1,3}|[a-zA-Z])[.)])\s")
_DIGITS = re.compile(r"\d+")


@dataclass(slots=True)
class _Line:
    text: str
    top: float  # points from the page's lower edge
    size: float  # height of its letters' boxes, points
    page: int


def parse(data: bytes, name: str, limits: Limits) -> ParsedDocument:
    """Paragraphs are told by distance, headings by size; running heads are kept on their first page only."""
    document = _open(data)
    try:
        lines: list[_Line] = []
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
    _write(_without_running_heads(lines), draft)
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


def _lines(document: pdfium.PdfDocument, number: int) -> Iterator[_Line]:
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
                top, size = _box(textpage, first)
                yield _Line(stripped, top, size, number + 1)
    finally:
        textpage.close()
        page.close()


def _box(textpage: pdfium.PdfTextPage, index: int) -> tuple[float, float]:
    rectangle = raw.FS_RECTF()
    if not raw.FPDFText_GetLooseCharBox(textpage, index, ctypes.byref(rectangle)):
        return 0.0, 0.0
    return rectangle.top, round(abs(rectangle.top - rectangle.bottom), 1)


def _without_running_heads(lines: list[_Line]) -> list[_Line]:
    """Drop a first or last line that more than half of the pages repeat, but for its first appearance."""
    pages: dict[int, list[_Line]] = {}
    for line in lines:
        pages.setdefault(line.page, []).append(line)
    edges = [page[i] for page in pages.values() if len(page) > 2 for i in (0, -1)]
    shapes = Counter(_DIGITS.sub("#", line.text) for line in edges)
    repeated = {shape for shape, times in shapes.items() if times > max(1, len(pages) / 2)}
    seen: set[str] = set()
    dropped: set[int] = set()
    for line in edges:
        shape = _DIGITS.sub("#", line.text)
        if shape in repeated and (shape in seen or ("#" in shape and len(shape) < 20)):
            dropped.add(id(line))
        seen.add(shape)
    return [line for line in lines if id(line) not in dropped]


def _write(lines: list[_Line], draft: Draft) -> None:
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[line.size] += len(line.text)
    body = max(sizes, key=lambda size: (sizes[size], -size), default=0.0)
    larger = sorted((size for size in sizes if size > body * HEADING_RATIO), reverse=True)
    levels = {size: min(level, MAX_LEVELS) for level, size in enumerate(larger, 1)}
    pitch = _pitch(lines, body)
    words = {word.lower() for line in lines for word in _WORD.findall(line.text)}
    for block in _blocks(lines, pitch):
        first = block[0]
        text = join([line.text for line in block], words)
        if first.size in levels and len(text) <= MAX_HEADING:
            draft.heading(levels[first.size], text, first.page)
        else:
            draft.add(text, page=first.page, item=_ITEM.match(text) is not None)


def _blocks(lines: list[_Line], pitch: float) -> Iterator[list[_Line]]:
    """Lines of one size that follow each other closely; each list item by itself."""
    block: list[_Line] = []
    for line in lines:
        if block:
            last = block[-1]
            step = last.top - line.top
            close = line.page == last.page and line.size == last.size and step > 0
            if not close or step > max(pitch, line.size) * PARAGRAPH_RATIO or _ITEM.match(line.text):
                yield block
                block = []
        block.append(line)
    if block:
        yield block


def _pitch(lines: list[_Line], body: float) -> float:
    """The usual distance of two lines of body text, points."""
    distances = Counter(
        round(above.top - below.top, 1)
        for above, below in itertools.pairwise(lines)
        if above.page == below.page and above.size == below.size == body and 0 < above.top - below.top < 3 * body
    )
    return max(distances, key=lambda d: (distances[d], -d), default=0.0)


def join(lines: list[str], words: set[str]) -> str:
    """A paragraph's lines as one, with divided words mended.

    A hyphen at a line's end goes, unless the document writes that word with one elsewhere, or what follows
    is no lower-case letter. `words`: the document's own, lower case.
    """
    text = ""
    for line in lines:
        broken = _BROKEN.search(text)
        if not text:
            text = line
        elif broken is None:
            text = f"{text} {line}"
        else:
            rest = _WORD.match(line)
            kept = rest is None or not line[0].islower()
            if rest is not None and not kept:
                whole, divided = (broken[1] + rest[0]).lower(), f"{broken[1]}-{rest[0]}".lower()
                kept = divided in words and whole not in words
            text = text[:-1] + ("-" if kept else "") + line
    return clean(text)


def _language(document: pdfium.PdfDocument) -> str | None:
    buffer = (ctypes.c_ushort * 64)()
    if not raw.FPDFCatalog_GetLanguage(document, buffer, ctypes.sizeof(buffer)):
        return None
    return bytes(buffer).decode("utf-16-le", "ignore").split("\x00")[0] or None
