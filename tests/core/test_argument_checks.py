"""Arguments of wrong types raise a UserError that names the argument."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clrernetlm import Viewport, init_detector, load_config
from clrernetlm.config import Config
from clrernetlm.core.argument_checks import require_number, require_path, require_sequence, require_size, short_repr
from clrernetlm.core.errors import UserError
from clrernetlm.datasets.check import check_data
from clrernetlm.metrics import lane_ious
from clrernetlm.metrics.evaluator import evaluate
from clrernetlm.metrics.sweep import sweep_confidence
from clrernetlm.synth import generate_dataset

ODD: list[Any] = [None, "x", b"x", [None], {}, object(), 1j, np.zeros((2, 2)), float("nan"), -1]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_odd_arguments_are_one_line_errors_that_name_the_parameter(odd: Any, tmp_path: Path) -> None:
    calls: dict[str, Any] = {
        "viewport.width": lambda: Viewport(width=odd),
        "viewport.top": lambda: Viewport(top=odd),
        "implementation": lambda: lane_ious([], [], implementation=odd),
        "width": lambda: lane_ious([], [], width=odd),
        "image_size": lambda: lane_ious([], [], image_size=odd),
        "thresholds": lambda: evaluate(tmp_path, tmp_path, "list.txt", thresholds=odd),
        "max_lanes": lambda: check_data(tmp_path, max_lanes=odd),
        "size": lambda: generate_dataset(tmp_path / "roads", 1, 0, 0, size=odd),
        "seed": lambda: generate_dataset(tmp_path / "roads", 1, 0, 0, seed=odd),
        "device": lambda: init_detector(Config(), device=odd),
    }
    for name, call in calls.items():
        with pytest.raises(UserError) as error:
            call()
        assert str(error.value).startswith(name.partition(".")[0]), name
        assert len(str(error.value)) < 300


@pytest.mark.parametrize("odd", [None, 5, b"x", ["a"], object(), "a\0b"], ids=lambda odd: type(odd).__name__)
def test_an_argument_that_is_no_path_is_named(odd: Any, tmp_path: Path) -> None:
    calls: dict[str, Any] = {
        "config": lambda: load_config(odd),
        "root": lambda: check_data(odd),
        "pred_dir": lambda: evaluate(odd, tmp_path, "list.txt"),
        "out": lambda: generate_dataset(odd, 1, 0, 0),
    }
    for name, call in calls.items():
        with pytest.raises(UserError) as error:
            call()
        assert str(error.value).startswith(f"{name}: "), name


def test_wrong_items_of_lists_are_named() -> None:
    for odd in (None, 5, "ab", object(), np.float64(3)):
        with pytest.raises(UserError, match=r"^confidences: "):
            sweep_confidence([], confidences=odd)
        with pytest.raises(UserError, match=r"^pred: "):
            lane_ious(odd, [])
        with pytest.raises(UserError, match=r"^overrides: "):
            load_config("clrernet_culane_dla34", odd)


def test_numpy_numbers_are_accepted_as_numbers() -> None:
    require_number(np.float32(0.5), "conf", 0, 1)
    require_size((np.int64(5), 7), "size", 1, 10)
    require_sequence(np.zeros((3, 2)), "points", "points")
    require_path(Path("x"), "out")
    assert Viewport(width=np.int32(64), top=np.float32(0.5)).width == 64  # type: ignore[arg-type]


def test_values_in_messages_are_shortened() -> None:
    assert len(short_repr("x" * 1000)) == 80
    assert short_repr(np.zeros((900, 1600, 3))) == "ndarray of shape (900, 1600, 3)"
    assert short_repr(10**5000) == "a number of thousands of digits"
    assert short_repr((1, 2.5)) == "(1, 2.5)"
    assert len(short_repr([[["x" * 500] * 50] * 50] * 50)) < 1000
