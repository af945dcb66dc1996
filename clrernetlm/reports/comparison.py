"""Writes the HTML report of LaneLM beside its detector, in the style of the report of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from clrernetlm.core.arrays import BgrImage, BgrPixel, Points
from clrernetlm.core.drawing import WHITE, draw_lanes
from clrernetlm.core.files import PathLike
from clrernetlm.core.lane_attributes import LANE_COLOURS, LANE_TYPES
from clrernetlm.metrics.attribute_scores import names_in_order
from clrernetlm.metrics.sweep import Sweep
from clrernetlm.reports.charts import Series, line_chart
from clrernetlm.reports.page import (
    Block,
    Charts,
    ConfusionMatrix,
    Facts,
    Note,
    PictureRow,
    Pictures,
    Section,
    Table,
    css_colours,
    picture,
    write_page,
)
from clrernetlm.reports.report import COLOURS, metric_notes, sweep_blocks
from clrernetlm.reports.table import ATTRIBUTE_HEADS, COMPARISON_HEADS, attribute_rows, category_rows, comparison_cells

YELLOW: BgrPixel = (40, 225, 245)
SCORE_NAMES = {"detector": "detector's score", "lanelm": "LaneLM's score"}
Panels = tuple[str, Sequence[tuple[str, BgrImage]]]  # an image's path; captions and pictures of it


def write_comparison(
    path: PathLike,
    document: Mapping[str, Any],
    results: Mapping[str, dict[str, Any]],
    *,
    title: str,
    sweeps: Mapping[str, Sweep],
    pictures: Sequence[Panels] = (),
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write the JSON document of `clrernetlm test` with LaneLM as one self-contained HTML file, atomically.

    `results`: `EvaluationResult.to_dict()` by name, the detector first; `sweeps`: confidence sweeps by name. Raises
    UserError when the file cannot be written.
    """
    rows = [[name, *comparison_cells(result)] for name, result in results.items()]
    first = next(iter(results.values()))
    parts = [Section("Detector and LaneLM", [Table(["", *COMPARISON_HEADS], rows), *metric_notes(first)])]
    if first["categories"]:
        table = Table(["", *results], category_rows(results), total=True)
        parts.append(Section("F1@50 by category", [table]))
    if attribute_rows(results):
        parts.append(Section("Type, colour, position and visibility", attribute_blocks(results)))
    parts.append(Section("Confidence threshold", sweep_blocks(sweeps)))
    if "verification" in document:
        charts = (verification_chart(document["verification"]), reliability_chart(document["calibration"]))
        blocks = [Charts([Markup(chart) for chart in charts]), Note(scores_note(document))]
        parts.append(Section("What the scores say", blocks))
    if pictures:
        picture_rows = [PictureRow([picture(*panel) for panel in panels], path) for path, panels in pictures]
        colours = css_colours({**COLOURS, "click": YELLOW})
        parts.append(Section("Images with the most mistakes", [Pictures(colours, picture_rows)]))
    protocol = {name.replace("_", " "): _readable(value) for name, value in document["protocol"].items()}
    parts.append(Section("Run", [Facts({**(facts or {}), **protocol})]))
    headline = [(f"{name}, F1@50", comparison_cells(result)[0]) for name, result in results.items()]
    headline.append(("images", f"{first['images']:,}"))
    write_page(path, title, headline, parts)


def attribute_blocks(results: Mapping[str, dict[str, Any]]) -> list[Block]:
    """Tabulate the attributes of all results that have them, with the confusions of the first of these."""
    name, figures = next((name, result["attributes"]) for name, result in results.items() if "attributes" in result)
    blocks: list[Block] = [
        Table(["", *ATTRIBUTE_HEADS], attribute_rows(results)),
        Note(
            f"In percent, over lanes that match a label with IoU > {figures['iou_threshold']:g}; what a label does not "
            f"state is left out. {figures['hidden']['hidden']:,} of {figures['hidden']['points']:,} points compared "
            f"are hidden. Below: what {name} says of the lanes of each label, in percent."
        ),
    ]
    for key, names in (("type", LANE_TYPES), ("colour", LANE_COLOURS)):
        confusion = figures[key]["confusion"]
        if confusion:
            labelled, predicted = names_in_order(confusion, names)
            counts = [[confusion[row].get(column, 0) for column in predicted] for row in labelled]
            blocks.append(ConfusionMatrix(key, labelled, predicted, counts))
    return blocks


def verification_chart(figures: Mapping[str, Any]) -> str:
    """Draw the share of false proposals rejected over the share of true ones lost, a curve per score.

    `figures`: as `metrics.verification` returns them. The best point that loses at most 3 % of the true is marked.
    """
    series = []
    for model, name in SCORE_NAMES.items():
        curve, best = figures[model]["curve"], figures[model]["best"]
        points = [(point["true_lost"], point["false_rejected"]) for point in curve]
        mark = (best["true_lost"], best["false_rejected"]) if best else None
        series.append(Series(name, points, mark, f"{100 * mark[1]:.1f} %" if mark else ""))
    return line_chart(
        series,
        "Proposals rejected",
        "true proposals lost, in percent",
        "false proposals rejected, in percent",
        legend="right",
        percent="xy",
    )


def reliability_chart(figures: Mapping[str, Any]) -> str:
    """Draw the share of true lanes over their score, a curve per score, and the diagonal of a calibrated score."""
    series = [
        Series(name, [(row["score"], row["right"]) for row in figures[model]["bins"] if row["count"]])
        for model, name in SCORE_NAMES.items()
    ]
    diagonal = Series("a probability", [(0.0, 0.0), (1.0, 1.0)])
    return line_chart(
        [*series, diagonal],
        "Reliability of the scores",
        "score",
        "percent of lanes with IoU > 0.5",
        legend="right",
        percent="y",
    )


def scores_note(document: Mapping[str, Any]) -> str:
    """Describe the figures of both charts in one or two sentences."""
    figures, calibration = document["verification"], document["calibration"]
    parts = [f"{figures['true']:,} true and {figures['false']:,} false proposals"]
    for model, name in SCORE_NAMES.items():
        best = figures[model]["best"]
        if best:
            parts.append(
                f"{name} rejects {100 * best['false_rejected']:.1f} % of the false ones "
                f"and loses {100 * best['true_lost']:.1f} % of the true at {best['threshold']:.3f}"
            )
    errors = [
        f"{name} {calibration[model]['expected_calibration_error']:.3f}"
        for model, name in SCORE_NAMES.items()
        if calibration[model]["lanes"]
    ]
    return "; ".join(parts) + (f". Expected calibration error: {', '.join(errors)}." if errors else ".")


def draw_clicks(image: BgrImage, clicks: Points) -> BgrImage:
    """Draw a dot at each click (K, 2), in pixels, on a copy of a (H, W, 3) BGR image."""
    size = max(image.shape[:2]) / 200
    dots = [np.asarray(click, np.float64)[None] for click in clicks]
    return draw_lanes(draw_lanes(image, dots, WHITE, 1.5 * size), dots, YELLOW, size)


def _readable(value: object) -> object:
    """Format a setting for the report: lists as words, flags as yes and no."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
