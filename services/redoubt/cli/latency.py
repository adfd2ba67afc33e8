"""Reads a histogram out of a Prometheus exposition, for people: how often, how long on average, quantiles."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Stage:
    """One label's histogram; seconds."""

    name: str
    count: int
    mean_s: float
    p50_s: float
    p95_s: float


def stages(exposition: str, metric: str, label: str, order: tuple[str, ...] = ()) -> list[Stage]:
    """The histogram by `label`, without those that were never observed; `order` first."""
    buckets: dict[str, dict[float, float]] = defaultdict(dict)
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(exposition):
        if family.name == metric:
            for sample in family.samples:
                name = sample.labels.get(label, "")
                if sample.name.endswith("_bucket"):
                    buckets[name][float(sample.labels["le"])] = sample.value
                elif sample.name.endswith("_sum"):
                    sums[name] = sample.value
    found = []
    for name, cumulative in buckets.items():
        count = cumulative[max(cumulative)]
        if count:
            median, high = quantile(cumulative, 0.5), quantile(cumulative, 0.95)
            found.append(Stage(name, int(count), sums[name] / count, median, high))
    ranks = {name: rank for rank, name in enumerate(order)}
    return sorted(found, key=lambda stage: (ranks.get(stage.name, len(ranks)), stage.name))


def quantile(cumulative: Mapping[float, float], q: float) -> float:
    """As Prometheus' histogram_quantile: linear inside the bucket, the highest finite bound beyond it."""
    bounds = sorted(cumulative)
    wanted = q * cumulative[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds:
        if cumulative[bound] >= wanted:
            if bound == float("inf"):
                return lower
            inside = cumulative[bound] - below
            return lower + (bound - lower) * ((wanted - below) / inside if inside else 0.0)
        lower, below = bound, cumulative[bound]
    return lower
