"""One request and what is known of it: carried from the front door to the audit row, filled in on the way."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from redoubt.errors import CatalogDown, EmbedderDown, RedoubtError, Unavailable
from redoubt.metrics import GatewayMetrics
from redoubt.model import Principal
from redoubt.store.catalog.audit import Record

ROUTES = {
    "/v1/chat/completions": re.compile(r"/v1/chat/completions"),
    "/v1/models": re.compile(r"/v1/models"),
    "/v1/models/{model}": re.compile(r"/v1/models/[^/]+"),
    "/v1/embeddings": re.compile(r"/v1/embeddings"),
    "/v1/search": re.compile(r"/v1/search"),
    "/v1/documents/{document_id}/versions/{version}": re.compile(r"/v1/documents/[^/]+/versions/[^/]+"),
}


@dataclass(slots=True)
class Exchange:
    """One request and what is known of it; the handlers find it in the request's state."""

    record: Record
    metrics: GatewayMetrics
    started: float = field(default_factory=perf_counter)
    principal: Principal | None = None
    stream: bool = False
    stages: dict[str, float] = field(default_factory=dict)  # milliseconds

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage, for the metrics and for the answer itself."""
        began = perf_counter()
        try:
            yield
        finally:
            self.took(name, perf_counter() - began)

    def took(self, name: str, seconds: float) -> None:
        """Note how long a stage was that something else timed."""
        self.metrics.stage_duration.labels(name).observe(seconds)
        self.stages[name] = round(self.stages.get(name, 0.0) + seconds * 1000, 3)

    def failed(self, error: RedoubtError) -> None:
        """Note why there is no answer."""
        self.record.reason = error.reference
        if isinstance(error, Unavailable):
            upstream = {CatalogDown: "catalog", EmbedderDown: "embedder"}.get(type(error), "store")
            self.metrics.upstream_errors.labels(upstream, error.kind).inc()

    @property
    def elapsed_s(self) -> float:
        """Since the request's first byte was seen."""
        return perf_counter() - self.started


def route_of(path: str) -> str:
    """The route's template: a label and an audit entry of bounded values, even for what no route answers."""
    return next((name for name, form in ROUTES.items() if form.fullmatch(path)), "unknown")
