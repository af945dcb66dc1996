"""Formats the results of evaluations as human-readable tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

CATEGORY_LABELS = {"hlight": "dazzle", "noline": "no line", "cross": "crossroad"}  # CULane's short file names


def category_label(name: str) -> str:
    """Return the human-readable name of a category."""
    return CATEGORY_LABELS.get(name, name)


def has_labels(figures: dict[str, Any]) -> bool:
    """Return whether a category has any labelled lane; without one only its false positives are meaningful."""
    return any(row["tp"] + row["fn"] > 0 for row in figures.values())


def result_table(result: dict[str, Any], title: str = "") -> Table:
    """Make a rich table of `EvaluationResult.to_dict()`: F1 in percent per category and IoU threshold, then the total.

    P, R, TP, FP, FN: precision and recall in percent and counts, at IoU 0.5 or else at the first threshold.
    """
    table = Table(title=title or None)
    keys = list(result["total"])
    detail = "0.5" if "0.5" in keys else keys[0]
    table.add_column("category", overflow="fold")  # folders have longer names than figures
    for key in keys:
        table.add_column(f"F1@{float(key) * 100:g}", justify="right", no_wrap=True)
    for name in ("P", "R", "TP", "FP", "FN"):
        table.add_column(f"{name}@{float(detail) * 100:g}", justify="right", no_wrap=True)
    rows = [(category_label(name), figures) for name, figures in result["categories"].items()]
    for label, figures in rows:
        table.add_row(label, *_cells(figures, keys, detail))
    if rows:
        table.add_section()
    table.add_row("total", *_cells(result["total"], keys, detail), style="bold")
    table.caption = f"mF1 {100 * result['mf1']:.2f} over {result['images']} images{missing_predictions_text(result)}"
    return table


def missing_predictions_text(result: Mapping[str, Any]) -> str:
    """Describe how many prediction files were missing, to follow the number of images; empty if none was."""
    missing = result.get("missing_predictions", 0)
    return f", {missing:,} of them without a prediction file" if missing else ""


def comparison_table(results: Mapping[str, dict[str, Any]], title: str = "") -> Table:
    """Make a table with a row per result: F1@50, F1@75, mF1, precision and recall in percent.

    `results`: {name: `EvaluationResult.to_dict()`}.
    """
    table = Table(title=title or None)
    table.add_column("", no_wrap=True)
    for head in COMPARISON_HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    for name, result in results.items():
        table.add_row(name, *comparison_cells(result))
    return table


COMPARISON_HEADS = ("F1@50", "F1@75", "mF1", "precision", "recall")


def comparison_cells(result: dict[str, Any]) -> list[str]:
    """Return a result's cells below `COMPARISON_HEADS`; a dash for an IoU threshold that was not evaluated."""
    total = result["total"]
    ratios = [total.get(key, {}).get("f1") for key in ("0.5", "0.75")]
    ratios += [result["mf1"], *(total.get("0.5", {}).get(name) for name in ("precision", "recall"))]
    return ["-" if ratio is None else f"{100 * ratio:.2f}" for ratio in ratios]


def category_table(results: Mapping[str, dict[str, Any]]) -> Table:
    """Make a table with a column per result, {name: `EvaluationResult.to_dict()`}; rows as in `category_rows`."""
    table = Table()
    table.add_column("F1@50", no_wrap=True)
    for name in results:
        table.add_column(name, justify="right")
    for label, *cells in category_rows(results):
        table.add_row(label, *cells)
    return table


def category_rows(results: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    """List a row per category and for the total: its label, then F1@50 in percent of every result.

    For a category without labelled lanes the cells are false positives, as in CULane's tables.
    """
    first = next(iter(results.values()))
    key = "0.5" if "0.5" in first["total"] else next(iter(first["total"]))
    rows = []
    for name in (*first["categories"], None):
        figures = [result["total"] if name is None else result["categories"][name] for result in results.values()]
        labelled = has_labels(figures[0])
        cells = [f"{100 * row[key]['f1']:.2f}" if labelled else f"{row[key]['fp']:,}" for row in figures]
        label = "total" if name is None else category_label(name)
        rows.append([label if labelled else f"{label}, FP", *cells])
    return rows


ATTRIBUTE_HEADS = ("lanes", "type", "colour", "position", "hidden precision", "hidden recall", "hidden IoU")


def attribute_table(results: Mapping[str, dict[str, Any]]) -> Table:
    """Make a table with a row per result that has `attributes`, {name: `EvaluationResult.to_dict()` and those}."""
    table = Table(title="right attributes of lanes that match a label, in percent", title_justify="left")
    table.add_column("", no_wrap=True)
    for head in ATTRIBUTE_HEADS:
        table.add_column(head, justify="right")
    for row in attribute_rows(results):
        table.add_row(*row)
    return table


def attribute_rows(results: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    """List a row per result that has `attributes`: its name, then the cells below `ATTRIBUTE_HEADS`."""
    rows = []
    for name, result in results.items():
        if "attributes" in result:
            figures = result["attributes"]
            ratios = [figures[key]["right"] for key in ("type", "colour", "position")]
            ratios += [figures["hidden"][key] for key in ("precision", "recall", "iou")]
            cells = ["-" if ratio is None else f"{100 * ratio:.2f}" for ratio in ratios]
            rows.append([name, f"{figures['lanes']:,}", *cells])
    return rows


def _cells(figures: dict[str, Any], keys: list[str], detail: str) -> list[str]:
    row = figures[detail]
    counts = [f"{row[name]}" for name in ("tp", "fp", "fn")]
    if not has_labels(figures):
        return ["-"] * (len(keys) + 2) + counts
    ratios = [f"{100 * row[name]:.2f}" for name in ("precision", "recall")]
    return [f"{100 * figures[key]['f1']:.2f}" for key in keys] + ratios + counts
