"""A few kills of `benchmarks/kills.py`, which kills every command hundreds of times."""

import runpy
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import ForkedProcess

ROOT = Path(__file__).parents[2]


def kill(*words):
    """Run `benchmarks/kills.py` with command-line arguments."""
    sys.argv = ["kills.py", *words]
    sys.path.insert(0, str(ROOT / "benchmarks"))
    runpy.run_path(str(ROOT / "benchmarks/kills.py"), run_name="__main__")


@pytest.mark.skipif(sys.platform != "linux", reason="it forks, and finds processes in /proc")
def test_a_command_killed_three_times_leaves_nothing_and_completes(tmp_path):
    words = ["--kills", "3", "--only", "evaluate", "--seed", "1", "--folder", str(tmp_path / "kills")]
    said = ForkedProcess(kill, *words, output_file=tmp_path / "said.txt").finish()
    assert "3 kills" in said
    assert " 0 faults" in said
