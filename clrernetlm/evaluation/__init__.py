"""Runs models over a split and scores them; the metrics themselves are in `clrernetlm.metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clrernetlm.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from clrernetlm.metrics.culane_metric import lane_ious, match_lanes
    from clrernetlm.metrics.evaluator import evaluate
    from clrernetlm.metrics.f1_counts import EvaluationResult

__all__ = ["EvaluationResult", "evaluate", "lane_ious", "match_lanes"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "EvaluationResult": "clrernetlm.metrics.f1_counts",
        "evaluate": "clrernetlm.metrics.evaluator",
        "lane_ious": "clrernetlm.metrics.culane_metric",
        "match_lanes": "clrernetlm.metrics.culane_metric",
    },
)
