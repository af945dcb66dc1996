"""Writes the HTML report of an evaluation of one model, or of several in the same charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from clrernetlm.core.arrays import BgrImage, Points
from clrernetlm.core.drawing import BLUE, GREEN, RED, draw_lanes
from clrernetlm.core.files import PathLike
from clrernetlm.core.lane import Lane
from clrernetlm.metrics.frame_scale import describe_canvas
from clrernetlm.metrics.sweep import Sweep
from clrernetlm.reports.charts import Series, line_chart
from clrernetlm.reports.page import (
    Block,
    Charts,
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
from clrernetlm.reports.table import category_label, has_labels, missing_predictions_text

COLOURS = {"label": GREEN, "hit": BLUE, "false": RED}


def write_report(
    path: PathLike,
    result: Mapping[str, Any],
    *,
    title: str,
    sweep: Sweep | Mapping[str, Sweep] | None = None,
    images: Sequence[tuple[str, BgrImage]] = (),
    facts: Mapping[str, Any] | None = None,
    sections: Sequence[Section] = (),
) -> None:
    """Write `EvaluationResult.to_dict()` as one self-contained HTML file, atomically.

    `sweep`: one model's confidence sweep, or several by name, drawn into the same charts. `images`: captions and BGR
    pictures (see `draw_comparison`). `facts`: settings of the run, in the order given. `sections` are added after the
    charts. Raises UserError when the file cannot be written.
    """
    parts = [Section("F1 by category", [result_table(result), *metric_notes(result)])]
    if sweep is not None:
        sweeps = {"": sweep} if isinstance(sweep, Sweep) else dict(sweep)
        parts.append(Section("Confidence threshold", sweep_blocks(sweeps)))
    parts.extend(sections)
    if images:
        row = PictureRow([picture(caption, image) for caption, image in images])
        parts.append(Section("Images", [Pictures(css_colours(COLOURS), [row])]))
    if facts:
        parts.append(Section("Run", [Facts(facts)]))
    headline = [(f"F1@{float(key) * 100:g}", f"{100 * row['f1']:.2f}") for key, row in result["total"].items()]
    headline += [("mF1", f"{100 * result['mf1']:.2f}"), ("images", f"{result['images']:,}")]
    write_page(path, title, headline, parts)


def result_table(result: Mapping[str, Any]) -> Table:
    """Tabulate categories and total: F1 in percent at every threshold, precision, recall and counts at one of them."""
    keys = list(result["total"])
    detail = "0.5" if "0.5" in keys else keys[0]
    percent = f"{float(detail) * 100:g}"
    heads = ["category", *(f"F1@{float(key) * 100:g}" for key in keys)]
    heads += [f"{name}@{percent}" for name in ("precision", "recall", "TP", "FP", "FN")]
    rows = []
    for label, figures in [
        *((category_label(name), figures) for name, figures in result["categories"].items()),
        ("total", result["total"]),
    ]:
        ratios = [figures[key]["f1"] for key in keys] + [figures[detail][name] for name in ("precision", "recall")]
        cells = [f"{100 * ratio:.2f}" if has_labels(figures) else "–" for ratio in ratios]
        rows.append([label, *cells, *(f"{figures[detail][name]:,}" for name in ("tp", "fp", "fn"))])
    return Table(heads, rows, total=True)


def metric_notes(result: Mapping[str, Any]) -> list[Block]:
    """Describe how the figures of an evaluation were measured; no block if the result holds no settings."""
    settings = [f"{result['semantics']} implementation"] if "semantics" in result else []
    if missing_predictions_text(result):
        settings.append(f"{result['images']:,} images{missing_predictions_text(result)}")
    if "width" in result and "image_size" in result:
        settings.append(f"lanes drawn {result['width']} px wide at {describe_canvas(result['image_size'])}")
    return [Note(", ".join(settings))] if settings else []


def sweep_blocks(sweeps: Mapping[str, Sweep]) -> list[Block]:
    """Draw F1 over the confidence threshold and precision over recall, one line per model, the best F1 marked."""
    over_confidence, precision_recall, notes = [], [], []
    iou_threshold = 0.5
    for name, sweep in sweeps.items():
        iou_threshold = sweep.iou_threshold
        points, best = sweep.points(), sweep.best()
        with_predictions = [point for point in points if point["tp"] + point["fp"] > 0]  # others have no precision
        label = f"{100 * best['f1']:.2f} at {best['confidence']:g}"
        confidence = [(point["confidence"], point["f1"]) for point in points]
        over_confidence.append(Series(name, confidence, (best["confidence"], best["f1"]), label))
        curve = [(point["recall"], point["precision"]) for point in with_predictions]
        precision_recall.append(Series(name, curve, (best["recall"], best["precision"]), f"best F1 {label}"))
        notes.append(
            f"{name + ': ' if name else ''}best F1 {label} "
            f"(precision {100 * best['precision']:.2f}, recall {100 * best['recall']:.2f})"
        )
    charts = [
        line_chart(
            over_confidence, "F1 over the confidence threshold", "confidence threshold", "F1 in percent", percent="y"
        ),
        line_chart(
            precision_recall, "Precision over recall", "recall in percent", "precision in percent", percent="xy"
        ),
    ]
    return [Charts([Markup(chart) for chart in charts]), Note(f"At IoU {iou_threshold:g}; {'; '.join(notes)}")]


def draw_comparison(
    image: BgrImage, predictions: Sequence[Lane | Points], labels: Sequence[Lane | Points], hits: Sequence[bool | int]
) -> BgrImage:
    """Draw labels (green, wide) and predictions over them into a copy of a (H, W, 3) BGR image.

    `hits[i]` belongs to `predictions[i]`: blue for a hit, red otherwise. Scores are written at the lower end of
    predicted `Lane`s.
    """
    width = max(image.shape[:2]) / 270
    canvas = draw_lanes(image, labels, GREEN, 2.2 * width)
    return draw_lanes(canvas, predictions, [BLUE if hit else RED for hit in hits] or RED, width, scores=True)
