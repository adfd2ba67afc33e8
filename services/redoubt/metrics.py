"""Every metric's name, labels and buckets, in one place: a dashboard and a rule can be held against it.

Base units; timestamps instead of ages; label values bounded and initialised to 0; never a user, document,
query, request id or path. Buckets grow by 1.3, with each objective as an exact boundary, so that a quantile
inside a bucket errs by 17 % at p95 at most.
"""

import os

os.environ.setdefault("PROMETHEUS_DISABLE_CREATED_SERIES", "True")

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY_OBJECTIVES_S = (0.04, 0.1, 0.5, 2.0)  # search p50 and p95, quote answer, first token
FRESHNESS_OBJECTIVES_S = (1.0, 2.0, 60.0, 900.0)


def geometric(first: float, last: float, factor: float, exact: tuple[float, ...]) -> tuple[float, ...]:
    """Bucket bounds from `first` to `last`; a bound closer than 8 % to an exact one gives way to it."""
    bounds, value = set(exact), first
    while value <= last * 1.0001:
        if all(abs(value / e - 1) > 0.08 for e in exact):
            bounds.add(float(f"{value:.3g}"))
        value *= factor
    return tuple(sorted(bounds))


LATENCY_BUCKETS = geometric(0.005, 120, 1.3, LATENCY_OBJECTIVES_S)
FRESHNESS_BUCKETS = geometric(0.05, 86_400, 1.5, FRESHNESS_OBJECTIVES_S)
RATIO_BUCKETS = tuple(round(0.05 * i, 2) for i in range(1, 21))
HITS_BUCKETS = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 50.0, 100.0)

STAGES = ("auth", "embed", "retrieve", "rerank", "ground", "prompt", "generate", "cite", "audit")
OUTCOMES = ("answered", "refused", "error", "cancelled", "rejected")
REFUSALS = ("no_hits", "low_score", "citation_check", "policy")
UPSTREAMS = ("catalog", "embedder", "store", "generator")
UPSTREAM_ERRORS = ("timeout", "5xx", "connection", "garbage")


class GatewayMetrics:
    """What one gateway process reports."""

    def __init__(self, registry: CollectorRegistry, version: str) -> None:
        self.request_duration = Histogram(
            "redoubt_request_duration_seconds",
            "Gateway request, from the first byte in to the last byte out.",
            ["route", "stream"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.stage_duration = Histogram(
            "redoubt_stage_duration_seconds",
            "One stage of answering a question.",
            ["stage"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.requests = Counter("redoubt_requests", "Requests by outcome.", ["outcome"], registry=registry)
        self.refusals = Counter("redoubt_refusals", "Refused questions by reason.", ["reason"], registry=registry)
        self.upstream_errors = Counter(
            "redoubt_upstream_errors",
            "Failed calls to what the gateway needs.",
            ["upstream", "kind"],
            registry=registry,
        )
        self.top_score = Histogram(
            "redoubt_retrieval_top_score_ratio",
            "Cosine of the best permitted passage.",
            ["index"],
            buckets=RATIO_BUCKETS,
            registry=registry,
        )
        self.hits = Histogram(
            "redoubt_retrieval_hits",
            "Permitted passages retrieved per question.",
            ["index"],
            buckets=HITS_BUCKETS,
            registry=registry,
        )
        self.conflicts = Counter(
            "redoubt_conflicts", "Answers that showed a disagreement between documents.", registry=registry
        )
        self.build_info = Gauge("redoubt_build_info", "Always 1.", ["version"], registry=registry)
        self.build_info.labels(version).set(1)
        for stage in STAGES:
            self.stage_duration.labels(stage)
        for outcome in OUTCOMES:
            self.requests.labels(outcome)
        for reason in REFUSALS:
            self.refusals.labels(reason)
        for upstream in UPSTREAMS:
            for kind in UPSTREAM_ERRORS:
                self.upstream_errors.labels(upstream, kind)


class IngestMetrics:
    """What one ingest worker reports; `source` is an operator's choice of name, a handful a site."""

    def __init__(self, registry: CollectorRegistry, version: str) -> None:
        self.freshness = Histogram(
            "redoubt_index_freshness_seconds",
            "Source change to searchable, per document written.",
            ["source"],
            buckets=FRESHNESS_BUCKETS,
            registry=registry,
        )
        self.oldest_pending = Gauge(
            "redoubt_index_oldest_pending_change_timestamp_seconds",
            "When the oldest change that is not searchable yet was made; 0: nothing pending.",
            ["source"],
            registry=registry,
        )
        self.pending = Gauge(
            "redoubt_index_pending_documents", "Backlog by state.", ["source", "state"], registry=registry
        )
        self.last_success = Gauge(
            "redoubt_index_last_success_timestamp_seconds",
            "When a whole scan last went through.",
            ["source"],
            registry=registry,
        )
        self.newest_searchable = Gauge(
            "redoubt_index_newest_searchable_timestamp_seconds",
            "When a document last became searchable.",
            ["source"],
            registry=registry,
        )
        self.objective = Gauge(
            "redoubt_index_freshness_objective_seconds",
            "The source's freshness objective.",
            ["source"],
            registry=registry,
        )
        self.step_duration = Histogram(
            "redoubt_ingest_step_duration_seconds",
            "One step of bringing a document in.",
            ["step"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.build_info = Gauge("redoubt_build_info", "Always 1.", ["version"], registry=registry)
        self.build_info.labels(version).set(1)
        for step in ("parse", "chunk", "embed", "write"):
            self.step_duration.labels(step)
