"""The sentences of the best passages that answer, verbatim: an adaptive cut instead of whole passages."""

from collections.abc import Sequence
from dataclasses import dataclass

from redoubt.gateway.sentences import sentences
from redoubt.gateway.terms import holds, terms
from redoubt.model import Hit, Span

_SHARE = 0.5  # a passage is quoted from if its score is at least this share of the best one's


@dataclass(frozen=True, slots=True)
class Quote:
    """A verbatim stretch of one hit: `text` is the document's stored text at `span`."""

    hit: Hit
    text: str
    span: Span  # absolute, in the document version's stored text


def select(question: str, hits: Sequence[Hit], limit: int) -> list[Quote]:
    """At most `limit` quotes, best passage first, at most one a passage."""
    quotes: list[Quote] = []
    for hit in hits:
        if len(quotes) == limit or (quotes and hit.score < _SHARE * hits[0].score):
            break
        if (span := cut(question, hit.chunk.text)) is not None:
            base = hit.chunk.span.start
            quotes.append(Quote(hit, hit.chunk.text[span.start : span.end], Span(base + span.start, base + span.end)))
    return quotes


def cut(question: str, text: str) -> Span | None:
    """The stretch of a passage that answers, as offsets into it; None for a passage without text."""
    parts = sentences(text)
    if not parts:
        return None
    asked = set(terms(question))
    scores = []
    for part in parts:
        words = set(terms(text[part.start : part.end]))
        scores.append(sum(holds(term, words) for term in asked))
    best = max(range(len(parts)), key=lambda at: (scores[at], -at))
    first = last = best
    while first > 0 and scores[first - 1] >= max(1, scores[best] / 2):
        first -= 1
    while last + 1 < len(parts) and scores[last + 1] >= max(1, scores[best] / 2):
        last += 1
    return Span(parts[first].start, parts[last].end)
