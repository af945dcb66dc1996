"""Runs every benchmark that needs no data: `python benchmarks/run_all.py [--full] [--only NAME...]`.

Runs the scripts of this folder one after the other, with few rounds or, with `--full`, with their own defaults, and
writes docs/BENCHMARKS.md: the machine, then the output of each script. If a script fails, it is named there, the others
run, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from timing import extensions, machine

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.core.overwrite_rules import begins_with, check_output
from clrernetlm.core.worker_pool import available_cores

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "BENCHMARKS.md"
# Script -> title of its section, and its options for a short run.
SCRIPTS: dict[str, tuple[str, list[str]]] = {
    "runtimes": (
        "Image to lanes in every runtime, against the original algorithm",
        ["--processes", "2", "--rounds", "5"],
    ),
    "gpu_row": ("Network, fused and eager", ["--rounds", "5", "--batch", "1"]),
    "head_forward": ("Head, against the original algorithm", ["--rounds", "9"]),
    "lanelm_decode": ("LaneLM's decoding, against recomputing", ["--rounds", "3"]),
    "lanelm_latency": ("What LaneLM adds to its detector", ["--rounds", "5"]),
    "two_processes": ("Training in two processes, against one", ["--steps", "5"]),
    "assign_loss": ("Assignment and loss of a batch, against the original algorithm", ["--rounds", "5"]),
    "training_step": ("A training step, against the original algorithm", ["--rounds", "2", "--batch", "4"]),
    "epoch": ("Where the time of a training epoch goes", ["--images", "24", "--batch", "4"]),
    "evaluator": (
        "CULane's metric, against the original algorithm",
        ["--images", "400", "--plain", "10", "--rounds", "2"],
    ),
    "data_pipeline": ("JPEG to augmented image and targets", ["--images", "16", "--rounds", "3"]),
    "lane_tokens": ("Lanes to tokens and back", ["--lanes", "200", "--repeats", "5"]),
    "synth": ("Road generator", ["--count", "12", "--repeats", "1"]),
}
PACKAGES = ("torch", "numpy", "opencv-python-headless", "onnxruntime", "openvino", "numba", "lightning")


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the benchmarks and write docs/BENCHMARKS.md.")
    parser.add_argument("--full", action="store_true", help="with the default rounds of each script")
    parser.add_argument("--only", nargs="+", choices=list(SCRIPTS), default=list(SCRIPTS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args()
    check_output(options.out, "a page", begins_with("# Benchmarks"), parameter="--out", overwrite=True)
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    parts, failed = [header(options.full, busy)], []
    for name in options.only:
        title, short = SCRIPTS[name]
        arguments = [] if options.full else short
        print(f"{name} ...", flush=True)
        start = time.perf_counter()
        run = subprocess.run(
            [sys.executable, str(HERE / f"{name}.py"), *arguments], capture_output=True, text=True, cwd=HERE.parent
        )
        text = run.stdout.strip()
        if run.returncode:
            failed.append(name)
            text = f"{text}\nfailed: {(run.stderr.strip().splitlines() or ['no message'])[-1]}".strip()
        print(f"{text}\n{time.perf_counter() - start:.0f} s", flush=True)
        parts.append(section(title, " ".join([f"python benchmarks/{name}.py", *arguments]), text))
        options.out.write_text("\n".join(parts), encoding="utf-8")  # finished sections stay if the rest is interrupted
    print(f"{options.out}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def header(full: bool, load: float) -> str:
    """Write the top of the page: how it was made, and a table of the machine. `load`: processes per core, Unix only."""
    rows = {
        "processor": machine(),
        "cores": f"{available_cores()}",
        "fast arithmetic": extensions(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {version_of(name)}" for name in PACKAGES),
        "load at the start": f"{load:.1f} processes",
        "date": date.today().isoformat(),
    }
    lines = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    rounds = "with the default rounds of each script" if full else "with few rounds: ratios are rough"
    return f"""# Benchmarks

Written by `python benchmarks/run_all.py{" --full" if full else ""}`, {rounds}.
Variants that are compared take turns, so ratios hold on a busy machine; milliseconds are those of this machine.
`python benchmarks/gpu_row.py` measures a row on another machine, for instance one with a GPU; it needs a checkout
and PyTorch only.

| | |
|---|---|
{lines}
"""


def section(title: str, command: str, text: str) -> str:
    """Write the section of one script; output that is no table becomes a code block."""
    body = text if text.startswith("|") else f"```\n{text}\n```"
    return f"## {title}\n\n`{command}`\n\n{body}\n"


def version_of(package: str) -> str:
    """Return the version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
