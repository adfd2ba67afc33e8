"""Whether what was found can answer the question: decided on raw signals, outside any prompt.

The fused score cannot tell good from bad, so this reads what it was made of. A logistic regression turns the
signals into a confidence in [0, 1]; the index's threshold decides. The coefficients were fitted on CLAPNQ alone
(600 questions, the passages of the unanswerable ones present and removed); docs/benchmarks.md has their
cross-validated quality there, and what they do on a corpus that they have not seen.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from redoubt.gateway.sentences import sentences
from redoubt.gateway.terms import asked, holds, terms
from redoubt.model import Hit

DEFAULT_THRESHOLD = 0.5  # confidence from which a question is answered; an evaluation sets it per index

NEXT = 5  # hits that the best one is compared with
COEFFICIENTS: Mapping[str, float] = {
    "bias": -7.74, "cosine": 4.58, "lead": 6.14, "gap": 3.5, "bm25_gap": 2.32, "sentence": 2.33, "title": -2.39,
    "unseen": -0.83,
}  # fmt: skip
# What a hit's cosine is taken for where the backend knows none: neither for nor against.
_NEUTRAL = {"cosine": 0.6, "lead": 0.6, "gap": 0.15}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Answer or refuse, and from what that was decided."""

    answerable: bool
    reason: Literal["", "no_hits", "low_score"]
    signals: Mapping[str, float]
    confidence: float  # [0, 1]; answerable from the index's threshold on


def decide(question: str, hits: Sequence[Hit], threshold: float) -> Verdict:
    """Judge a question's ranked, permitted hits; the best ten are enough, fewer than six lose precision."""
    if not hits:
        return Verdict(False, "no_hits", {}, 0.0)
    found = signals(question, hits)
    total = COEFFICIENTS["bias"] + sum(COEFFICIENTS[name] * value for name, value in found.items())
    confidence = 1 / (1 + math.exp(-total))
    answerable = confidence >= threshold
    return Verdict(answerable, "" if answerable else "low_score", found, confidence)


def signals(question: str, hits: Sequence[Hit]) -> dict[str, float]:
    """What `decide` judges by; `hits` is not empty.

    cosine    the best cosine of any hit
    lead      the cosine of the first hit, which both legs agreed on
    gap       the best cosine above the next ones of other documents: superseded versions of one's own are alike
    bm25_gap  the same of BM25, as a share of its best, so that the question's length does not matter
    sentence  the largest share of the question's terms that one sentence of the first hit holds
    title     the share of them in the first hit's title: a title that repeats the question lifts every
              cosine of its document, whatever its passages say
    unseen    the share of them that none of the first hits holds, title and headings included

    The share of the question's IDF mass in a hit was tried too: beside these it adds nothing.
    """
    first = hits[0]
    wanted = asked(question)
    return _cosines(hits) | {
        "bm25_gap": _bm25_gap(hits),
        "sentence": max((_share(wanted, part) for part in _parts(first.chunk.text)), default=0.0),
        "title": _share(wanted, first.title),
        "unseen": 1 - _share(wanted, " ".join(_whole(hit) for hit in hits[:NEXT])),
    }


def _cosines(hits: Sequence[Hit]) -> dict[str, float]:
    known = [(hit.cosine, hit) for hit in hits if hit.cosine is not None]
    if not known:
        return dict(_NEUTRAL)
    best, nearest = max(known, key=lambda pair: pair[0])
    others = sorted((cosine for cosine, hit in known if hit.document_id != nearest.document_id), reverse=True)[:NEXT]
    lead = hits[0].cosine
    return {
        "cosine": best,
        "lead": best if lead is None else lead,
        "gap": best - sum(others) / len(others) if others else _NEUTRAL["gap"],
    }


def _bm25_gap(hits: Sequence[Hit]) -> float:
    scores = sorted((hit.bm25 for hit in hits if hit.bm25 is not None), reverse=True)[: NEXT + 1]
    if len(scores) < 2 or scores[0] <= 0:
        return 0.0
    return 1 - sum(scores[1:]) / len(scores[1:]) / scores[0]


def _parts(text: str) -> list[str]:
    return [text[span.start : span.end] for span in sentences(text)]


def _whole(hit: Hit) -> str:
    return "\n".join((hit.title, *hit.chunk.heading, hit.chunk.text))


def _share(wanted: Sequence[str], text: str) -> float:
    """The share of the question's terms that stand in a text."""
    if not wanted:
        return 0.0
    words = set(terms(text))
    return sum(holds(term, words) for term in wanted) / len(wanted)
