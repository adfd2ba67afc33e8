"""A question's journey: retrieve (permitted only) → ground or refuse → quote → cite. Audit stands around it."""

from typing import Literal

from redoubt.gateway import conflict, ground, quote, render
from redoubt.gateway.deadline import within
from redoubt.gateway.exchange import Exchange
from redoubt.gateway.retrieve import Retrieved, Retriever
from redoubt.model import Answer, Citation, Principal
from redoubt.store.catalog import permitted
from redoubt.store.catalog.connect import connection

Refusal = Literal["no_hits", "low_score", "citation_check"]
_JUDGED = 10  # the hits that grounding compares, at least


async def answer(
    retriever: Retriever, exchange: Exchange, principal: Principal, index: str, question: str
) -> tuple[Answer, list[str], list[render.Mark]]:
    """The answer, the pieces of its text for a stream, and where in the text each citation stands."""
    settings = retriever.settings
    found = await retriever.retrieve(exchange, principal, index, question, max(settings.top_k, _JUDGED))
    with exchange.stage("ground"):
        threshold = ground.DEFAULT_THRESHOLD if found.live.threshold is None else found.live.threshold
        verdict = ground.decide(question, found.hits, threshold)
    signals = {**verdict.signals, "confidence": verdict.confidence}
    if not verdict.answerable:
        return _refuse(exchange, index, verdict.reason or "low_score", found, signals)
    with exchange.stage("cite"):
        citations = await _cite(retriever, principal, question, found)
        conflicts = tuple(conflict.find(question, citations))
    if not citations:
        return _refuse(exchange, index, "citation_check", found, signals)
    if conflicts:
        exchange.metrics.conflicts.inc()
    pieces, marks = render.answer(citations, conflicts)
    exchange.record.outcome = "answered"
    exchange.record.shown((citation.document_id, citation.version) for citation in citations)
    given = Answer(
        outcome="answered",
        mode="quote",
        text="".join(pieces),
        citations=citations,
        conflicts=conflicts,
        searched=found.searched,
        signals=signals,
    )
    return given, pieces, marks


async def _cite(retriever: Retriever, principal: Principal, question: str, found: Retrieved) -> tuple[Citation, ...]:
    """Quotes as citations, each checked once more against the stored text and the ACL as they are now."""
    settings = retriever.settings
    quotes = quote.select(question, found.hits[: settings.top_k], settings.quotes)
    proposed = [_citation(number, chosen) for number, chosen in enumerate(quotes, 1)]

    async def check() -> set[int]:
        async with connection(retriever.pool) as taken:
            return await permitted.standing(taken, principal, proposed)

    standing = await within(settings.catalog_timeout_s, check())
    kept = [chosen for number, chosen in enumerate(quotes, 1) if number in standing]
    return tuple(_citation(number, chosen) for number, chosen in enumerate(kept, 1))


def _citation(number: int, chosen: quote.Quote) -> Citation:
    hit = chosen.hit
    return Citation(
        number=number,
        document_id=hit.document_id,
        version=hit.version,
        source=hit.source,
        path=hit.path,
        title=hit.title,
        quote=chosen.text,
        span=chosen.span,
        page=hit.chunk.page,
        heading=hit.chunk.heading,
        as_of=hit.as_of,
        score=hit.score,
    )


def _refuse(
    exchange: Exchange, index: str, reason: Refusal, found: Retrieved, signals: dict[str, float]
) -> tuple[Answer, list[str], list[render.Mark]]:
    exchange.record.outcome = "refused"
    exchange.record.reason = reason
    exchange.metrics.refusals.labels(reason).inc()
    text = render.refusal(index, reason, found.searched)
    refused = Answer(
        outcome="refused", mode="quote", text=text, reason=reason, searched=found.searched, signals=signals
    )
    return refused, [text], []
