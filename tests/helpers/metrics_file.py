"""Reads the losses and scores that a training logs."""

import csv
from pathlib import Path


def logged(work_dir: Path, column: str) -> list[float]:
    """Return the values of a column of `metrics.csv`, in order."""
    with open(work_dir / "metrics.csv", newline="") as lines:
        return [float(row[column]) for row in csv.DictReader(lines) if row.get(column)]
