"""A few kills of `benchmarks/kills.py`, which kills every command hundreds of times."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(sys.platform != "linux", reason="it forks, and finds processes in /proc")
def test_a_command_killed_three_times_leaves_nothing_and_completes(tmp_path):
    words = ["--kills", "3", "--only", "evaluate", "--seed", "1", "--folder", str(tmp_path / "kills")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/kills.py"), *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills" in done.stdout
    assert " 0 faults" in done.stdout
