"""The HTML report of an evaluation: one file, readable offline, in light and dark."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import cv2
import numpy as np

from clrernetlm.core.drawing import BLUE, GREEN, RED, Colour, draw_lanes
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike, write_text_atomically
from clrernetlm.core.lane import Lane, Points
from clrernetlm.core.output_files import begins_with
from clrernetlm.core.viewport import Image
from clrernetlm.metrics.frame_scale import describe_canvas
from clrernetlm.metrics.sweep import Sweep
from clrernetlm.reports.charts import Series, line_chart
from clrernetlm.reports.table import category_label, has_labels, missing_words

IMAGE_WIDTH = 800  # pixels of the pictures in the report
JPEG_QUALITY = 80
BEGINNING = '<!doctype html><html lang="en"><head><meta name="generator" content="clrernetlm">'
is_report = begins_with(BEGINNING)
COLOURS = {"label": GREEN, "hit": BLUE, "false": RED}

STYLE = """
:root { --page: #ffffff; --text: #1c2430; --quiet: #5d6b7e; --rule: #dbe1e8; --panel: #f5f7fa;
        --c0: #0b6bcb; --c1: #d9480f; --c2: #2b8a3e; --c3: #9c36b5; --c4: #b08900; --c5: #0c8599; }
@media (prefers-color-scheme: dark) {
  :root { --page: #12161c; --text: #e6eaf0; --quiet: #97a3b4; --rule: #2c3541; --panel: #1a2029;
          --c0: #5aa9ff; --c1: #ff8a5c; --c2: #69d27f; --c3: #d98bf0; --c4: #e6c04a; --c5: #4fd1e0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1060px; padding: 2.5rem 1.25rem 4rem; background: var(--page); color: var(--text);
       font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: clamp(1.25rem, 5vw, 1.7rem); line-height: 1.2; margin: 0 0 1.25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
.headline { display: flex; flex-wrap: wrap; gap: .75rem; margin: 0; padding: 0; list-style: none; }
.headline li { background: var(--panel); border-radius: 10px; padding: .7rem 1.1rem; min-width: 8rem; }
.headline b { display: block; font-size: 1.6rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.headline span, .note, figcaption { color: var(--quiet); font-size: .87rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .7rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { color: var(--quiet); font-weight: 600; font-size: .85rem; }
th:first-child, td:first-child { text-align: left; } tr.total td { font-weight: 700; border-bottom: 0; }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.facts td:first-child { color: var(--quiet); width: 12rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(320px, 100%), 1fr)); gap: 1.25rem; }
.charts figure, .pictures figure { margin: 0; } .chart { width: 100%; height: auto; display: block; }
.chart .grid { stroke: var(--rule); stroke-width: 1; } .chart text { fill: var(--quiet); font-size: 12px; }
.chart text.value { fill: var(--text); font-size: 13px; stroke: var(--page); stroke-width: 4px; paint-order: stroke; }
.chart .series { fill: none; stroke-width: 2.2; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(400px, 100%), 1fr)); gap: 1.25rem; }
.pictures img { width: 100%; height: auto; border-radius: 8px; display: block; }
.pictures.beside { grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); }
.pictures.beside + .note { margin: .2rem 0 1.5rem; overflow-wrap: anywhere; }
figcaption { padding-top: .4rem; overflow-wrap: anywhere; }
.key i { display: inline-block; width: 1.6em; height: .28em; border-radius: 2px; margin: 0 .35em .2em .9em; }
.key i:first-child { margin-left: 0; }
""" + "".join(
    f".chart .series-{i} {{ stroke: var(--c{i}); }} .chart .mark-{i}, .chart text.of-{i} {{ fill: var(--c{i}); }}\n"
    for i in range(6)
)


@dataclass(frozen=True)
class Section:
    """A part of the page: a heading and its HTML, which is taken as it is."""

    heading: str
    html: str


def write_report(
    path: PathLike,
    result: Mapping[str, Any],
    *,
    title: str,
    sweep: Sweep | Mapping[str, Sweep] | None = None,
    images: Sequence[tuple[str, Image]] = (),
    facts: Mapping[str, Any] | None = None,
    sections: Sequence[Section] = (),
) -> None:
    """Write `EvaluationResult.to_dict()` as one self-contained HTML file, atomically.

    `sweep`: one model's confidence sweep, or several by name, drawn into the same charts. `images`: captions and BGR
    pictures (see `draw_comparison`). `facts`: what was run, in the order given. `sections` are added after the charts.
    Raises UserError when the file cannot be written.
    """
    parts = [Section("F1 by category", result_html(result))]
    if sweep is not None:
        sweeps = {"": sweep} if isinstance(sweep, Sweep) else dict(sweep)
        parts.append(Section("Confidence threshold", sweep_html(sweeps)))
    parts.extend(sections)
    if images:
        parts.append(Section("Images", pictures_html(images)))
    if facts:
        parts.append(Section("Run", facts_html(facts)))
    figures = [(f"F1@{float(key) * 100:g}", f"{100 * row['f1']:.2f}") for key, row in result["total"].items()]
    figures += [("mF1", f"{100 * result['mf1']:.2f}"), ("images", f"{result['images']:,}")]
    write_text_atomically(path, page_html(title, headline_html(figures) + sections_html(parts)))


def sections_html(parts: Sequence[Section]) -> str:
    """Parts of a page, one below the other."""
    return "".join(f"<section><h2>{escape(part.heading)}</h2>{part.html}</section>" for part in parts)


def page_html(title: str, body: str) -> str:
    """A whole page around a body."""
    return (
        f'{BEGINNING}<meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><title>{escape(title)}</title><style>{STYLE}</style></head>'
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def headline_html(figures: Sequence[tuple[str, str]]) -> str:
    """The most important figures, large: name, value."""
    items = "".join(f"<li><span>{escape(name)}</span><b>{escape(value)}</b></li>" for name, value in figures)
    return f'<ul class="headline">{items}</ul>'


def table_html(heads: Sequence[str], rows: Sequence[Sequence[str]], total: bool = False) -> str:
    """A table of text cells, numbers to the right of their names; `total` stresses the last row."""
    lines = []
    for number, row in enumerate(rows):
        attributes = ' class="total"' if total and number == len(rows) - 1 else ""
        lines.append(f"<tr{attributes}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>")
    header = "".join(f"<th>{escape(head)}</th>" for head in heads)
    return f'<div class="wide"><table><tr>{header}</tr>{"".join(lines)}</table></div>'


def result_html(result: Mapping[str, Any]) -> str:
    """Table of categories and total: F1 in percent at every threshold, precision, recall and counts at one of them."""
    keys = list(result["total"])
    detail = "0.5" if "0.5" in keys else keys[0]
    percent = f"{float(detail) * 100:g}"
    heads = ["category", *(f"F1@{float(key) * 100:g}" for key in keys)]
    heads += [f"{name}@{percent}" for name in ("precision", "recall", "TP", "FP", "FN")]
    rows = [(category_label(name), figures) for name, figures in result["categories"].items()]
    rows.append(("total", result["total"]))
    lines = []
    for label, figures in rows:
        known = has_labels(figures)
        ratios = [figures[key]["f1"] for key in keys] + [figures[detail][name] for name in ("precision", "recall")]
        cells = [f"{100 * ratio:.2f}" if known else "–" for ratio in ratios]
        cells += [f"{figures[detail][name]:,}" for name in ("tp", "fp", "fn")]
        lines.append([label, *cells])
    return table_html(heads, lines, total=True) + metric_html(result)


def metric_html(result: Mapping[str, Any]) -> str:
    """How the figures of an evaluation were measured."""
    settings = [f"{result['semantics']} reading"] if "semantics" in result else []
    if missing_words(result):
        settings.append(f"{result['images']:,} images{missing_words(result)}")
    if "width" in result and "image_size" in result:
        settings.append(f"lanes drawn {result['width']} px wide at {describe_canvas(result['image_size'])}")
    return f'<p class="note">{escape(", ".join(settings))}</p>' if settings else ""


def sweep_html(sweeps: Mapping[str, Sweep]) -> str:
    """F1 over the confidence threshold and the precision-recall curve, a line per model, the best F1 marked."""
    over_confidence, precision_recall, notes = [], [], []
    iou_threshold = 0.5
    for name, sweep in sweeps.items():
        iou_threshold = sweep.iou_threshold
        points, best = sweep.points(), sweep.best()
        drawn = [point for point in points if point["tp"] + point["fp"] > 0]  # no predictions: no precision
        label = f"{100 * best['f1']:.2f} at {best['confidence']:g}"
        confidence = [(point["confidence"], point["f1"]) for point in points]
        over_confidence.append(Series(name, confidence, (best["confidence"], best["f1"]), label))
        curve = [(point["recall"], point["precision"]) for point in drawn]
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
    figures = "".join(f"<figure>{chart}</figure>" for chart in charts)
    note = f"At IoU {iou_threshold:g}; {'; '.join(notes)}"
    return f'<div class="charts">{figures}</div><p class="note">{escape(note)}</p>'


def pictures_html(images: Sequence[tuple[str, Image]]) -> str:
    """Pictures with captions, as JPEG inside the page."""
    return f'{key_html(COLOURS)}<div class="pictures">{"".join(figure_html(*figure) for figure in images)}</div>'


def figure_html(caption: str, image: Image) -> str:
    """One picture with its caption."""
    return (
        f'<figure><img loading="lazy" alt="{escape(caption, quote=True)}" src="{_data_url(image)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def key_html(colours: Mapping[str, Colour]) -> str:
    """What the colours of the pictures mean."""
    key = "".join(
        f'<i style="background: rgb({red}, {green}, {blue})"></i>{name}' for name, (blue, green, red) in colours.items()
    )
    return f'<p class="note key">{key}</p>'


def facts_html(facts: Mapping[str, Any]) -> str:
    """A table of two columns."""
    rows = "".join(
        f"<tr><td>{escape(str(name))}</td><td>{escape(str(value))}</td></tr>" for name, value in facts.items()
    )
    return f'<table class="facts">{rows}</table>'


def draw_comparison(
    image: Image, predictions: Sequence[Lane | Points], labels: Sequence[Lane | Points], hits: Sequence[bool | int]
) -> Image:
    """(H, W, 3) BGR -> a copy with labels (green, wide) and predictions over them: blue where they hit, red else.

    `hits[i]` belongs to `predictions[i]`; scores are written at the lower end of predicted `Lane`s.
    """
    width = max(image.shape[:2]) / 270
    canvas = draw_lanes(image, labels, GREEN, 2.2 * width)
    return draw_lanes(canvas, predictions, [BLUE if hit else RED for hit in hits] or RED, width, scores=True)


def _data_url(image: Image) -> str:
    height, width = image.shape[:2]
    if width > IMAGE_WIDTH:
        size = (IMAGE_WIDTH, max(1, round(height * IMAGE_WIDTH / width)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    written, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not written:
        raise UserError("report: a picture cannot be written as JPEG; expected a (height, width, 3) uint8 image")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
