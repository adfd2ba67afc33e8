"""One ranking for every backend: both legs' raw scores in, one order out.

The fused score is for ranking only. Its best hit is always near 1, whether or not anything relevant was
found: refusal reads the raw signals (`gateway.ground`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from redoubt.model import Candidate

DEFAULT_ALPHA = 0.5  # the dense leg's share; set per index from its own evaluation


def fuse(candidates: Sequence[Candidate], alpha: float) -> list[tuple[Candidate, float]]:
    """Candidates best first, each with a score in [0, 1]; ties go by document and ordinal.

    A leg is scaled to [0, 1] between its worst and its best candidate; a score that the backend does not know
    counts as the worst. `alpha` is the dense leg's weight: 1.0 is dense alone, 0.0 is BM25 alone.
    """
    if not candidates:
        return []
    dense = _scaled([candidate.cosine for candidate in candidates])
    sparse = _scaled([candidate.bm25 for candidate in candidates])
    scores = alpha * dense + (1 - alpha) * sparse
    order = sorted(
        range(len(candidates)),
        key=lambda at: (-scores[at], candidates[at].document_id, candidates[at].chunk.ordinal),
    )
    return [(candidates[at], float(scores[at])) for at in order]


def _scaled(raw: Sequence[float | None]) -> NDArray[np.float64]:
    scores = np.array([np.nan if score is None else score for score in raw], dtype=np.float64)
    if np.isnan(scores).all():
        return np.zeros(len(scores))
    low, high = np.nanmin(scores), np.nanmax(scores)
    if high <= low:
        return np.where(np.isnan(scores) | (scores <= 0), 0.0, 1.0)
    return np.nan_to_num((scores - low) / (high - low), nan=0.0)
