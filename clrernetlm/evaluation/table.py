"""The result of an evaluation as a table for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table

CATEGORY_LABELS = {"hlight": "dazzle", "noline": "no line", "cross": "crossroad"}  # CULane's short file names


def category_label(name: str) -> str:
    """A category's name for people."""
    return CATEGORY_LABELS.get(name, name)


def has_labels(figures: dict[str, Any]) -> bool:
    """Whether a category has any labelled lane; without one only false positives mean something."""
    return any(row["tp"] + row["fn"] > 0 for row in figures.values())


def result_table(result: dict[str, Any], title: str = "") -> Table:
    """A rich table of `EvaluationResult.to_dict()`: F1 in percent per category and IoU threshold, then the total.

    P, R, TP, FP, FN: precision, recall and counts at IoU 0.5, or at the first threshold when that is not among them.
    """
    table = Table(title=title or None)
    keys = list(result["total"])
    detail = "0.5" if "0.5" in keys else keys[0]
    table.add_column("category", no_wrap=True)
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
    table.caption = f"mF1 {100 * result['mf1']:.2f} over {result['images']} images"
    return table


def _cells(figures: dict[str, Any], keys: list[str], detail: str) -> list[str]:
    row = figures[detail]
    counts = [f"{row[name]}" for name in ("tp", "fp", "fn")]
    if not has_labels(figures):
        return ["-"] * (len(keys) + 2) + counts
    ratios = [f"{100 * row[name]:.2f}" for name in ("precision", "recall")]
    return [f"{100 * figures[key]['f1']:.2f}" for key in keys] + ratios + counts
