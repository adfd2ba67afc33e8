"""What the worker tells Prometheus: read from the catalogue at each scrape, so that it cannot drift from it."""

from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from redoubt.metrics import IngestMetrics
from redoubt.store.catalog import sources


async def refresh(connection: AsyncConnection[Any], metrics: IngestMetrics) -> None:
    """Set every gauge from the catalogue; a source that went loses its series."""
    rows = await sources.status(connection)
    for gauge in (
        metrics.oldest_pending, metrics.pending, metrics.last_success, metrics.newest_searchable, metrics.objective,
    ):  # fmt: skip
        gauge.clear()
    for row in rows:
        metrics.freshness.labels(row.source)
        metrics.oldest_pending.labels(row.source).set(_seconds(row.oldest_pending_at))
        for state, count in (("queued", row.queued), ("failed", row.failed), ("delete", row.deleting)):
            metrics.pending.labels(row.source, state).set(count)
        metrics.last_success.labels(row.source).set(_seconds(row.last_success_at))
        metrics.newest_searchable.labels(row.source).set(_seconds(row.newest_searchable_at))
        metrics.objective.labels(row.source).set(row.objective_seconds)


def _seconds(at: datetime | None) -> float:
    return at.timestamp() if at else 0.0
