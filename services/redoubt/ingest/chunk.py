"""Documents cut into passages: at their structure first, and never beyond what the embedder reads."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from redoubt.model import ParsedDocument, Section, Span

SMALL = 32  # tokens below which a section joins a neighbour
CHARS_PER_TOKEN = 16  # a token may stand for any length of text without blanks; a passage may not
CONTEXT_SHARE = 0.4  # of the budget that title and headings may take, at most

# Where prose may be cut, best first: paragraphs, lines, sentences, clauses, words.
_CUTS = (
    re.compile(r"\n[ \t]*\n\s*"),
    re.compile(r"\n\s*"),
    re.compile(r"[.!?…][\"')\]»”’]*\s+(?=\W*[\dA-ZÀ-Þ\u0370-\uffff])|[。！？．｡؟۔।]+[」』”’）]*\s*"),
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
    tokens: tuple[tuple[int, int], ...]  # each token's characters in the document


class Chunker:
    """Cuts by the embedder's own tokenizer; the same document gives the same pieces.

    `max_tokens`: what the embedder reads of one text, special tokens included.
    """

    def __init__(self, tokenizer_file: Path, max_tokens: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        self._tokenizer.no_truncation()  # the file may carry both, and both would falsify every count
        self._tokenizer.no_padding()
        self._special = self._tokenizer.num_special_tokens_to_add(False)
        if max_tokens < self._special + 8:
            raise ValueError(f"a budget of {max_tokens} tokens leaves no room for text")
        self._max_tokens = max_tokens

    def chunk(self, parsed: ParsedDocument) -> list[Piece]:
        """Ordered, disjoint pieces that cover all of the text but white space."""
        title = self._cut(parsed.title, int(self._max_tokens * CONTEXT_SHARE / 2))
        parts = list(self._parts(parsed))
        spans: list[tuple[Span, tuple[str, ...], int | None]] = []
        for group in self._groups(parts, title):
            heading = _common([p.heading for p in group if not p.bare] or [group[-1].heading])
            budget = self._budget(title, heading)
            for span in _split(parsed.text, group, budget):
                spans.append((span, heading, group[0].page))
        return self._pieces(parsed.text, title, spans)

    def count(self, text: str) -> int:
        """Tokens of a text as the embedder gets it, special tokens included."""
        return len(self._tokenizer.encode(text).ids)

    def _parts(self, parsed: ParsedDocument) -> Iterator[_Part]:
        at = 0
        for section in (*parsed.sections, None):
            start = section.span.start if section else len(parsed.text)
            if (gap := _trim(parsed.text, at, start)) is not None:
                yield self._part(parsed.text, gap, None)
            if section is not None:
                if (span := _trim(parsed.text, start, section.span.end)) is not None:
                    yield self._part(parsed.text, span, section)
                at = section.span.end

    def _part(self, text: str, span: Span, section: Section | None) -> _Part:
        own = text[span.start : span.end]
        offsets = self._tokenizer.encode(own, add_special_tokens=False).offsets
        heading = section.heading if section else ()
        return _Part(
            span,
            heading,
            section.page if section else None,
            section is not None and section.kind == "table",
            "\n" not in own and (own == heading[-1] if heading else False),
            tuple((a + span.start, b + span.start) for a, b in offsets),
        )

    def _groups(self, parts: Sequence[_Part], title: str) -> Iterator[list[_Part]]:
        """Neighbours that belong in one piece: what stands under one heading, and what is too short to stand alone."""
        group: list[_Part] = []
        size = 0
        for part in parts:
            if group and not (self._belongs(group, size, part) and self._fits(group, size, part, title)):
                yield group
                group, size = [], 0
            group.append(part)
            size += len(part.tokens)
        if group:
            yield group

    def _belongs(self, group: Sequence[_Part], size: int, part: _Part) -> bool:
        last = group[-1]
        if last.page != part.page:
            return False
        if last.heading == part.heading or all(p.bare and _above(p, part) for p in group):
            return True
        related = _above(group[0], part) or group[0].heading[:-1] == part.heading[:-1]
        return related and min(size, len(part.tokens)) < min(SMALL, self._max_tokens // 4)

    def _fits(self, group: Sequence[_Part], size: int, part: _Part, title: str) -> bool:
        if all(p.bare for p in group):
            return True  # a heading goes with what follows, which is split if it must be
        heading = _common([p.heading for p in (*group, part)])
        return size + len(part.tokens) <= self._budget(title, heading)

    def _budget(self, title: str, heading: tuple[str, ...]) -> int:
        """Tokens that are left for the text beside title and heading path."""
        return self._max_tokens - self.count(self._context(title, heading, "")) - 1

    def _context(self, title: str, heading: tuple[str, ...], text: str) -> str:
        """What is embedded before the text; a heading that the text begins with is not said twice."""
        if heading and text.startswith(heading[-1]):
            heading = heading[:-1]
        path = self._cut(" > ".join(heading), int(self._max_tokens * CONTEXT_SHARE / 2), tail=True)
        lines = [line for line in (title, path) if line and not text.startswith(line)]
        return "".join(f"{line}\n" for line in lines)

    def _cut(self, text: str, tokens: int, *, tail: bool = False) -> str:
        """The first, or last, so many tokens of a text."""
        text = text[-4000:] if tail else text[:4000]
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        if len(offsets) > tokens:
            text = text[offsets[-tokens][0] :] if tail else text[: offsets[tokens - 1][1]]
        limit = tokens * CHARS_PER_TOKEN
        return (text[-limit:] if tail else text[:limit]).strip()

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
    tokens = [token for part in group for token in part.tokens]
    starts = [a for a, _ in tokens]
    table = group[-1].table
    while start < end:
        first = bisect_left(starts, start)
        left = len(tokens) - first
        furthest = min(end, start + budget * CHARS_PER_TOKEN)
        if left > budget:
            furthest = min(furthest, max(starts[first + budget], start + 1))
        if furthest < end:
            # Equal shares: a document one sentence too long is not cut into a full piece and that sentence.
            share = -(-left // -(-left // budget)) if left > budget else left
            wanted = starts[min(first + share // 2, len(starts) - 1)] if share // 2 else start + 1
            furthest = _best_cut(text, start, min(wanted, furthest), furthest, table=table)
        if (span := _trim(text, start, furthest)) is not None:
            yield span
        start = furthest


def _best_cut(text: str, start: int, wanted: int, furthest: int, *, table: bool) -> int:
    """The last cut of the best kind between the wanted and the furthest place; within a word if there is none."""
    for cut in (_ROWS, *_CUTS[2:]) if table else _CUTS:
        found = [m.end() for m in cut.finditer(text, start, min(len(text), furthest + 1)) if m.end() <= furthest]
        at = bisect_right(found, max(wanted, start)) if found else 0
        if found and (at < len(found) or (table and cut is _ROWS and found[-1] > start)):
            return found[-1]
    return furthest


def _halve(text: str, span: Span) -> list[Span]:
    middle = (span.start + span.end) // 2
    at = text.rfind(" ", span.start + 1, middle)
    middle = at if at > (span.start + middle) // 2 else middle
    return [half for half in (_trim(text, span.start, middle), _trim(text, middle, span.end)) if half is not None]
