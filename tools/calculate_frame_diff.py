"""Write `list/train_diffs.npz` of a data set: `python tools/calculate_frame_diff.py dataset/culane`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.core.overwrite_rules import ReadFiles, check_output
from clrernetlm.core.progress import progress_display
from clrernetlm.datasets.frame_difference import frame_differences, is_own_differences, write_differences


def main(arguments: list[str] | None = None) -> int:
    """Run the tool; returns the exit code, as `clrernetlm` does."""
    parser = argparse.ArgumentParser(
        description="Compare every training image with the frame before it, and write the differences."
    )
    parser.add_argument("root", type=Path, help="folder of the data set")
    parser.add_argument("--list", default="list/train_gt.txt", help="image list, relative to ROOT (%(default)s)")
    parser.add_argument("--out", default="list/train_diffs.npz", help="file to write, relative to ROOT (%(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one per core")
    parser.add_argument("--overwrite", action="store_true", help="replace what this tool has written before")
    options = parser.parse_args(arguments)
    target = options.root / options.out
    columns = (TextColumn("comparing frames"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())

    def run() -> None:
        kind = "frame differences of this tool"
        reads = ReadFiles([options.root / options.list])
        check_output(target, kind, is_own_differences, parameter="--out", overwrite=options.overwrite, reads=reads)
        with progress_display(*columns) as bar:
            task = bar.add_task("", total=None)
            differences = frame_differences(
                options.root,
                options.list,
                workers=options.workers,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        write_differences(target, differences)
        similar = int((differences < 15).sum())
        print(f"{target}: {len(differences)} images, {similar} differ by less than 15 (left out)")

    return exit_code_of(run)


if __name__ == "__main__":
    sys.exit(main())
