"""Warnings of the package: one line each on the command line, ordinary warnings in Python."""

import warnings

import cv2
import numpy as np
import pytest

from clrernetlm.cli import main, plain_warnings
from clrernetlm.config import load_config
from tests.helpers.drawn_roads import write_drawn_roads

CONFIG = """
from tests.helpers.small_detector import small_config
config = small_config({root!r}, {work!r}, epochs=1, validate_every=0)
config.data.batch_size = 4
"""


def warnings_of(words, capsys):
    """Return a command's lines on standard error, which must be the warnings alone."""
    assert main([str(word) for word in words]) == 0
    error = capsys.readouterr().err
    assert "UserWarning" not in error
    assert ".py:" not in error
    lines = error.replace("\r", "\n").splitlines()
    return [line.partition("clrernetlm: warning: ")[2] for line in lines if "clrernetlm: warning: " in line]


def test_training_and_detection_warn_in_one_line(tmp_path, capsys):
    root, work = write_drawn_roads(tmp_path, 8), tmp_path / "run"
    config = tmp_path / "small.py"
    config.write_text(CONFIG.format(root=str(root), work=str(work)))
    broken = root / "driver_1/clip.MP4/00003.jpg"
    broken.write_bytes(b"no picture")
    (told,) = warnings_of(["train", config], capsys)
    assert told.startswith(f"{broken}: ")
    assert told.endswith("another image takes its place")

    changes = ["--training.epochs=2", "--data.batch-size=2"]
    told = warnings_of(["train", config, "--resume", *changes], capsys)[0]
    checkpoint = work / "checkpoints/epoch_0000.ckpt"
    assert told == (
        f"{checkpoint}: trained with other settings until here: data.batch_size (4 -> 2), training.epochs (1 -> 2)"
    )

    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((90, 90, 3), np.uint8))
    inputs = [tmp_path / "a.png", tmp_path / "b.png", "--out", tmp_path / "lanes", "--device", "cpu"]
    (told,) = warnings_of(["detect", config, checkpoint, *inputs], capsys)
    assert told.startswith("90x90 frames have another shape than the 410x148 ones")


def test_in_python_warnings_are_python_warnings(tmp_path):
    theirs = tmp_path / "theirs.py"
    theirs.write_text("model = dict(type='CLRerNet', odd=1)")
    with pytest.warns(UserWarning, match=r"^theirs\.py: model\.odd: 1 has no counterpart here$"):
        load_config(theirs)


def test_a_custom_warning_handler_is_kept(capsys):
    shown = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = mine = lambda *given: shown.append(str(given[0]))
        with plain_warnings():
            warnings.warn("from a test", stacklevel=1)
        assert warnings.showwarning is mine
    assert shown == ["from a test"]
    assert capsys.readouterr().err == ""
