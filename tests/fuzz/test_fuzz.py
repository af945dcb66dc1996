"""Everything that reads files, arguments or command lines, on hand-made and damaged inputs: no fault of any kind.

A short form of benchmarks/fuzz.py. What counts as a fault is said in `watching.Result`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.auditing import SETTINGS, Auditor, allow, write_settings, write_site
from tests.fuzz.cases import CASES
from tests.fuzz.kinds import KINDS
from tests.fuzz.mutations import damage_bytes, damage_json, damage_text, damage_words
from tests.fuzz.watching import Result

INPUTS = 4  # damaged inputs of every kind
SECONDS = 120  # a machine may be busy; hangs of 10 s are for the benchmark to find
GROUPS = {
    "data": ["lists", "labels", "attributes", "masks", "images", "videos", "npz", "features", "predictions"],
    "models": ["configs", "mmdetection", "checkpoints", "packed", "onnx", "openvino", "pt2", "trusted-pt2"],
    "calls": ["api", "commands", "processes"],
}


def test_every_kind_is_in_a_group() -> None:
    assert sorted(kind for kinds in GROUPS.values() for kind in kinds) == sorted(KINDS)


@pytest.mark.skipif("CLRERNETLM_FUZZ" not in os.environ, reason="takes a minute: CLRERNETLM_FUZZ=1 asks for it")
@pytest.mark.parametrize("group", GROUPS)
def test_no_input_causes_a_fault(group: str, tmp_path: Path) -> None:
    kinds = GROUPS[group]
    command = [sys.executable, "-m", "tests.fuzz", "--short", "--kind", *kinds, "--inputs", str(INPUTS)]
    options = ["--seconds", str(SECONDS), "--kept", str(tmp_path)]
    root = Path(__file__).parents[2]
    ended = subprocess.run([*command, *options], cwd=root, capture_output=True, text=True, check=False)
    results = [Result.from_json(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert len(results) >= INPUTS * len(kinds)
    faults = [f"{result.input.command}: {result.outcome}: {result.message}" for result in results if result.is_fault]
    assert not faults, "\n".join(faults)


def test_damage_depends_on_the_seed_alone() -> None:
    def damaged(seed: int) -> tuple[object, ...]:
        rng = Random(seed)
        return (
            damage_bytes(rng, bytes(range(256)) * 4),
            damage_text(rng, "a = 1\nb = [2, 3]\n"),
            repr(damage_json(rng, {"a": [1, 2], "b": {"c": "d"}})),
            damage_words(rng, ["detect", "a.jpg", "--conf", "0.4"], ["--out"]),
        )

    assert damaged(3) == damaged(3)
    assert damaged(3) != damaged(4)


def test_every_kind_has_cases_but_those_made_of_code() -> None:
    assert {kind for kind, cases in CASES.items() if not cases} <= {"api", "trusted-pt2", "processes"}


def test_local_sockets_and_the_process_itself_are_no_faults(tmp_path: Path) -> None:
    auditor = Auditor(tmp_path, tmp_path / "violations")
    with socket.socket(socket.AF_UNIX) as local, socket.socket() as remote:
        assert auditor.judge("socket.connect", (local, "/tmp/x")) == ""
        assert auditor.judge("socket.connect", (remote, ("192.0.2.1", 80))).startswith("network")
    assert auditor.judge("open", ("/proc/self/clear_refs", "w", 0)) == ""
    assert auditor.judge("open", ("/proc/1/clear_refs", "w", 0)).startswith("outside")


@pytest.mark.skipif(sys.platform != "linux", reason="the system says nothing about it")
def test_a_started_command_is_audited_from_its_first_line_on(tmp_path: Path) -> None:
    auditor = Auditor(tmp_path, tmp_path / "violations")
    allow(auditor, (str(tmp_path / "allowed"),), [], runs=True)
    write_settings(auditor, [], tmp_path / "audit.json")
    write_site(tmp_path)
    code = f"open({str(tmp_path / 'allowed')!r}, 'w'); open({str(tmp_path / 'other')!r}, 'w')"
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    environment = {**os.environ, SETTINGS: str(tmp_path / "audit.json"), "PYTHONPATH": paths}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "PermissionError" in ended.stderr
    assert (tmp_path / "allowed").exists()
    assert not (tmp_path / "other").exists()
    assert (tmp_path / "violations").read_text().startswith("outside open")
