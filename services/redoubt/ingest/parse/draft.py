"""A document in the making: parsers say what they see, and the draft keeps text, headings and spans in step."""

import re
from datetime import datetime
from pathlib import PurePosixPath
from typing import Literal

from redoubt.errors import DocumentRejected
from redoubt.ingest.parse.clean import clean, one_line
from redoubt.ingest.parse.limits import Limits
from redoubt.model import ParsedDocument, Reason, Section, Span

Kind = Literal["prose", "table", "code"]

MAX_TITLE = 300  # characters
_LANGUAGE = re.compile(r"[A-Za-z]{2}(?![A-Za-z])")


class Draft:
    """Blocks of text in reading order, under the headings that were open when each was added."""

    def __init__(self, name: str, limits: Limits) -> None:
        self._name = name
        self._limits = limits
        self._parts: list[str] = []
        self._length = 0  # characters in `_parts`
        self._path: list[tuple[int, str]] = []  # level, heading
        self._first_heading = ""
        self._sections: list[Section] = []
        self._item = False  # the last block was a list's item
        self._closed = True  # the next block starts a section

    def heading(self, level: int, text: str, page: int | None = None) -> None:
        """A heading: it stands in the text, and opens a section of its own. An empty one changes nothing."""
        text = one_line(text)
        if not text:
            return
        self._first_heading = self._first_heading or text
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        self._path.append((level, text[:MAX_TITLE]))
        self._start(text, "prose", page)
        self._item = False

    def add(self, text: str, kind: Kind = "prose", page: int | None = None, *, item: bool = False) -> None:
        """A block of text, a blank line below the last one; items of a list follow each other directly."""
        text = clean(text).strip("\n").rstrip()
        if not text.strip():
            return
        last = self._sections[-1] if self._sections and not self._closed else None
        if last and (last.page, last.kind) == (page, kind):
            self._append("\n" if (item and self._item) or kind == "table" else "\n\n", text)
            self._sections[-1] = Section(Span(last.span.start, self._length), last.heading, page, kind)
        else:
            self._start(text, kind, page)
        self._item = item

    def apart(self) -> None:
        """The next item begins a list of its own."""
        self._item = False

    def rows(self, lines: list[str], page: int | None = None) -> None:
        """The rows of one table, each carrying its header's names; two tables in a row stay two sections."""
        self._closed = True
        for line in lines:
            self.add(one_line(line), "table", page)

    def finish(self, *, title: str = "", as_of: datetime | None = None, language: str | None = None) -> ParsedDocument:
        """The document. The title falls back to the first heading, then to the file's name."""
        text = "".join(self._parts)
        if not text:
            raise DocumentRejected(
                Reason.NO_TEXT,
                "the document holds no text",
                why="nothing readable was found in it; it may be a scan, or hold pictures only",
                fix="run text recognition over it, and save it again",
            )
        title = one_line(title) or self._first_heading or one_line(PurePosixPath(self._name).stem) or "untitled"
        title = title[:MAX_TITLE].strip()
        # A heading path starts below the title, where the document repeats its title as first heading.
        repeated = self._first_heading if self._first_heading.casefold() in title.casefold() else None
        sections = tuple(
            Section(s.span, s.heading[1:] if s.heading[:1] == (repeated,) else s.heading, s.page, s.kind)
            for s in self._sections
        )
        code = _LANGUAGE.match(language.strip()) if language else None
        return ParsedDocument(text, title, sections, as_of, code[0].lower() if code else None)

    def _start(self, text: str, kind: Kind, page: int | None) -> None:
        gap = "\n\n" if self._parts else ""
        self._append(gap, text)
        path = tuple(heading for _, heading in self._path)
        self._sections.append(Section(Span(self._length - len(text), self._length), path, page, kind))
        self._closed = False

    def _append(self, gap: str, text: str) -> None:
        self._length += len(gap) + len(text)
        if self._length > self._limits.max_text_chars:
            raise DocumentRejected(
                Reason.TOO_LARGE,
                f"the document's text is longer than {self._limits.max_text_chars:,} characters",
                fix="split the document, or raise REDOUBT_INGEST_MAX_TEXT_CHARS",
            )
        self._parts += (gap, text)
