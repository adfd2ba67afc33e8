"""Quantiles out of an exposition, as Prometheus' histogram_quantile computes them."""

import pytest

from redoubt.cli.latency import quantile, stages

EXPOSITION = """\
# HELP redoubt_stage_duration_seconds One stage.
# TYPE redoubt_stage_duration_seconds histogram
redoubt_stage_duration_seconds_bucket{le="0.1",stage="embed"} 2.0
redoubt_stage_duration_seconds_bucket{le="0.2",stage="embed"} 4.0
redoubt_stage_duration_seconds_bucket{le="+Inf",stage="embed"} 4.0
redoubt_stage_duration_seconds_sum{stage="embed"} 0.5
redoubt_stage_duration_seconds_count{stage="embed"} 4.0
redoubt_stage_duration_seconds_bucket{le="0.1",stage="auth"} 1.0
redoubt_stage_duration_seconds_bucket{le="+Inf",stage="auth"} 1.0
redoubt_stage_duration_seconds_sum{stage="auth"} 0.01
redoubt_stage_duration_seconds_bucket{le="+Inf",stage="rerank"} 0.0
redoubt_stage_duration_seconds_sum{stage="rerank"} 0.0
"""


def test_stages_in_order_without_those_never_seen() -> None:
    auth, embed = stages(EXPOSITION, "redoubt_stage_duration_seconds", "stage", ("auth", "embed"))
    assert (auth.name, auth.count, auth.mean_s) == ("auth", 1, 0.01)
    assert (embed.count, embed.mean_s) == (4, 0.125)
    assert embed.p50_s == pytest.approx(0.1)
    assert embed.p95_s == pytest.approx(0.19)


def test_beyond_the_last_bound_the_bound_is_said() -> None:
    assert quantile({0.1: 1.0, float("inf"): 10.0}, 0.95) == 0.1
