"""One ranking for every backend: both legs' raw scores in, one order out.

Both legs' scores are known for the whole union, so each is standardized over it (z-score: it beats min-max,
whose scale hangs on the single best and worst candidate) and mixed by `alpha`. Two small things are added:

- how much of the question's IDF mass a passage holds, which BM25's saturation hides; its weight is the one
  that the other sets choose for each set held out;
- a bridge: a passage whose document is named, by its title, in the text of one of the best passages of
  another document. A question over two documents names only the first of them. Its weight is MuSiQue's choice,
  the one set with such questions; on the others it changes nothing.

The fused score is for ranking only. It says how far a hit stands above the others, not whether any is
relevant: refusal reads the raw signals (`gateway.ground`).
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from redoubt.model import Candidate

DEFAULT_ALPHA = 0.5  # the dense leg's share; set per index from its own evaluation

_SHARE = 0.1  # weight of the standardized IDF share
_BRIDGE = 2.0  # weight of being named, times the naming passages' share of belief
_NAMING = 10  # best passages whose text is searched for titles
_TITLE = 4  # characters that a title needs to be a name
_QUALIFIER = re.compile(r"\s*\([^()]*\)$")  # "Mercury (planet)" is named as "Mercury"


def fuse(candidates: Sequence[Candidate], alpha: float) -> list[tuple[Candidate, float]]:
    """Candidates best first, each with a score in (0, 1); ties go by document and ordinal.

    `alpha` is the dense leg's weight: 1.0 is dense alone, 0.0 is BM25 alone, up to the two additions. A score
    that the backend does not know counts as the worst known one of its leg.
    """
    if not candidates:
        return []
    mixed = (
        alpha * _standard([candidate.cosine for candidate in candidates])
        + (1 - alpha) * _standard([candidate.bm25 for candidate in candidates])
        + _SHARE * _standard([candidate.idf_share for candidate in candidates])
    )
    mixed += _BRIDGE * _named(candidates, mixed)
    scores = 1 / (1 + np.exp(-mixed))
    order = sorted(
        range(len(candidates)),
        key=lambda at: (-scores[at], candidates[at].document_id, candidates[at].chunk.ordinal),
    )
    return [(candidates[at], float(scores[at])) for at in order]


def _standard(raw: Sequence[float | None]) -> NDArray[np.float64]:
    """Scores in standard deviations from their mean; all equal, or none known: zeros."""
    scores = np.array([np.nan if score is None else score for score in raw], dtype=np.float64)
    if np.isnan(scores).all():
        return np.zeros(len(scores))
    scores = np.nan_to_num(scores, nan=float(np.nanmin(scores)))
    spread = float(scores.std())
    return (scores - scores.mean()) / spread if spread > 1e-9 else np.zeros(len(scores))


def _named(candidates: Sequence[Candidate], mixed: NDArray[np.float64]) -> NDArray[np.float64]:
    """How strongly the best passages name each candidate's document: [0, 1], shape of `mixed`.

    Spelled as the title is, capitals included, so that a document called "Parking" is not named by every
    mention of parking.
    """
    best = np.argsort(-mixed, kind="stable")[:_NAMING]
    belief = np.exp(mixed[best] - mixed[best[0]])
    belief /= belief.sum()
    titles = [_QUALIFIER.sub("", candidate.title).strip() for candidate in candidates]
    names = {title for title in titles if len(title) >= _TITLE and title[0].isupper()}
    named = np.zeros(len(candidates))
    for at, weight in zip(best, belief, strict=True):
        text, own = candidates[at].chunk.text, titles[at]
        found = {name for name in names if name != own and _stands(name, text)}
        if found:
            named += weight * np.array([title in found for title in titles])
    return named


def _stands(name: str, text: str) -> bool:
    """Whether a name stands in a text as whole words."""
    at = text.find(name)
    if at < 0:
        return False
    end = at + len(name)
    return not (text[at - 1 : at].isalnum() or text[end : end + 1].isalnum())
