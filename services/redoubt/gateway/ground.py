"""Whether what was found can answer the question: decided on raw signals, outside any prompt.

The fused score cannot tell good from bad (its best hit is always near 1), so this reads what it was made
of: the cosines, the share of the question's IDF mass that stands in a passage, and how much of the question a
single sentence covers. A logistic regression turns them into a confidence in [0, 1]; the index's threshold
decides. Coefficients: `tests/bench/quality.py` fits and reports them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from redoubt.gateway.sentences import sentences
from redoubt.gateway.terms import holds, terms
from redoubt.model import Hit

DEFAULT_THRESHOLD = 0.5  # confidence from which a question is answered; an evaluation sets it per index

_NEXT = 5  # how many passages the best one is compared with
_COEFFICIENTS: Mapping[str, float] = {"bias": -7.2, "cosine": 8.0, "gap": 6.0, "idf_share": 2.0, "sentence": 1.5}
_NEUTRAL: Mapping[str, float] = {"cosine": 0.55, "gap": 0.12}  # where a backend knows no cosine


@dataclass(frozen=True, slots=True)
class Verdict:
    """Answer or refuse, and from what that was decided."""

    answerable: bool
    reason: Literal["", "no_hits", "low_score"]
    signals: Mapping[str, float]
    confidence: float  # [0, 1]; answerable from the index's threshold on


def decide(question: str, hits: Sequence[Hit], threshold: float) -> Verdict:
    """Judge the ranked, permitted hits (at least the best ten of them) of a question."""
    if not hits:
        return Verdict(False, "no_hits", {}, 0.0)
    found = signals(question, hits)
    total = _COEFFICIENTS["bias"] + sum(_COEFFICIENTS[name] * value for name, value in found.items())
    confidence = 1 / (1 + math.exp(-total))
    answerable = confidence >= threshold
    return Verdict(answerable, "" if answerable else "low_score", found, confidence)


def signals(question: str, hits: Sequence[Hit]) -> dict[str, float]:
    """The raw signals, each about [0, 1], from which `decide` judges."""
    cosines = sorted((hit.cosine for hit in hits if hit.cosine is not None), reverse=True)
    top = hits[:_NEXT]
    following = cosines[1 : 1 + _NEXT]
    asked = set(terms(question))
    return {
        "cosine": cosines[0] if cosines else _NEUTRAL["cosine"],
        "gap": cosines[0] - sum(following) / len(following) if following else _NEUTRAL["gap"],
        "idf_share": max(hit.idf_share for hit in top),
        "sentence": max((_coverage(asked, hit.chunk.text) for hit in top), default=0.0),
    }


def _coverage(asked: set[str], text: str) -> float:
    """The largest share of the question's words that one sentence of a passage holds."""
    if not asked:
        return 0.0
    best = 0
    for span in sentences(text):
        words = set(terms(text[span.start : span.end]))
        best = max(best, sum(holds(term, words) for term in asked))
    return best / len(asked)
