"""Cited passages of different documents, or versions, that give different values for the same subject.

Two statements are compared only where they are about the same thing: they share most of their terms, among them
words of the question, and nothing tells them apart (another site, another year, another weekday). A false alarm
costs trust in every true one, so doubt means silence.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from redoubt.gateway.sentences import sentences
from redoubt.gateway.terms import WORD, Language, asked, language, terms
from redoubt.gateway.values import Value, values
from redoubt.model import Citation, Disagreement

_ALIKE = 0.6  # the share of the shorter statement's terms that both must have
_ASKED = 0.34  # the share of the question's terms that both must have
_SAME = 0.8  # the share of the longer statement's terms that both must have before a "not" makes a conflict
_COPULA = re.compile(r"\s(?:is|are|was|were|ist|sind|war|waren)\s(?!not\b|nicht\b)", re.IGNORECASE)
_ROW = re.compile(r"[^:;.]+: ([^;]+); [^:;.]+: ")  # "Service: scan A; Price: 310 euros": the first cell is its subject
_Type = Literal["number", "date", "name", "negation"]


@dataclass(frozen=True, slots=True)
class _Statement:
    """One sentence, or row of a table, and what it is about."""

    text: str
    values: tuple[Value, ...]
    subject: frozenset[str]  # its terms, without those of its values

    def of(self, *kinds: str) -> list[Value]:
        return [value for value in self.values if value.kind in kinds]


def find(question: str, citations: Sequence[Citation]) -> list[Disagreement]:
    """Disagreements between the citations of one answer, at most one a pair, the newer document named first."""
    of = language(question)
    wanted = frozenset(asked(question, of))
    statements = {citation.number: list(_statements(citation.quote)) for citation in citations}
    found = []
    for one, other in combinations(citations, 2):
        if (one.document_id, one.version) == (other.document_id, other.version):
            continue
        newer, older = (one, other) if (one.as_of, one.version) >= (other.as_of, other.version) else (other, one)
        for left in statements[newer.number]:
            differing = (_between(wanted, left, right) for right in statements[older.number])
            if first := next((difference for difference in differing if difference), None):
                kind, subject, told = first
                found.append(Disagreement(kind, subject, (newer.number, older.number), told))
                break
    return found


def _statements(text: str) -> Iterator[_Statement]:
    for span in sentences(text):
        piece = text[span.start : span.end]
        of: Language = language(piece)
        held = tuple(values(piece, of))
        # In German a run of nouns reads like a name, and is what a sentence is about.
        apart = {"negation", "name"} if of == "de" else {"negation"}
        said = {word for value in held if value.kind not in apart for word in terms(value.text, of)}
        yield _Statement(piece, held, frozenset(terms(piece, of)) - said)


def _between(wanted: frozenset[str], a: _Statement, b: _Statement) -> tuple[_Type, str, tuple[str, str]] | None:
    if not _together(a, b):
        return None
    shared = a.subject & b.subject
    shared_names = _names(a) & _names(b)
    about = wanted & (shared | shared_names)
    if not about or len(about) < _ASKED * len(wanted):
        return None
    subject = _in_order(a.text, shared | shared_names)
    if len(shared) >= 2 and len(shared) >= _ALIKE * min(len(a.subject), len(b.subject)):
        if told := _numbers(a, b):
            return "number", subject, told
        if told := _dates(a, b):
            return "date", subject, told
        denied = [bool(statement.of("negation")) for statement in (a, b)]
        if denied[0] != denied[1] and len(shared) >= _SAME * max(len(a.subject), len(b.subject)):
            return "negation", subject, (a.text, b.text)
    if told := _things(a, b, wanted):
        return "name", subject, told
    return None


def _together(a: _Statement, b: _Statement) -> bool:
    """Whether no name, weekday or row of a table tells the two apart."""
    rows = [_ROW.match(s.text) for s in (a, b)]
    if any(rows) and not (rows[0] and rows[1] and rows[0][1].lower() == rows[1][1].lower()):
        return False
    ours, theirs = _names(a), _names(b)
    if ours and theirs and not (ours <= theirs or theirs <= ours):
        return False
    days = [{value.normal for value in s.of("weekday")} for s in (a, b)]
    return not (days[0] and days[1] and days[0] != days[1])


def _names(statement: _Statement) -> frozenset[str]:
    return frozenset(word for value in statement.of("name") for word in value.normal.split())


def _numbers(a: _Statement, b: _Statement) -> tuple[str, str] | None:
    """Values of one unit that the two have no agreement on; a number of nothing is compared with nothing."""
    years = [{value.normal[:4] for value in s.of("date")} for s in (a, b)]
    if years[0] and years[1] and not years[0] & years[1]:
        return None
    ours, theirs = _by_unit(a), _by_unit(b)
    for unit in ours:
        if unit in theirs and not {v.normal for v in ours[unit]} & {v.normal for v in theirs[unit]}:
            return ours[unit][0].text, theirs[unit][0].text
    return None


def _by_unit(statement: _Statement) -> dict[str, list[Value]]:
    found: dict[str, list[Value]] = {}
    for value in statement.of("number"):
        found.setdefault(value.unit, []).append(value)
    return found


def _dates(a: _Statement, b: _Statement) -> tuple[str, str] | None:
    for kind in ("time", "date"):
        ours, theirs = a.of(kind), b.of(kind)
        if ours and theirs and not any(_compatible(x.normal, y.normal) for x in ours for y in theirs):
            return _joined(ours), _joined(theirs)
    return None


def _joined(found: list[Value]) -> str:
    return " – ".join(value.text for value in found[:2])


def _compatible(one: str, other: str) -> bool:
    """Whether two dates can be the same, one perhaps saying less: 2026 and March 2026, 2 March and 2 March 2026."""
    if one.startswith("????") or other.startswith("????"):
        return one[4:] == other[4:]
    return one.startswith(other) or other.startswith(one)


def _things(a: _Statement, b: _Statement, wanted: frozenset[str]) -> tuple[str, str] | None:
    """Two statements "… is …" with the same left side, which the question asks about, and nothing else shared."""
    halves = []
    for statement in (a, b):
        parts = _COPULA.split(statement.text, maxsplit=1)
        if len(parts) != 2:
            return None
        halves.append((frozenset(terms(parts[0])), frozenset(terms(parts[1])), parts[1].rstrip(" .")))
    (left, right, ours), (same, apart, theirs) = halves
    if left != same or len(left) < 2 or len(left & wanted) < 2 or not right or not apart or right & apart:
        return None
    if max(len(right), len(apart)) > 8 or any(s.of("number", "date", "time") for s in (a, b)):
        return None
    return ours, theirs


def _in_order(text: str, shared: frozenset[str]) -> str:
    """The shared terms as the text writes them, once each."""
    of = language(text)
    written: dict[str, str] = {}
    for match in WORD.finditer(text):
        if (folded := terms(match.group(), of)) and folded[0] in shared:
            written.setdefault(folded[0], match.group())
    return " ".join(written.values())
