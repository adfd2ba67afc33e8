"""The routes: each checks its input, calls one use case, and puts the result in OpenAI's form."""

import base64
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from starlette.responses import Response

from redoubt.clients.vllm import Embedder
from redoubt.errors import NotFound
from redoubt.gateway import completion, pipeline, reply
from redoubt.gateway.auth import KeyRing, refused
from redoubt.gateway.deadline import within
from redoubt.gateway.exchange import Exchange
from redoubt.gateway.retrieve import Retriever, unknown_index
from redoubt.gateway.wire import BadField, ChatRequest, EmbeddingsRequest, SearchRequest, split_model
from redoubt.model import Principal
from redoubt.settings import GatewaySettings, Site
from redoubt.store.catalog import permitted
from redoubt.store.catalog.connect import Pool, connection

router = APIRouter(prefix="/v1", default_response_class=reply.Json)
_MAX_VERSION = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes work with; opened with the application."""

    site: Site
    settings: GatewaySettings
    pool: Pool
    keys: KeyRing
    embedder: Embedder
    retriever: Retriever


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _exchange(request: Request) -> Exchange:
    exchange: Exchange = request.state.exchange
    return exchange


def _principal(request: Request) -> Principal:
    principal = _exchange(request).principal
    if principal is None:
        raise refused()
    return principal


With = Annotated[Services, Depends(_services)]
Asked = Annotated[Exchange, Depends(_exchange)]
Who = Annotated[Principal, Depends(_principal)]


@router.post("/chat/completions", summary="Answer a question with quotes from the documents that the key may read")
async def chat(body: ChatRequest, services: With, exchange: Asked, principal: Who) -> Response:
    """The last user message is the question; `model` names an index. Citations travel as annotations."""
    exchange.stream = bool(body.stream)
    exchange.record.model = body.model
    question = body.question()
    index = split_model(body.model)
    exchange.record.index = index
    exchange.record.asked(question)
    answer, pieces, marks = await pipeline.answer(services.retriever, exchange, principal, index, question)
    cited = reply.annotations(services.site.gateway.url, answer.citations, marks)
    redoubt = reply.redoubt_object(answer, exchange.record.request_id, exchange.stages)
    created = int(time.time())
    if not body.stream:
        return reply.Json(completion.whole(body.model, created, answer.text, cited, redoubt))
    events = completion.chunks(body.model, created, pieces, cited, redoubt, include_usage=body.include_usage)
    return StreamingResponse(_each(events), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _each(events: Iterator[bytes]) -> AsyncIterator[bytes]:
    for event in events:
        yield event


@router.post("/search", summary="The best passages that the key may read")
async def search(body: SearchRequest, services: With, exchange: Asked, principal: Who) -> Response:
    """Passages with their fused score and both raw ones, best first."""
    index = body.index or services.site.index
    if not (query := body.query.strip()):
        raise BadField("query", "the query is empty")
    exchange.record.index = index
    exchange.record.asked(query)
    found = await services.retriever.retrieve(exchange, principal, index, query, body.top_k)
    exchange.record.outcome = "answered"
    exchange.record.shown((hit.document_id, hit.version) for hit in found.hits)
    return reply.Json(
        {
            "object": "list",
            "index": index,
            "hits": [reply.hit(hit) for hit in found.hits],
            "request_id": str(exchange.record.request_id),
            "stages": exchange.stages,
        }
    )


@router.get("/models", summary="The indexes that the key may ask")
async def models(services: With, principal: Who) -> Response:
    """Each index by its name and as `<index>:quote`."""
    return reply.Json({"object": "list", "data": await _models(services, principal)})


@router.get("/models/{model}", summary="One index that the key may ask")
async def model(model: str, services: With, principal: Who) -> Response:
    """The same entry that the list holds."""
    for found in await _models(services, principal):
        if found["id"] == model:
            return reply.Json(found)
    raise unknown_index()


async def _models(services: Services, principal: Principal) -> list[dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        async with connection(services.pool) as taken:
            return [
                {"id": name, "object": "model", "created": int(created.timestamp()), "owned_by": services.site.name}
                for index, created in await permitted.indexes(taken, principal, services.site.index)
                for name in (index, f"{index}:quote")
            ]

    return await within(services.settings.catalog_timeout_s, read())


@router.post("/embeddings", summary="Vectors of texts, by the site's own embedding model")
async def embeddings(body: EmbeddingsRequest, services: With, exchange: Asked, principal: Who) -> Response:
    """OpenAI's form; the vectors are L2-normalised."""
    del principal  # any valid key may embed its own texts
    embedder = services.embedder
    exchange.record.model = body.model
    if body.model != embedder.model:
        raise BadField("model", f"the embedding model here is {embedder.model!r}")
    with exchange.stage("embed"):
        vectors, tokens = await embedder.embed_counted(body.texts, truncate=False)
    if body.dimensions not in {None, vectors.shape[1]}:
        raise BadField("dimensions", f"this model's vectors have {vectors.shape[1]} dimensions, no other number")
    data = [
        {
            "object": "embedding",
            "index": at,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if body.encoding_format == "base64"
            else vector.tolist(),
        }
        for at, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return reply.Json({"object": "list", "model": body.model, "data": data, "usage": usage})


@router.get("/documents/{document_id}/versions/{version}", summary="What a citation points at")
async def document(document_id: str, version: str, services: With, exchange: Asked, principal: Who) -> Response:
    """One version of a document; a superseded one without its text. Unknown and forbidden read the same."""
    try:
        id_, number = UUID(document_id), int(version)
    except ValueError:
        raise _unknown_document() from None
    if not 0 < number <= _MAX_VERSION:
        raise _unknown_document()

    async def read() -> permitted.Version | None:
        async with connection(services.pool) as taken:
            return await permitted.version(taken, principal, id_, number)

    found = await within(services.settings.catalog_timeout_s, read())
    if found is None:
        raise _unknown_document()
    exchange.record.shown([(id_, number)])
    return reply.Json(reply.version(found))


def _unknown_document() -> NotFound:
    return NotFound("there is no such document version for this key", why="it does not exist, or may not be read")
