"""Scores prediction files against label files: `clrernetlm evaluate`."""

from __future__ import annotations

import json as json_format

from rich.console import Console

from clrernetlm.core.files import PathLike, write_text_atomically
from clrernetlm.core.overwrite_rules import check_distinct, check_output
from clrernetlm.metrics.culane_metric import MetricImplementation
from clrernetlm.metrics.evaluator import evaluate
from clrernetlm.metrics.f1_counts import EvaluationResult, is_scores
from clrernetlm.metrics.frame_scale import ImageSize
from clrernetlm.reports.table import result_table


def evaluate_command(
    pred: PathLike,
    gt: PathLike,
    list: PathLike,
    categories: PathLike | None = None,
    implementation: MetricImplementation = "clrernet",
    image_size: ImageSize = (1640, 590),
    width: int = 30,
    json: PathLike | None = None,
    per_image: PathLike | None = None,
    workers: int = 0,
    overwrite: bool = False,
) -> EvaluationResult:
    """Score prediction files, print a table, and write `json` (all scores) and `per_image` (a line per image).

    Both files are written atomically; existing scores are replaced only with `overwrite`. See `evaluate` for the
    arguments and the errors.
    """
    check_distinct(json=json, per_image=per_image)
    if json is not None:
        check_output(json, "scores", is_scores, parameter="json", overwrite=overwrite)
    console = Console()
    result = evaluate(
        pred,
        gt,
        list,
        categories=categories,
        implementation=implementation,
        width=width,
        image_size=image_size,
        workers=workers,
        per_image=per_image,
        progress=console.is_terminal,
        overwrite=overwrite,
    )
    document = result.to_dict()
    console.print(result_table(document, title=f"CULane metric, {implementation} implementation"))
    if json is not None:
        write_text_atomically(json, json_format.dumps(document, indent=2) + "\n")
    return result
