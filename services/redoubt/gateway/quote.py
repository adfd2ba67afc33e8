"""The sentences of the best passages that answer, verbatim: an adaptive cut instead of whole passages.

Each sentence of a passage gets a likelihood of being part of the answer, from the question's words in it, its
likeness to the passage's best sentence and its place; the cut is the set of sentences whose expected F1 is
highest, so that a passage of which every sentence answers stays whole, and one with a single answer is cut to it.
Coefficients: fitted on CLAPNQ's selected sentences, see docs/benchmarks.md.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from redoubt.gateway.sentences import sentences
from redoubt.gateway.terms import asked, holds, terms
from redoubt.model import Hit, Span

_FURTHER = 0.7  # a further passage is quoted from if its fused score, in log odds, is at least this share of the best
_COVERED = 0.7  # … or if one of its sentences holds at least this share of the question
_BIAS, _COVERAGE, _BELOW_BEST, _FIRST, _ALIKE, _QUANTITY, _LENGTH, _OF = (
    -0.33,
    0.49,
    0.64,
    0.71,
    0.83,
    0.38,
    0.27,
    -0.49,
)
_ASKS_QUANTITY = re.compile(
    r"\b(?:when|how (?:many|much|long|old|often|soon)|year|date|number|price|cost|"
    r"wann|wie ?viele?|wie (?:lange|oft|hoch|alt)|kostet|preis|um wie viel)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Quote:
    """A verbatim stretch of one hit: `text` is the document's stored text at `span`."""

    hit: Hit
    text: str
    span: Span  # absolute, in the document version's stored text


def select(question: str, hits: Sequence[Hit], limit: int) -> list[Quote]:
    """At most `limit` quotes: of each passage worth quoting the stretch that answers best, best passage first;
    then, as far as the limit allows, the other stretches of these passages.
    """
    first: list[Quote] = []
    more: list[Quote] = []
    for hit in hits:
        if first and not _worth(question, hit, hits[0]):
            continue
        stretches = [_quote(hit, span) for span in cut(question, hit.chunk.text, _headings(hit))]
        first += stretches[:1]
        more += stretches[1:]
    return (first + more)[:limit]


def cut(question: str, text: str, headings: frozenset[str] = frozenset()) -> list[Span]:
    """The stretches of a passage that answer, as offsets into it, the one with the best sentence first."""
    parts = [span for span in sentences(text) if text[span.start : span.end] not in headings]
    if not parts:
        return []
    likely = _likelihoods(question, [text[span.start : span.end] for span in parts])
    best = max(range(len(parts)), key=lambda at: (likely[at], -at))
    chosen = sorted(_best_set(likely))
    runs: list[list[int]] = []
    for at in chosen:
        if runs and runs[-1][-1] == at - 1:
            runs[-1].append(at)
        else:
            runs.append([at])
    runs.sort(key=lambda run: best not in run)
    return [Span(parts[run[0]].start, parts[run[-1]].end) for run in runs]


def _likelihoods(question: str, parts: Sequence[str]) -> list[float]:
    wanted = asked(question)
    words = [frozenset(terms(part)) for part in parts]
    covered = [sum(holds(term, own) for term in wanted) / max(1, len(wanted)) for own in words]
    best = max(range(len(parts)), key=lambda at: (covered[at], -at))
    quantity = bool(_ASKS_QUANTITY.search(question))
    found = []
    for at, own in enumerate(words):
        alike = len(own & words[best]) / max(1, min(len(own), len(words[best])))
        total = (
            _BIAS + _COVERAGE * covered[at] + _BELOW_BEST * (covered[at] - covered[best]) + _FIRST * (at == 0)
            + _ALIKE * alike + _QUANTITY * (quantity and any(c.isdigit() for c in parts[at]))
            + _LENGTH * math.log1p(len(own)) + _OF * math.log(len(parts))
        )  # fmt: skip
        found.append(1 / (1 + math.exp(-total)))
    return found


def _best_set(likely: Sequence[float]) -> list[int]:
    """The sentences whose expected F1 against the unknown answer is highest."""
    order = sorted(range(len(likely)), key=lambda at: -likely[at])
    expected, gained, best = sum(likely), 0.0, (0.0, 1)
    for count, at in enumerate(order, 1):
        gained += likely[at]
        best = max(best, (2 * gained / (count + expected), count), key=lambda pair: pair[0])
    return order[: best[1]]


def _worth(question: str, hit: Hit, best: Hit) -> bool:
    """Whether a further passage adds to the answer, rather than being the next in line."""
    if _log_odds(hit.score) >= _FURTHER * _log_odds(best.score) > 0:
        return True
    wanted = asked(question)
    context = " ".join((hit.title, *hit.chunk.heading))
    return any(
        sum(holds(term, own) for term in wanted) >= _COVERED * len(wanted) > 0
        for own in (set(terms(f"{context} {hit.chunk.text[s.start : s.end]}")) for s in sentences(hit.chunk.text))
    )


def _log_odds(score: float) -> float:
    score = min(max(score, 1e-9), 1 - 1e-9)
    return math.log(score / (1 - score))


def _headings(hit: Hit) -> frozenset[str]:
    return frozenset((hit.title, *hit.chunk.heading))


def _quote(hit: Hit, span: Span) -> Quote:
    base = hit.chunk.span.start
    return Quote(hit, hit.chunk.text[span.start : span.end], Span(base + span.start, base + span.end))
