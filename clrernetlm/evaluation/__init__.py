"""The CULane metric in both published readings, the evaluation of a data set, sweeps and reports."""

from clrernetlm.evaluation.culane_metric import lane_ious, match_lanes
from clrernetlm.evaluation.evaluator import evaluate
from clrernetlm.evaluation.tally import EvaluationResult

__all__ = ["EvaluationResult", "evaluate", "lane_ious", "match_lanes"]
