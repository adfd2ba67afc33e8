"""An answer as text for any client: quotes with `[n]` markers, what disagrees, and the list of sources.

A document may hold what a chat window would act on: images that call home, links, HTML, markers that look like
ours. In the text these are escaped as Markdown escapes them; the `redoubt` object carries each quote verbatim.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from redoubt.model import Citation, Disagreement, SearchedSource

_ACTIVE = re.compile(r"!(?=\[)|\[(?=\^?\d+\])|(?<=\])(?=\()|(?<=\])(?=:)|<(?=[A-Za-z/!?])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Mark:
    """Where in the text a citation's quote and marker stand."""

    number: int
    start: int
    end: int


def inert(text: str) -> str:
    """The text with nothing in it that a Markdown renderer would fetch, follow or take for a marker."""
    return _ACTIVE.sub(lambda found: f"\\{found.group()}", text)


def line(text: str) -> str:
    """A name on one line, without what could disguise it."""
    return inert(_CONTROL.sub("�", text.replace("\n", " ").replace("\t", " ")))


def answer(citations: Sequence[Citation], conflicts: Sequence[Disagreement]) -> tuple[list[str], list[Mark]]:
    """The pieces that a stream releases one by one, and the marks within their concatenation."""
    pieces: list[str] = []
    marks: list[Mark] = []
    at = 0
    for citation in citations:
        piece = f"“{inert(citation.quote)}” [{citation.number}]\n\n"
        marks.append(Mark(citation.number, at, at + len(piece) - 2))
        pieces.append(piece)
        at += len(piece)
    if conflicts:
        pieces.append("\n".join(_conflict(conflict, citations) for conflict in conflicts) + "\n\n")
    pieces.append("Sources:\n" + "\n".join(_source(citation) for citation in citations))
    return pieces, marks


def refusal(index: str, reason: str, searched: Sequence[SearchedSource]) -> str:
    """Why there is no answer, and what was looked at: only what the principal may read."""
    if not searched:
        return f"I cannot answer this: there is no document in “{index}” that this key may read."
    why = {
        "no_hits": "no passage in the documents that you may read matches it",
        "low_score": "nothing in the documents that you may read supports an answer",
        "citation_check": "the passages found could not be confirmed against the documents as they are now",
    }.get(reason, "it is not permitted")
    sources = "\n".join(
        f"- {line(source.name)}: {source.documents} document{'s' if source.documents != 1 else ''}"
        f"{_when(', newest as of', source.newest_as_of)}{_moment(', last checked', source.last_success_at)}"
        for source in searched
    )
    return f"I cannot answer this: {why}.\n\nSearched:\n{sources}"


def _conflict(conflict: Disagreement, citations: Sequence[Citation]) -> str:
    dates = {citation.number: citation.as_of for citation in citations}
    (one, other), (ours, theirs) = conflict.citations, conflict.values
    return (
        f"These sources disagree on {line(conflict.subject)}: “{line(ours)}” [{one}]{_when(', as of', dates[one])};"
        f" “{line(theirs)}” [{other}]{_when(', as of', dates[other])}."
    )


def _source(citation: Citation) -> str:
    page = f", page {citation.page}" if citation.page is not None else ""
    return (
        f"[{citation.number}] {line(citation.path)} ({line(citation.source)}), version {citation.version}{page}"
        f"{_when(', as of', citation.as_of)}"
    )


def _when(label: str, time: datetime | None) -> str:
    return f"{label} {time:%Y-%m-%d}" if time else ""


def _moment(label: str, time: datetime | None) -> str:
    return f"{label} {time:%Y-%m-%d %H:%M} UTC" if time else ""
