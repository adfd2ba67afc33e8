"""Documents cut into passages: at their structure first, and never beyond what the embedder reads."""

import itertools
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from redoubt.model import ParsedDocument, Section, Span

SMALL = 32  # tokens below which a section joins a neighbour of its own kind
MIN_TOKENS = 16  # the least budget that leaves room for title, headings and text
WINDOW = 65_536  # characters that are counted at once
CHARS_PER_TOKEN = 16  # a token may stand for any length of text without blanks; a passage may not
CONTEXT_SHARE = 0.4  # of the budget that title and headings may take, at most

# Where prose may be cut, best first: paragraphs, lines, sentences, clauses, words.
_CUTS = (
    re.compile(r"\n[ \t]*\n\s*"),
    re.compile(r"\n\s*"),
    re.compile(r"[.!?…][\"')\]»”’]*\s+(?=\W{0,3}[\dA-ZÀ-Þ\u0370-\uffff])|[。！？．｡؟۔।]+[」』”’）]*\s*"),
    re.compile(r"[;:,–—][\"')\]»”’]*\s+|[、，；：،؛]\s*"),
    re.compile(r"\s+"),
)
_ROWS = re.compile(r"\n\s*")


@dataclass(frozen=True, slots=True)
class Piece:
    """A passage before it has an id: where it stands, and what is embedded of it."""

    ordinal: int  # from 0, in reading order
    text: str  # verbatim: the document's text at `span`
    span: Span
    page: int | None
    heading: tuple[str, ...]
    embed_text: str  # title, heading path and text; within the budget


@dataclass(frozen=True, slots=True)
class _Part:
    """One section, or a stretch between sections, without white space at its ends."""

    span: Span
    heading: tuple[str, ...]
    page: int | None
    table: bool
    bare: bool  # nothing but its own heading
    starts: "array[int]"  # where each token starts in the document


class Chunker:
    """Cuts by the embedder's own tokenizer; the same document gives the same pieces.

    `max_tokens`: what the embedder reads of one text, special tokens included.
    """

    def __init__(self, tokenizer_file: Path, max_tokens: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        self._tokenizer.no_truncation()  # the file may carry both, and both would falsify every count
        self._tokenizer.no_padding()
        if max_tokens < MIN_TOKENS:
            raise ValueError(
                f"a budget of {max_tokens} tokens leaves no room for text; at least {MIN_TOKENS} are needed"
            )
        self._max_tokens = max_tokens

    def chunk(self, parsed: ParsedDocument) -> list[Piece]:
        """Ordered, disjoint pieces that cover all of the text but white space.

        About half a millisecond a piece: a long document belongs in a thread.
        """
        title = self._cut(parsed.title, int(self._max_tokens * CONTEXT_SHARE / 2))
        parts = list(self._parts(parsed))
        spans: list[tuple[Span, tuple[str, ...], int | None]] = []
        for group in self._groups(parts, title):
            heading = _common([p.heading for p in group if not p.bare] or [group[-1].heading])
            budget = self._budget(title, heading)
            spans += ((span, heading, group[0].page) for span in _split(parsed.text, group, budget))
        return self._pieces(parsed.text, title, spans)

    def count(self, text: str) -> int:
        """Tokens of a text as the embedder gets it, special tokens included."""
        return len(self._tokenizer.encode(text).ids)

    def _parts(self, parsed: ParsedDocument) -> Iterator[_Part]:
        at = 0
        for section in (*parsed.sections, None):
            start = section.span.start if section else len(parsed.text)
            if (gap := _trim(parsed.text, at, start)) is not None:
                yield self._part(parsed, gap, None)
            if section is not None:
                if (span := _trim(parsed.text, start, section.span.end)) is not None:
                    yield self._part(parsed, span, section)
                at = section.span.end

    def _part(self, parsed: ParsedDocument, span: Span, section: Section | None) -> _Part:
        own = parsed.text[span.start : span.end]
        heading = section.heading if section else ()
        return _Part(
            span,
            heading,
            section.page if section else None,
            section is not None and section.kind == "table",
            own == (heading[-1] if heading else parsed.title),
            self._starts(parsed.text, span),
        )

    def _starts(self, text: str, span: Span) -> "array[int]":
        """Where each token of a span starts; a long span in windows, divided where words are."""
        starts = array("L")
        at = span.start
        while at < span.end:
            end = min(at + WINDOW, span.end)
            if end < span.end and (blank := text.rfind(" ", at + WINDOW // 2, end)) > 0:
                end = blank
            offsets = self._tokenizer.encode(text[at:end], add_special_tokens=False).offsets
            starts.extend(at + start for start, _ in offsets)
            at = end
        return starts

    def _groups(self, parts: Sequence[_Part], title: str) -> Iterator[list[_Part]]:
        """Neighbours that belong in one piece: what stands under one heading, and what is too short to stand alone."""
        group: list[_Part] = []
        size = 0
        for part in parts:
            if group and not (self._belongs(group, size, part) and self._fits(group, size, part, title)):
                yield group
                group, size = [], 0
            group.append(part)
            size += len(part.starts)
        if group:
            yield group

    def _belongs(self, group: Sequence[_Part], size: int, part: _Part) -> bool:
        last = group[-1]
        if last.page != part.page:
            return False
        if last.heading == part.heading or all(p.bare and _above(p, part) for p in group):
            return True
        if not (_above(group[0], part) or group[0].heading[:-1] == part.heading[:-1]):
            return False
        small = min(SMALL, self._max_tokens // 8)
        # Short neighbours share a piece, but not a whole page of them: that would read as everything and nothing.
        return size < small or (len(part.starts) < small and size + len(part.starts) <= 3 * self._max_tokens // 4)

    def _fits(self, group: Sequence[_Part], size: int, part: _Part, title: str) -> bool:
        if all(p.bare for p in group):
            return True  # a heading goes with what follows, which is split if it must be
        heading = _common([p.heading for p in (*group, part)])
        return size + len(part.starts) <= self._budget(title, heading)

    def _budget(self, title: str, heading: tuple[str, ...]) -> int:
        """Tokens that are left for the text beside title and heading path."""
        return max(1, self._max_tokens - self.count(self._context(title, heading, "")) - 1)

    def _context(self, title: str, heading: tuple[str, ...], text: str) -> str:
        """What is embedded before the text; a heading that the text begins with is not said twice."""
        if heading and text.startswith(heading[-1]):
            heading = heading[:-1]
        path = self._cut(" > ".join(heading), int(self._max_tokens * CONTEXT_SHARE / 2), tail=True)
        lines = [line for line in (title, path) if line and not text.startswith(line)]
        return "".join(f"{line}\n" for line in lines)

    def _cut(self, text: str, tokens: int, *, tail: bool = False) -> str:
        """The first, or last, so many tokens of a text."""
        limit = tokens * CHARS_PER_TOKEN
        text = (text[-limit:] if tail else text[:limit]).strip()
        # Part of a word may be more tokens than the whole, so that one cut may not do.
        while len(offsets := self._tokenizer.encode(text, add_special_tokens=False).offsets) > tokens:
            shorter = text[offsets[-tokens][0] :] if tail else text[: offsets[tokens - 1][1]]
            if len(shorter) == len(text):  # the tokens of one character
                shorter = text[1:] if tail else text[:-1]
            text = shorter.strip()
        return text

    def _pieces(self, text: str, title: str, spans: Sequence[tuple[Span, tuple[str, ...], int | None]]) -> list[Piece]:
        """Count each piece as the embedder will; a cut may have changed how its edges are read."""
        todo = list(reversed(spans))
        pieces: list[Piece] = []
        texts = [self._embed_text(text, title, span, heading) for span, heading, _ in spans]
        counts = [len(e.ids) for e in self._tokenizer.encode_batch_fast(texts)]
        known = {span.start: (embed, count) for (span, *_), embed, count in zip(spans, texts, counts, strict=True)}
        while todo:
            span, heading, page = todo.pop()
            embed, count = known.get(span.start, ("", 0))
            if not embed:
                embed = self._embed_text(text, title, span, heading)
                count = self.count(embed)
            if count > self._max_tokens and span.end - span.start > 1:
                known.pop(span.start, None)
                middle = _halve(text, span)
                todo += [(half, heading, page) for half in reversed(middle)]
                continue
            pieces.append(Piece(len(pieces), text[span.start : span.end], span, page, heading, embed))
        return pieces

    def _embed_text(self, text: str, title: str, span: Span, heading: tuple[str, ...]) -> str:
        own = text[span.start : span.end]
        return self._context(title, heading, own) + own


def _above(upper: _Part, lower: _Part) -> bool:
    return lower.heading[: len(upper.heading)] == upper.heading


def _common(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    shortest = min(paths, key=len)
    for i, heading in enumerate(shortest):
        if any(path[i] != heading for path in paths):
            return shortest[:i]
    return shortest


def _trim(text: str, start: int, end: int) -> Span | None:
    own = text[start:end]
    stripped = own.strip()
    if not stripped:
        return None
    start += len(own) - len(own.lstrip())
    return Span(start, start + len(stripped))


def _split(text: str, group: Sequence[_Part], budget: int) -> Iterator[Span]:
    """Spans of about equal size, each within the budget, cut at the best place that leaves it well filled."""
    start, end = group[0].span.start, group[-1].span.end
    starts = array("L", itertools.chain.from_iterable(part.starts for part in group))
    rows = group[-1].table
    while start < end:
        first = bisect_left(starts, start)
        left = len(starts) - first
        furthest = min(end, start + budget * CHARS_PER_TOKEN)
        if left > budget:
            furthest = min(furthest, max(starts[first + budget], start + 1))
        if furthest < end:
            # Equal shares: a document one sentence too long is not cut into a full piece and that sentence.
            share = left // -(-left // budget) if left > budget else left
            wanted = min(starts[first + share - 1] if share > 1 else start + 1, furthest)
            furthest = _best_cut(text, start, wanted, furthest, rows=rows)
        if (span := _trim(text, start, furthest)) is not None:
            yield span
        start = furthest


def _best_cut(text: str, start: int, wanted: int, furthest: int, *, rows: bool) -> int:
    """The cut of the best kind nearest to where it is wanted; within a word if there is no other.

    Prose has to fill half of what is wanted; a row is divided only if it is too long for a piece of its own.
    """
    least = start + (wanted - start) // 2
    for cut in (_ROWS, *_CUTS[2:]) if rows else _CUTS:
        found = [m.end() for m in cut.finditer(text, start, furthest + 1) if start < m.end() <= furthest]
        filled = [at for at in found if at > least]
        if filled or (rows and found and cut is _ROWS):
            return min(filled or found[-1:], key=lambda at: abs(at - wanted))
    return furthest


def _halve(text: str, span: Span) -> list[Span]:
    middle = (span.start + span.end) // 2
    at = text.rfind(" ", span.start + 1, middle)
    middle = at if at > (span.start + middle) // 2 else middle
    return [half for half in (_trim(text, span.start, middle), _trim(text, middle, span.end)) if half is not None]
