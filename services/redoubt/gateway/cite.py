"""Lexical support: whether a cited span holds what a sentence claims. It is not entailment, and never called so."""

from dataclasses import dataclass

from redoubt.gateway.sentences import sentences
from redoubt.gateway.terms import Language, holds, language, terms
from redoubt.gateway.values import Value, values

COVERAGE = 0.6  # the share of a sentence's terms that the cited span must hold
_NEAR = 0.75  # of the terms: how much a cited sentence shares to speak of what the claim speaks of


@dataclass(frozen=True, slots=True)
class Support:
    """Whether a sentence is supported, and what of it the cited span lacks."""

    supported: bool
    missing: tuple[str, ...]  # as the sentence has them: values first, then terms if too few are covered
    coverage: float  # share of the sentence's terms found, [0, 1]


def check(sentence: str, cited_text: str) -> Support:
    """Compare one sentence of an answer, its `[n]` markers removed, with the text that it cites."""
    of = language(f"{sentence} {cited_text}")
    claimed, given = values(sentence, of), values(cited_text, of)
    cited_terms = set(terms(cited_text, of))
    missing = [value.text for value in claimed if value.kind != "negation" and not _stands(value, given, cited_terms)]
    judged = {word for value in claimed if value.kind != "name" for word in terms(value.text, of)}
    wanted = [term for term in dict.fromkeys(terms(sentence, of)) if term not in judged]
    absent = [term for term in wanted if not holds(term, cited_terms)]
    coverage = 1 - len(absent) / len(wanted) if wanted else 1.0
    says_no = any(value.kind == "negation" for value in claimed)
    if _contradicted(set(wanted), cited_text, of, says_no):
        missing.append("negation")
    if coverage < COVERAGE:
        missing.extend(absent)
    return Support(not missing, tuple(missing), coverage)


def _stands(value: Value, given: list[Value], cited_terms: set[str]) -> bool:
    if value.kind == "name":
        return all(holds(word, cited_terms) for word in terms(value.text))
    return any(_same(value, other) for other in given)


def _same(claimed: Value, given: Value) -> bool:
    if claimed.kind == given.kind == "number":
        return claimed.normal == given.normal and (claimed.unit == given.unit or not claimed.unit or not given.unit)
    if claimed.kind == given.kind == "date":
        return _same_date(claimed.normal, given.normal)
    if claimed.kind == given.kind:
        return claimed.normal == given.normal
    return claimed.kind == "number" and given.kind in ("date", "time") and claimed.text in given.text.split()


def _same_date(claimed: str, given: str) -> bool:
    """A claim may say less than the source (its year or month only), never more."""
    if claimed.startswith("????"):
        return given.endswith(claimed[4:])
    return given == claimed or given.startswith(f"{claimed}-")


def _contradicted(wanted: set[str], cited_text: str, of: Language, says_no: bool) -> bool:
    """Whether the cited sentences nearest to the claim say no where it says yes, or yes where it says no.

    A denied claim needs a denial among them. One that denies nothing fails only where the nearest sentence is
    hardly more than the claim with a "not": a longer one may deny something else.
    """
    ranked = []
    for span in sentences(cited_text):
        piece = cited_text[span.start : span.end]
        words = set(terms(piece, of))
        denies = any(value.kind == "negation" for value in values(piece, of))
        shared = sum(holds(term, words) for term in wanted)
        ranked.append((shared, denies == says_no, denies, shared >= _NEAR * len(words)))
    if not ranked:
        return says_no
    nearest = max(ranked)
    if says_no:
        return not any(denies for shared, _, denies, _ in ranked if shared >= _NEAR * nearest[0])
    return nearest[2] and nearest[3]
