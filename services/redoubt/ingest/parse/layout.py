"""What lines on pages are, told by where they stand: headings, paragraphs, items, tables, running heads."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from redoubt.ingest.parse import table
from redoubt.ingest.parse.clean import clean
from redoubt.ingest.parse.draft import Draft

HEADING_RATIO = 1.15  # of a heading's size to the body's
SAME_SIZE = 0.1  # by which lines of one paragraph may differ, as a share
PARAGRAPH_RATIO = 1.35  # of a paragraph's distance to a line's
MAX_HEADING = 150  # characters
MAX_LEVELS = 4

_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_BROKEN = re.compile(r"([^\W\d_]+)[-\u00ad\u2010]$")
_ITEM = re.compile(r"(?:[-•◦▪‣*]|\(?(?:\d{1,3}|[a-zA-Z])[.)])\s")
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a page."""

    cells: tuple[str, ...]  # more than one where gaps divide it into columns
    baseline: float  # points from the page's lower edge
    size: float  # of its font as seen, points
    page: int  # from 1

    @property
    def text(self) -> str:
        return " ".join(self.cells)


def _without_running_heads(lines: list[Line]) -> list[Line]:
    """Drop a first or last line that more than half of the pages repeat, but for its first appearance."""
    pages: dict[int, list[Line]] = {}
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


def write(lines: list[Line], draft: Draft) -> None:
    """Paragraphs are told by distance, headings by size, tables by columns; running heads stand once."""
    lines = _without_running_heads(lines)
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
        if len(block) > 1 and _tabular(*block[:2]):
            rows = [line.cells for line in block]
            draft.rows(table.lines(rows[0], rows[1:]) if table.has_header(rows) else table.lines((), rows), first.page)
            continue
        text = join([line.text for line in block], words)
        if first.size in levels and len(text) <= MAX_HEADING:
            draft.heading(levels[first.size], text, first.page)
        else:
            draft.add(text, page=first.page, item=_ITEM.match(text) is not None)


def _blocks(lines: list[Line], pitch: float) -> Iterator[list[Line]]:
    """Lines that belong together: a paragraph, a heading, a list's item, a table's rows."""
    block: list[Line] = []
    for line, following in itertools.zip_longest(lines, lines[1:]):
        if block:
            last = block[-1]
            step = last.baseline - line.baseline
            within = len(block) > 1 and _tabular(*block[:2])
            if within or (following is not None and _tabular(line, following)):
                together = _tabular(last, line)
            else:
                together = (
                    line.page == last.page
                    and abs(line.size - last.size) <= SAME_SIZE * last.size
                    and 0 < step <= max(pitch, line.size) * PARAGRAPH_RATIO
                    and not _ITEM.match(line.text)
                )
            if not together:
                yield block
                block = []
        block.append(line)
    if block:
        yield block


def _tabular(line: Line, other: Line) -> bool:
    """Whether two lines are rows of one table."""
    return (
        line.page == other.page
        and len(line.cells) == len(other.cells) > 1
        and not _ITEM.match(line.text)
        and not _ITEM.match(other.text)
    )


def _pitch(lines: list[Line], body: float) -> float:
    """The usual distance of two lines of body text, points."""
    distances = Counter(
        round(above.baseline - below.baseline, 1)
        for above, below in itertools.pairwise(lines)
        if above.page == below.page
        and above.size == below.size == body
        and 0 < above.baseline - below.baseline < 3 * body
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
