"""Arguments of the package's functions: of wrong types, shapes and ranges."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from clrernetlm import Lane, Predictor, Viewport, init_detector, load_config
from clrernetlm.config import Config
from clrernetlm.datasets.check import check_data
from clrernetlm.metrics import lane_ious
from clrernetlm.metrics.evaluator import evaluate
from clrernetlm.metrics.sweep import sweep_confidence
from clrernetlm.synth import generate_dataset
from tests.fuzz.reading import predictor_of
from tests.fuzz.seeds import SIZE
from tests.helpers.small_detector import small_config

FRAME = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)

# Functions, because some values can be used once only.
ODD: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "0": lambda: 0,
    "-1": lambda: -1,
    "5": lambda: 5,
    "10**30": lambda: 10**30,
    "-(2**63)": lambda: -(2**63),
    "0.5": lambda: 0.5,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "1j": lambda: 1j,
    "''": lambda: "",
    "'0.5'": lambda: "0.5",
    "'x\\0y'": lambda: "x\0y",
    "'lone surrogate'": lambda: "\udcff",
    "b'x'": lambda: b"x",
    "[]": list,
    "()": lambda: (),
    "{}": dict,
    "{'a': 1}": lambda: {"a": 1},
    "{3}": lambda: {3},
    "[1, 2]": lambda: [1, 2],
    "[[1, 2]]": lambda: [[1, 2]],
    "[[[1, 2]]]": lambda: [[[1, 2]]],
    "[[1], [1, 2]]": lambda: [[1], [1, 2]],
    "[None]": lambda: [None],
    "['a']": lambda: ["a"],
    "object()": object,
    "lambda: 0": lambda: lambda: 0,
    "generator": lambda: (frame for frame in [FRAME]),
    "a frame": lambda: FRAME,
    "[a frame]": lambda: [FRAME],
    "a frame of floats": lambda: FRAME.astype(np.float32),
    "a grey frame": lambda: FRAME[..., 0],
    "a frame of four channels": lambda: np.dstack([FRAME, FRAME[..., :1]]),
    "frames in one array": lambda: FRAME[None],
    "a frame without pixels": lambda: FRAME[:0],
    "a frame of one pixel": lambda: FRAME[:1, :1],
    "a frame seen from behind": lambda: FRAME[::-1, ::-1],
    "a frame that is read-only": lambda: np.broadcast_to(FRAME[:1, :1], (50, 60, 3)),
    "a tensor": lambda: torch.zeros(3, 20, 20),
    "an array of objects": lambda: np.array([object()], object),
    "an array of texts": lambda: np.array(["a", "b"]),
    "an array of no axes": lambda: np.array(3),
    "points": lambda: np.array([[160.0, 100.0], [150.0, 80.0]]),
    "points far away": lambda: np.array([[1e300, -1e300], [1e9, 1e9]]),
    "points that are NaN": lambda: np.full((3, 2), np.nan),
    "complex points": lambda: np.ones((3, 2), np.complex128),
    "a path": lambda: Path("nothing"),
    "a folder": lambda: Path(),
    "a Viewport": lambda: Viewport(width=160, height=64),
    "a Viewport of other size": lambda: Viewport(width=64, height=64, top=0.9),
    "a Lane": lambda: Lane(np.zeros((2, 2))),
    "a Config": Config,
    "an error": ValueError,
}


def detector(seeds: Path) -> Predictor:
    """Return a Predictor of a detector, after `set_image`."""
    predictor = predictor_of(str(seeds / "models" / "tiny.safetensors"))
    predictor.set_image(FRAME)
    return predictor


def clicked(seeds: Path) -> Predictor:
    """Return a Predictor of LaneLM, which takes clicks, after `set_image`."""
    predictor = predictor_of(str(seeds / "models" / "lanelm.safetensors"))
    predictor.set_image(FRAME)
    return predictor


def scored(seeds: Path, **options: Any) -> Any:
    """`evaluate` of the seeds' predictions with some arguments of another kind."""
    arguments: dict[str, Any] = {"image_size": SIZE, "width": 8, "workers": 1} | options
    listed = seeds / "data" / "list" / "test.txt"
    return evaluate(seeds / "predictions", seeds / "data", listed, **arguments)


# Each takes the folder of the seeds, a folder to write in, and an odd value.
CALLS: dict[str, Callable[[Path, Path, Any], Any]] = {
    "Predictor(_)": lambda seeds, folder, odd: Predictor(odd),
    "Predictor(checkpoint=_)": lambda seeds, folder, odd: Predictor(checkpoint=odd),
    "Predictor(Config, _)": lambda seeds, folder, odd: Predictor(small_config(folder, folder), odd),
    "Predictor(device=_)": lambda seeds, folder, odd: Predictor(
        checkpoint=seeds / "models" / "tiny.safetensors", device=odd
    ),
    "Predictor(backend=_)": lambda seeds, folder, odd: Predictor(
        checkpoint=seeds / "models" / "tiny.onnx", backend=odd
    ),
    "Predictor(precision=_)": lambda seeds, folder, odd: Predictor(
        checkpoint=seeds / "models" / "tiny.safetensors", precision=odd
    ),
    "set_image(_)": lambda seeds, folder, odd: (detector(seeds).set_image(odd), detector(seeds).lanes()),
    "set_image(frame, _)": lambda seeds, folder, odd: detector(seeds).set_image(FRAME, odd),
    "set_images(_)": lambda seeds, folder, odd: detector(seeds).set_images(odd),
    "set_images([frame, _])": lambda seeds, folder, odd: detector(seeds).set_images([FRAME, odd]),
    "set_images([frame], _)": lambda seeds, folder, odd: detector(seeds).set_images([FRAME], odd),
    "calibrate(_)": lambda seeds, folder, odd: detector(seeds).calibrate(odd),
    "calibrate([_])": lambda seeds, folder, odd: detector(seeds).calibrate([odd]),
    "lanes(_)": lambda seeds, folder, odd: detector(seeds).lanes(odd),
    "LaneLM lanes(_)": lambda seeds, folder, odd: clicked(seeds).lanes(odd),
    "lanes_of_images(_)": lambda seeds, folder, odd: detector(seeds).lanes_of_images(odd),
    "detections(_)": lambda seeds, folder, odd: clicked(seeds).detections(odd),
    "complete(_)": lambda seeds, folder, odd: clicked(seeds).complete(odd),
    "complete of a detector(_)": lambda seeds, folder, odd: detector(seeds).complete(odd),
    "complete_many(_)": lambda seeds, folder, odd: clicked(seeds).complete_many(odd),
    "complete_many([_])": lambda seeds, folder, odd: clicked(seeds).complete_many([[[160, 100]], odd]),
    "complete_many(image=_)": lambda seeds, folder, odd: clicked(seeds).complete_many([[[160, 100]]], image=odd),
    "complete_many(use_detector=_)": lambda seeds, folder, odd: clicked(seeds).complete_many([[[160, 100]]], odd),
    "Viewport(width=_)": lambda seeds, folder, odd: Viewport(width=odd),
    "Viewport(left=_)": lambda seeds, folder, odd: Viewport(left=odd),
    "load_config(_)": lambda seeds, folder, odd: load_config(odd),
    "load_config(name, _)": lambda seeds, folder, odd: load_config("clrernet_culane_dla34", odd),
    "load_config(name, [_])": lambda seeds, folder, odd: load_config("clrernet_culane_dla34", [odd]),
    "init_detector(Config, _)": lambda seeds, folder, odd: init_detector(small_config(folder, folder), odd),
    "init_detector(device=_)": lambda seeds, folder, odd: init_detector(small_config(folder, folder), device=odd),
    "lane_ious(_, [])": lambda seeds, folder, odd: lane_ious(odd, []),
    "lane_ious([_], [points])": lambda seeds, folder, odd: lane_ious([odd], [[[0, 0], [9, 9]]]),
    "lane_ious(implementation=_)": lambda seeds, folder, odd: lane_ious([], [], implementation=odd),
    "lane_ious(width=_)": lambda seeds, folder, odd: lane_ious([], [], width=odd),
    "lane_ious(image_size=_)": lambda seeds, folder, odd: lane_ious([], [], image_size=odd),
    "evaluate(image_size=_)": lambda seeds, folder, odd: scored(seeds, image_size=odd),
    "evaluate(width=_)": lambda seeds, folder, odd: scored(seeds, width=odd),
    "evaluate(thresholds=_)": lambda seeds, folder, odd: scored(seeds, thresholds=odd),
    "evaluate(categories=_)": lambda seeds, folder, odd: scored(seeds, categories=odd),
    "evaluate(per_image=_)": lambda seeds, folder, odd: scored(seeds, per_image=odd),
    "sweep_confidence(confidences=_)": lambda seeds, folder, odd: sweep_confidence([], confidences=odd),
    "check_data(_)": lambda seeds, folder, odd: check_data(odd, contact_sheet=None, workers=1),
    "check_data(lists=_)": lambda seeds, folder, odd: check_data(seeds / "data", odd, contact_sheet=None, workers=1),
    "check_data(max_lanes=_)": lambda seeds, folder, odd: check_data(
        seeds / "data", contact_sheet=None, workers=1, max_lanes=odd
    ),
    "generate_dataset(size=_)": lambda seeds, folder, odd: generate_dataset(folder / "s", 0, 0, 1, size=odd, workers=1),
}


def make_call(rng: Random, seeds: Path, folder: Path) -> None:
    (folder / "call.json").write_text(json.dumps([rng.choice(list(CALLS)), rng.choice(list(ODD))]))


def read_call(seeds: Path, folder: Path) -> None:
    call, odd = json.loads((folder / "call.json").read_text())
    CALLS[call](seeds, folder, ODD[odd]())
