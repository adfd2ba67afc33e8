"""Cited passages of different documents, or versions, that give different values for the same subject."""

from collections.abc import Sequence
from itertools import combinations

from redoubt.gateway.sentences import sentences
from redoubt.gateway.terms import language, terms
from redoubt.gateway.values import Value, values
from redoubt.model import Citation, Disagreement

_ALIKE = 0.6  # the share of the shorter statement's terms that both must have


def find(question: str, citations: Sequence[Citation]) -> list[Disagreement]:
    """Disagreements between the citations of one answer, the newer document of each pair named first."""
    found = []
    for one, other in combinations(citations, 2):
        if (one.document_id, one.version) == (other.document_id, other.version):
            continue
        newer, older = (one, other) if one.as_of >= other.as_of else (other, one)
        if disagreement := _between(question, newer, older):
            found.append(disagreement)
    return found


def _between(question: str, newer: Citation, older: Citation) -> Disagreement | None:
    of = language(newer.quote)
    asked = set(terms(question, of))
    for left in _statements(newer.quote):
        for right in _statements(older.quote):
            ours, theirs = _subject(left), _subject(right)
            shared = ours & theirs
            if len(shared) < 2 or len(shared) < _ALIKE * min(len(ours), len(theirs)) or not shared & asked:
                continue
            for kind in ("number", "time", "date"):
                a = [v for v in values(left, of) if v.kind == kind]
                b = [v for v in values(right, of) if v.kind == kind]
                if a and b and not _agree(a, b):
                    subject = " ".join(sorted(shared))
                    numbers = (newer.number, older.number)
                    return Disagreement(
                        "number" if kind == "number" else "date", subject, numbers, (a[0].text, b[0].text)
                    )
    return None


def _statements(text: str) -> list[str]:
    return [text[span.start : span.end] for span in sentences(text)]


def _subject(statement: str) -> set[str]:
    said = {word for value in values(statement) for word in terms(value.text)}
    return set(terms(statement)) - said


def _agree(a: list[Value], b: list[Value]) -> bool:
    ours, theirs = {(v.normal, v.unit) for v in a}, {(v.normal, v.unit) for v in b}
    return ours <= theirs or theirs <= ours or {u for _, u in ours} != {u for _, u in theirs}
