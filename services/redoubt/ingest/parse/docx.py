"""DOCX: paragraphs, headings by style, tables by row; read as the ZIP of XML that it is.

Only the parts that hold text are unpacked, after the archive's directory has been checked.
"""

import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from redoubt.errors import DocumentRejected
from redoubt.ingest.parse import table
from redoubt.ingest.parse.dates import instant
from redoubt.ingest.parse.detect import corrupt
from redoubt.ingest.parse.draft import Draft
from redoubt.ingest.parse.limits import Limits
from redoubt.model import ParsedDocument, Reason

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_DC = "{http://purl.org/dc/elements/1.1/}"
_DCTERMS = "{http://purl.org/dc/terms/}"
_BREAKS = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
_DROPPED = {f"{_W}del", f"{_W}moveFrom", f"{_W}instrText", f"{_W}delText", _FALLBACK}
_BIG_MEMBER = 10_000_000  # bytes unpacked, below which a member's ratio does not matter


@dataclass(frozen=True, slots=True)
class _Style:
    level: int | None  # of a heading, from 1
    title: bool
    listed: bool


def parse(data: bytes, name: str, limits: Limits) -> ParsedDocument:
    """Headings become the heading path; deleted and hidden text is left out."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            check(archive, limits)
            names = set(archive.namelist())
            if "word/document.xml" not in names:
                raise corrupt("the file is a ZIP archive, and no Word document")
            main = _xml(archive.read("word/document.xml"))
            styles = _styles(_xml(archive.read("word/styles.xml"))) if "word/styles.xml" in names else {}
            notes = _xml(archive.read("word/footnotes.xml")) if "word/footnotes.xml" in names else None
            core = _xml(archive.read("docProps/core.xml")) if "docProps/core.xml" in names else None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise corrupt("the Word document cannot be unpacked", "the archive is cut off or damaged") from error
    except RuntimeError as error:  # zipfile's word for a password
        raise DocumentRejected(
            Reason.ENCRYPTED, "the document is encrypted", fix="save it without a password, or exclude it"
        ) from error
    draft = Draft(name, limits)
    body = main.find(f"{_W}body")
    title = _body(body, styles, draft) if body is not None else ""
    if notes is not None:
        for note in notes.iterfind(f"{_W}footnote"):
            draft.add("\n".join(filter(None, map(_text, note.iterfind(f"{_W}p")))))
    meta = {child.tag: child.text or "" for child in core} if core is not None else {}
    return draft.finish(
        title=meta.get(f"{_DC}title", "").strip() or title,
        as_of=instant(meta.get(f"{_DCTERMS}modified")) or instant(meta.get(f"{_DCTERMS}created")),
        language=meta.get(f"{_DC}language"),
    )


def check(archive: zipfile.ZipFile, limits: Limits) -> None:
    """Refuse an archive that would unpack to too much. A member that lies about its size fails when it is read."""
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    worst = max((m.file_size / max(m.compress_size, 1) for m in members if m.file_size > _BIG_MEMBER), default=0.0)
    if len(members) > limits.max_members or unpacked > limits.max_unpacked_bytes or worst > limits.max_ratio:
        raise _bomb(f"{len(members):,} files of {unpacked:,} bytes when unpacked")


def _bomb(why: str) -> DocumentRejected:
    return DocumentRejected(Reason.BOMB, "the document unpacks to far more than it is", why=why, fix="exclude it")


def _xml(data: bytes) -> etree._Element:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    if _STRICT.encode() in data[:4096]:
        data = data.replace(_STRICT.encode(), _W.strip("{}").encode())
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        if b"<!ENTITY" in data[:65_536].replace(b"\x00", b""):  # in UTF-16 too
            raise _bomb("its XML defines entities, which Word never does") from error
        raise corrupt("the Word document's XML is broken") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise _bomb("its XML defines entities, which Word never does")
    return root


def _styles(root: etree._Element) -> dict[str, _Style]:
    raw = {style.get(f"{_W}styleId", ""): style for style in root.iterfind(f"{_W}style")}
    return {style_id: _style(style, raw) for style_id, style in raw.items()}


def _style(style: etree._Element, raw: dict[str, etree._Element]) -> _Style:
    """What a style, or one of those that it is based on, makes of a paragraph."""
    level, listed, title = None, False, False
    for _ in range(10):  # a chain of styles may be a circle
        name = _value(style.find(f"{_W}name")).lower()
        if level is None and name.startswith("heading ") and name[8:].isdigit():
            level = int(name[8:])
        if level is None and (outline := _value(style.find(f"{_W}pPr/{_W}outlineLvl"))).isdigit():
            level = int(outline) + 1 if int(outline) < 9 else None
        listed = listed or style.find(f"{_W}pPr/{_W}numPr") is not None or name.startswith("list ")
        title = title or name == "title"
        parent = raw.get(_value(style.find(f"{_W}basedOn")))
        if parent is None:
            break
        style = parent
    return _Style(level, title, listed and level is None)


def _body(body: etree._Element, styles: dict[str, _Style], draft: Draft) -> str:
    """Write the blocks; returns the text of the first paragraph in the title style."""
    title = ""
    plain = _Style(None, False, False)
    for block in _blocks(body):
        if block.tag == f"{_W}tbl":
            rows = _rows(block)
            if rows and max(map(len, rows)) > 1:
                draft.rows(table.lines(rows[0], rows[1:]) if table.has_header(rows) else table.lines((), rows))
            else:
                for row in rows:
                    draft.add("\n".join(row))
            continue
        text = _text(block).strip()
        properties = block.find(f"{_W}pPr")
        style = styles.get(_value(properties.find(f"{_W}pStyle")), plain) if properties is not None else plain
        outline = _value(properties.find(f"{_W}outlineLvl")) if properties is not None else ""
        level = int(outline) + 1 if outline.isdigit() and int(outline) < 9 else style.level
        if style.title and not title:
            title = text
            draft.heading(1, text)
        elif level is not None:
            draft.heading(level + (1 if title else 0), text)
        elif text:
            listed = style.listed or (properties is not None and properties.find(f"{_W}numPr") is not None)
            draft.add(f"- {text}" if listed else text, item=listed)
    return title


def _blocks(parent: etree._Element) -> Iterator[etree._Element]:
    """Paragraphs and tables, also within content controls and tracked insertions."""
    for child in parent:
        if child.tag in {f"{_W}p", f"{_W}tbl"}:
            yield child
        elif child.tag not in _DROPPED:
            yield from _blocks(child)  # libxml2 has bounded the depth


def _text(paragraph: etree._Element) -> str:
    """A paragraph's visible text, text boxes within it included."""
    parts: list[str] = []
    stack: list[etree._Element] = [paragraph]
    while stack:
        node = stack.pop()
        if node.tag == f"{_W}t":
            parts.append(node.text or "")
        elif node.tag in _BREAKS:
            parts.append(_BREAKS[node.tag])
        elif node.tag not in _DROPPED and not _hidden(node):
            if node.tag == f"{_W}p" and parts:
                parts.append("\n")
            stack.extend(reversed(node))
    return "".join(parts)


def _hidden(node: etree._Element) -> bool:
    if node.tag != f"{_W}r":
        return False
    vanish = node.find(f"{_W}rPr/{_W}vanish")
    return vanish is not None and vanish.get(f"{_W}val", "true") not in {"0", "false", "off"}


def _rows(tbl: etree._Element) -> list[list[str]]:
    """A table's cells, merged ones filled in."""
    rows: list[list[str]] = []
    for row in tbl.iter(f"{_W}tr"):
        if next(row.iterancestors(f"{_W}tbl")) is not tbl:
            continue  # of a table within a cell: its text is the cell's
        cells: list[str] = []
        for cell in row.iter(f"{_W}tc"):
            if next(cell.iterancestors(f"{_W}tr")) is not row:
                continue
            text = " ".join(filter(None, (_text(p).strip() for p in cell.iter(f"{_W}p"))))
            merge = cell.find(f"{_W}tcPr/{_W}vMerge")
            if merge is not None and merge.get(f"{_W}val") != "restart" and rows and len(cells) < len(rows[-1]):
                text = rows[-1][len(cells)]
            span = _value(cell.find(f"{_W}tcPr/{_W}gridSpan"))
            cells += [text] * (min(int(span), 100) if span.isdigit() and int(span) else 1)
        if any(cells):
            rows.append(cells)
    return rows


def _value(element: etree._Element | None) -> str:
    return element.get(f"{_W}val", "") if element is not None else ""
