"""Builds the gateway: one FastAPI application a process, everything it needs opened with it and closed with it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import Response

from redoubt import __version__
from redoubt.clients.vllm import Embedder, digest
from redoubt.errors import InputError, RedoubtError
from redoubt.gateway import docs, reply, routes
from redoubt.gateway.audit import Audited
from redoubt.gateway.auth import KeyRing
from redoubt.gateway.health import Health
from redoubt.gateway.limits import SecurityHeaders
from redoubt.gateway.retrieve import Retriever
from redoubt.metrics import GatewayMetrics
from redoubt.settings import GatewaySettings, Site
from redoubt.store.catalog.connect import pool
from redoubt.store.pgvector.store import PgvectorStore


def create(site: Site, settings: GatewaySettings) -> FastAPI:
    """The application; nothing is connected before its lifespan begins."""
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry, __version__)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        dsn = site.catalog.dsn_for(site.catalog.gateway_role)
        async with AsyncExitStack() as opened:
            connections = await opened.enter_async_context(
                pool(
                    dsn,
                    service="gateway",
                    size=settings.pool_size,
                    timeout_s=settings.catalog_timeout_s,
                    autocommit=True,
                )
            )
            embedder = await opened.enter_async_context(
                Embedder(
                    site.embedder.url,
                    site.embedder.model,
                    api_key=site.embedder.api_key,
                    timeout_s=settings.embed_timeout_s,
                )
            )
            keys = KeyRing(connections, dsn, cache_s=settings.key_cache_s, timeout_s=settings.catalog_timeout_s)
            await opened.enter_async_context(keys.listening())
            retriever = Retriever(
                pool=connections,
                stores={"pgvector": PgvectorStore(connections)},
                embedder=embedder,
                embedder_digest=await asyncio.to_thread(digest, site.embedder.path),
                default_index=site.index,
                settings=settings,
            )
            app.state.services = routes.Services(site, settings, connections, keys, embedder, retriever)
            app.state.health = Health(connections, embedder)
            yield

    app = FastAPI(
        title="Redoubt",
        version=__version__,
        summary="Cited answers from your own documents, in OpenAI's API.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(routes.router)
    app.include_router(docs.router)
    _operations(app, registry)
    _errors(app)
    app.add_middleware(Audited, settings=settings, metrics=metrics)
    app.add_middleware(SecurityHeaders)
    return app


def _operations(app: FastAPI, registry: CollectorRegistry) -> None:
    @app.get("/health/live", summary="The process answers", tags=["operations"])
    async def live() -> Response:
        return reply.Json({"status": "live"})

    @app.get("/health/ready", summary="A question could be answered now", tags=["operations"])
    async def ready(request: Request) -> Response:
        parts = await request.app.state.health.parts()
        up = all(state == "up" for state in parts.values())
        return reply.Json({"status": "ready" if up else "unavailable", "parts": parts}, status_code=200 if up else 503)

    @app.get("/metrics", summary="For Prometheus", tags=["operations"])
    async def scrape() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _errors(app: FastAPI) -> None:
    @app.exception_handler(RedoubtError)
    async def ours(request: Request, error: RedoubtError) -> Response:
        request.state.exchange.failed(error)
        return reply.error(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        request.state.exchange.record.reason = InputError.reference
        return reply.invalid(error.errors())

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        code = HTTPStatus(error.status_code).phrase
        return reply.http_error(error.status_code, code, code.lower().replace(" ", "-"), error.headers)
