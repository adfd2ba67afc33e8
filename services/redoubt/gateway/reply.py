"""What the gateway sends, in OpenAI's forms, with the `redoubt` object beside what OpenAI defines."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from starlette.responses import Response

from redoubt.errors import AuthError, InputError, NotFound, RedoubtError, Unavailable
from redoubt.gateway.render import Mark
from redoubt.gateway.wire import BadField
from redoubt.model import Answer, Citation, Disagreement, Hit, SearchedSource
from redoubt.store.catalog.permitted import Version


class Json(Response):
    """JSON in ASCII: whatever strings it holds, it can be sent."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body's bytes."""
        return json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def error(found: RedoubtError) -> Json:
    """An error in OpenAI's shape."""
    kind = "server_error"
    if isinstance(found, AuthError):
        kind = "authentication_error"
    elif isinstance(found, NotFound):
        kind = "not_found_error"
    elif isinstance(found, InputError):
        kind = "invalid_request_error"
    elif isinstance(found, Unavailable):
        kind = "service_unavailable_error"
    parts = [found.what, found.why, found.fix]
    message = ". ".join(part[0].upper() + part[1:] for part in parts if part)
    return _error(
        found.http_status, message, kind, found.reference, found.parameter if isinstance(found, BadField) else None
    )


def http_error(status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> Json:
    """An error that the HTTP layer itself found: no such path, no such method."""
    response = _error(status, message, "invalid_request_error" if status < 500 else "server_error", code, None)
    response.headers.update(headers or {})
    return response


def invalid(errors: Sequence[Any]) -> Json:
    """What is wrong with a body, by field, without the values: those may be secrets."""
    first = errors[0] if errors else {"loc": (), "msg": "it cannot be read"}
    if first.get("type") == "json_invalid":
        return _error(400, "The body is not JSON", "invalid_request_error", "bad-input", None)
    where = [_field(found) for found in errors[:5]]
    told = "; ".join(
        f"{place}: {str(found['msg']).removeprefix('Value error, ')}"
        for place, found in zip(where, errors, strict=False)
    )
    return _error(400, f"The request cannot be served: {told}", "invalid_request_error", "bad-input", where[0])


def _field(found: Mapping[str, Any]) -> str:
    return ".".join(str(part)[:80] for part in found["loc"] if part != "body") or "body"


def _error(status: int, message: str, kind: str, code: str, parameter: str | None) -> Json:
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    elif status == 503:
        headers["Retry-After"] = "2"
    body = {"error": {"message": message, "type": kind, "param": parameter, "code": code}}
    return Json(body, status_code=status, headers=headers)


def moment(time: datetime | None) -> str | None:
    """RFC 3339 in UTC."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z") if time else None


def document_url(gateway: str, document_id: UUID, version: int) -> str:
    """Where one version of a document is told about."""
    return f"{gateway.rstrip('/')}/v1/documents/{document_id}/versions/{version}"


def annotations(gateway: str, citations: Sequence[Citation], marks: Sequence[Mark]) -> list[dict[str, Any]]:
    """OpenAI's url_citation, one a quote; offsets are characters of the message."""
    by_number = {citation.number: citation for citation in citations}
    found = []
    for mark in marks:
        citation = by_number[mark.number]
        url = document_url(gateway, citation.document_id, citation.version)
        cited = {
            "start_index": mark.start,
            "end_index": mark.end,
            "title": citation.title,
            "url": f"{url}#char={citation.span.start},{citation.span.end}",
        }
        found.append({"type": "url_citation", "url_citation": cited})
    return found


def redoubt_object(answer: Answer, request_id: UUID, stages: Mapping[str, float]) -> dict[str, Any]:
    """Everything that OpenAI's forms have no place for."""
    successes = [source.last_success_at for source in answer.searched if source.last_success_at]
    return {
        "outcome": answer.outcome,
        "mode": answer.mode,
        "citations": [_citation(citation) for citation in answer.citations],
        "conflicts": [_conflict(conflict) for conflict in answer.conflicts],
        "reason": answer.reason,
        "searched": [_searched(source) for source in answer.searched],
        "freshness": {
            "newest_as_of": moment(
                max((source.newest_as_of for source in answer.searched if source.newest_as_of), default=None)
            ),
            "last_success_at": moment(min(successes, default=None)),  # of the source checked longest ago
            "asked_at": moment(datetime.now(UTC)),
        },
        "signals": {name: round(value, 4) for name, value in answer.signals.items()},
        "request_id": str(request_id),
        "stages": dict(stages),
    }


def _citation(citation: Citation) -> dict[str, Any]:
    return {
        "number": citation.number,
        "document": citation.path,
        "document_id": str(citation.document_id),
        "source": citation.source,
        "title": citation.title,
        "version": citation.version,
        "quote": citation.quote,
        "span": [citation.span.start, citation.span.end],
        "page": citation.page,
        "heading": list(citation.heading),
        "as_of": moment(citation.as_of),
        "score": round(citation.score, 4),
    }


def _conflict(conflict: Disagreement) -> dict[str, Any]:
    return {
        "type": conflict.type,
        "subject": conflict.subject,
        "citations": list(conflict.citations),
        "values": list(conflict.values),
    }


def _searched(source: SearchedSource) -> dict[str, Any]:
    return {
        "source": source.name,
        "documents": source.documents,
        "newest_as_of": moment(source.newest_as_of),
        "last_success_at": moment(source.last_success_at),
    }


def hit(found: Hit) -> dict[str, Any]:
    """A passage as `/v1/search` shows it."""
    return {
        "document": found.path,
        "document_id": str(found.document_id),
        "source": found.source,
        "title": found.title,
        "version": found.version,
        "text": found.chunk.text,
        "score": round(found.score, 6),
        "scores": {"dense": found.cosine, "sparse": found.bm25},
        "span": [found.chunk.span.start, found.chunk.span.end],
        "page": found.chunk.page,
        "heading": list(found.chunk.heading),
        "as_of": moment(found.as_of),
    }


def version(found: Version) -> dict[str, Any]:
    """One version of a document; what is gone of it says so."""
    gone = None
    if found.text is None:
        gone = "this version was superseded or deleted: its text is gone, its hash, times and number are kept"
    return {
        "object": "document.version",
        "document_id": str(found.document_id),
        "document": found.path,
        "source": found.source,
        "title": found.title,
        "version": found.version,
        "current": found.text is not None,
        "text": found.text,
        "gone": gone,
        "content_hash": f"sha256:{found.content_hash.hex()}",
        "as_of": moment(found.as_of),
        "changed_at": moment(found.changed_at),
        "searchable_at": moment(found.searchable_at),
        "ended_at": moment(found.ended_at),
    }
