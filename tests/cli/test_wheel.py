import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGS = {path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").rglob("*.py")}


WEIGHTS = {path.name for path in (ROOT / "clrernetlm" / "weights").glob("*.safetensors")}


def test_an_installed_wheel_finds_the_configs_and_weights(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, check=True, capture_output=True, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert {
        name.removeprefix("clrernetlm/configs/") for name in names if name.startswith("clrernetlm/configs/")
    } == CONFIGS
    assert {Path(name).name for name in names if name.endswith(".safetensors")} == WEIGHTS
    assert "clrernetlm/weights/MODELS.md" in names
    assert "clrernetlm/py.typed" in names
    assert not any(name.startswith(("tests/", "tools/", "configs/")) for name in names)
    done = subprocess.run(
        [sys.executable, "-m", "clrernetlm", "config", "clrernet_culane_dla34_ema"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
    )
    assert done.returncode == 0, done.stderr
    assert "training.epochs = 50" in done.stdout
