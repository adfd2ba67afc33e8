"""HTML: what a reader sees, without scripts, navigation and whatever is hidden from people."""

import re
from typing import Any

from selectolax.lexbor import LexborHTMLParser, LexborNode

from redoubt.ingest.parse import table
from redoubt.ingest.parse.dates import instant
from redoubt.ingest.parse.decode import decode
from redoubt.ingest.parse.detect import corrupt
from redoubt.ingest.parse.draft import Draft
from redoubt.ingest.parse.limits import Limits
from redoubt.model import ParsedDocument

# fmt: off
_SKIPPED = frozenset({
    "head", "script", "style", "nav", "noscript", "template", "svg", "math", "iframe", "object", "embed", "canvas",
    "audio", "video", "map", "button", "select", "datalist", "input", "textarea", "dialog", "-comment",
})
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "html", "legend", "li", "main", "ol", "p",
    "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
})
_HEADINGS = {f"h{n}": n for n in range(1, 7)}
_HIDING = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|(?:font-size|opacity)\s*:\s*0(?![.\d])", re.IGNORECASE
)
_TAG = re.compile(r"<(?:(!--)|(/?)([a-z][a-z0-9]*))")
_RAW = {"script": "</script", "style": "</style", "textarea": "</textarea", "title": "</title"}
# Elements that may be left open without nesting any deeper.
_FLAT = frozenset({
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr", "p", "li",
    "dt", "dd", "option", "tr", "td", "th", "thead", "tbody", "tfoot",
})
# fmt: on
_CHARSET = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""")
_DATES = (
    "date",
    "dcterms.modified",
    "dcterms.date",
    "dc.date",
    "article:modified_time",
    "article:published_time",
    "last-modified",
)
_BLANKS = re.compile(r"[ \t\n\r\f\v]+")


def parse(data: bytes, name: str, limits: Limits) -> ParsedDocument:
    """Headings become the heading path, table rows carry their header's names, lists keep their marks."""
    declared = _CHARSET.search(data[:1024])
    source = decode(data, declared[1].decode("ascii") if declared else None)
    if (depth := _depth(source)) > limits.max_depth:
        raise corrupt(f"the page nests {depth:,} elements in each other", f"at most {limits.max_depth:,} are read")
    tree = LexborHTMLParser(source)
    draft = Draft(name, limits)
    if tree.body is not None:
        _Walk(draft).element(tree.body)
    metas = {
        (meta.attributes.get("name") or meta.attributes.get("property") or meta.attributes.get("http-equiv") or "")
        .strip()
        .lower(): meta.attributes.get("content")
        for meta in tree.css("meta")
    }
    title = tree.css_first("head > title")
    root = tree.css_first("html")
    return draft.finish(
        title=title.text() if title else "",
        as_of=next((found for key in _DATES if (found := instant(metas.get(key)))), None),
        language=root.attributes.get("lang") if root else None,
    )


def fragment(source: str) -> str:
    """The visible text of a piece of HTML within another format; too deep a piece is left out."""
    if "<" not in source or _depth(source) > Limits().max_depth:
        return "" if "<" in source else source
    body = LexborHTMLParser(source).body
    return _flat(body) if body is not None else ""


def _depth(source: str) -> int:
    """How deep elements nest, at most: parsers take the square of it in time, so it is told before parsing."""
    source = source.lower()
    depth = deepest = at = 0
    while match := _TAG.search(source, at):
        comment, close, tag = match.groups()
        at = match.end()
        if comment or (tag in _RAW and not close):
            # What stands in there is no markup.
            at = source.find("-->" if comment else _RAW[tag], at)
            if at < 0:
                break
        elif tag not in _FLAT and tag not in _RAW:
            depth = max(0, depth - 1) if close else depth + 1
            deepest = max(deepest, depth)
    return deepest


def _visible(node: LexborNode) -> bool:
    if node.tag in _SKIPPED:
        return False
    attributes: dict[str, Any] = node.attributes
    return not attributes or not (
        "hidden" in attributes
        or (attributes.get("aria-hidden") or "").lower() == "true"
        or _HIDING.search(attributes.get("style") or "")
    )


def _flat(root: LexborNode) -> str:
    """All visible text below a node, blocks divided by spaces."""
    parts: list[str] = []
    stack: list[LexborNode | str] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            parts.append(node)
        elif node.tag == "-text":
            parts.append(node.text_content or "")
        elif _visible(node):
            edge = " " if node.tag in _BLOCKS or node.tag in _HEADINGS or node.tag == "br" else ""
            stack.append(edge)
            stack.extend(reversed(list(node.iter(include_text=True))))
            stack.append(edge)
    return _BLANKS.sub(" ", "".join(parts)).strip()


class _Walk:
    """One pass over the tree with a stack of its own: documents may nest deeper than Python's."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._line: list[str] = []  # inline text since the last block edge
        self._pre = 0  # open <pre> elements
        self._lists: list[int | None] = []  # the next number of an open <ol>, None for <ul>
        self._marker = ""

    def element(self, root: LexborNode) -> None:
        stack: list[tuple[LexborNode, bool]] = [(root, False)]
        while stack:
            node, leaving = stack.pop()
            if leaving:
                self._leave(node)
            elif node.tag == "-text":
                self._line.append(node.text_content or "")
            elif _visible(node) and self._enter(node):
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(list(node.iter(include_text=True))))
        self._flush()

    def _enter(self, node: LexborNode) -> bool:
        """Open an element; False when it has been dealt with whole."""
        tag = node.tag
        if tag in _HEADINGS:
            self._flush()
            self._draft.heading(_HEADINGS[tag], _flat(node))
            return False
        if tag == "table":
            self._flush()
            if rows := _rows(node):
                self._table(node, rows)
                return False
        elif tag == "br":
            self._line.append("\n" if self._pre else "\x00")
        elif tag == "pre":
            self._flush()
            self._pre += 1
        elif tag in {"ul", "ol"}:
            self._flush()
            if not self._lists:
                self._draft.apart()
            start = node.attributes.get("start") or "1"
            self._lists.append(None if tag == "ul" else int(start) if re.fullmatch(r"\d{1,9}", start) else 1)
        elif tag == "li":
            self._flush()
            self._marker = "- "
            if self._lists and (number := self._lists[-1]) is not None:
                self._marker = f"{number}. "
                self._lists[-1] = number + 1
        elif tag in _BLOCKS:
            self._flush()
        return True

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag
        if tag in _BLOCKS or tag == "pre":
            self._flush()
        if tag == "pre":
            self._pre -= 1
        elif tag in {"ul", "ol"}:
            self._lists.pop()
        elif tag == "li":
            self._marker = ""

    def _flush(self) -> None:
        text = "".join(self._line)
        self._line.clear()
        if self._pre:
            self._draft.add(text, "code")
            return
        # A line break is kept through the folding of blanks.
        text = re.sub(r" ?\x00 ?", "\n", _BLANKS.sub(" ", text)).strip()
        if text:
            indent = "  " * (len(self._lists) - 1) if self._lists else ""
            lead = self._marker or ("  " if self._lists else "")
            self._draft.add(indent + lead + text, item=bool(self._marker))
            self._marker = ""

    def _table(self, node: LexborNode, rows: list[list[str]]) -> None:
        caption = node.css_first("caption")
        if caption is not None and _visible(caption):
            self._draft.add(_flat(caption))
        marked = _header_is_marked(node)
        if marked or table.has_header(rows):
            self._draft.rows(table.lines(rows[0], rows[1:]))
        else:
            self._draft.rows(table.lines((), rows))


def _header_is_marked(node: LexborNode) -> bool:
    """Whether the first row says itself that it is the header."""
    first = node.css_first("tr")
    cells = [cell.tag for cell in first.iter()] if first is not None else []
    return bool(cells) and (all(tag == "th" for tag in cells) or (first is not None and _within_head(first)))


def _within_head(row: LexborNode) -> bool:
    return row.parent is not None and row.parent.tag == "thead"


def _rows(node: LexborNode) -> list[list[str]]:
    """A data table's cells, spans filled in; empty for a table that only lays a page out."""
    if node.css_first("table table, table h1, table h2, table h3") is not None and _lays_out(node):
        return []
    rows: list[list[str]] = []
    carried: dict[int, tuple[int, str]] = {}  # column: rows still to fill, text
    for row in node.css("tr"):
        if not _visible(row):
            continue
        cells: list[str] = []
        for cell in row.iter():
            if cell.tag not in {"td", "th"}:
                continue
            _fill(cells, carried)
            text = _flat(cell)
            for _ in range(_span(cell, "colspan")):
                if (down := _span(cell, "rowspan")) > 1:
                    carried[len(cells)] = (down - 1, text)
                cells.append(text)
        _fill(cells, carried)
        if any(cells):
            rows.append(cells)
    return rows if len(rows) > 1 and max(map(len, rows)) > 1 else []


def _lays_out(node: LexborNode) -> bool:
    return any(cell.css_first("table, h1, h2, h3") is not None for cell in node.css("td"))


def _fill(cells: list[str], carried: dict[int, tuple[int, str]]) -> None:
    """Copy down the cells of earlier rows that reach into this one."""
    while (above := carried.get(len(cells))) is not None:
        left, text = above
        if left > 1:
            carried[len(cells)] = (left - 1, text)
        else:
            del carried[len(cells)]
        cells.append(text)


def _span(cell: LexborNode, name: str) -> int:
    value = cell.attributes.get(name) or "1"
    return min(max(int(value), 1), 100) if re.fullmatch(r"\d{1,6}", value) else 1
