"""Arguments that do not fit the annotations of a function raise a UserError that names the argument."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clrernetlm import CLRerNet, Lane, Predictor, UserError, init_detector
from clrernetlm.config import Config
from clrernetlm.core.argument_checks import Fraction, check_arguments
from clrernetlm.core.files import PathLike
from clrernetlm.datasets import Compose, CulaneDataset, build_dataset, collate
from clrernetlm.deploy.export import export_model
from clrernetlm.deploy.runtimes import open_runtime
from clrernetlm.metrics import evaluate, match_lanes
from clrernetlm.models import lanelm
from clrernetlm.weights.build_models import save_lanelm
from clrernetlm.weights.pack import pack_weights
from clrernetlm.weights.registry import weights_path
from tests.helpers.small_lanelm import random_lanelm_detector, small_lanelm_config

FRAME = np.full((148, 410, 3), 90, np.uint8)


@check_arguments
def function(
    count: int = 0,
    share: Fraction | None = None,
    name: str = "",
    path: PathLike | None = None,
    flag: bool = False,
    kind: Literal["a", "b"] = "a",
    size: tuple[int, int] = (1, 1),
    weights: Sequence[float] = (),
    config: Config | None = None,
) -> tuple[Any, ...]:
    return count, share, name, path, flag, kind, size, weights, config


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**63),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.binary(),
    st.lists(st.one_of(st.integers(), st.floats(), st.text(), st.none())),
    st.dictionaries(st.text(), st.integers()),
    st.sampled_from(
        [np.int64(3), np.float32(0.5), np.bool_(True), np.zeros((2, 2)), np.array(3), object(), torch.zeros(2), Config]
    ),
)


ARGUMENTS = ["count", "share", "name", "path", "flag", "kind", "size", "weights", "config"]


@given(name=st.sampled_from(ARGUMENTS), value=ANYTHING)
def test_any_value_is_accepted_or_refused_by_its_parameter_name(name: str, value: object) -> None:
    message = f"{name}: "
    try:
        function(**{name: value})  # type: ignore[arg-type]
    except UserError as error:
        message = str(error)
    assert message.startswith(f"{name}: ")
    assert message.isprintable()
    assert len(message) < 200


def test_numpy_scalars_are_numbers() -> None:
    found = function(np.int64(3), np.float32(0.5), flag=np.bool_(True), size=[np.int32(4), 5], weights=np.ones(2))  # type: ignore[arg-type]
    assert found[:2] == (3, 0.5)
    assert [type(value) for value in (*found[:2], found[4], *found[6])] == [int, float, bool, int, int]
    assert found[7] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": "0"}, "count: '0' is not an int"),
        ({"count": True}, "count: True is not an int"),
        ({"count": 2.0}, "count: 2.0 is not an int"),
        ({"count": 10**5000}, "count: a number of thousands of digits is not an int"),
        ({"share": "0.5"}, "share: '0.5' is not a number from 0 to 1 or None"),
        ({"share": 2}, "share: 2 is not a number from 0 to 1 or None"),
        ({"share": float("nan")}, "share: nan is not a number from 0 to 1 or None"),
        ({"share": np.zeros((2, 3))}, "share: ndarray of shape (2, 3) is not a number from 0 to 1 or None"),
        ({"path": 5}, "path: 5 is not a path or None"),
        ({"path": "a\0b"}, r"path: 'a\x00b' is not a path or None"),
        ({"path": ""}, "path: '' is not a path or None"),
        ({"kind": "c"}, "kind: 'c' is unknown; use one of a, b"),
        ({"size": (1, 2, 3)}, "size: (1, 2, 3) is not 2 ints"),
        ({"weights": "12"}, "weights: '12' is not a list of numbers"),
        ({"config": Config}, "config: the class Config is not a Config or None"),
    ],
)
def test_errors_describe_the_expected_type(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        function(**arguments)
    assert str(refused.value) == message


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("weights")
    config = small_lanelm_config(folder, folder, folder)
    save_lanelm(random_lanelm_detector(config), folder / "lanelm.pth")
    predictor = Predictor(config, folder / "lanelm.pth")
    predictor.set_image(FRAME)
    return predictor


CALLS: list[tuple[str, Callable[[Predictor], object]]] = [
    ("images", lambda one: one.set_images(5)),
    ("images", lambda one: one.set_images(FRAME[None])),
    ("images", lambda one: one.set_images(frame for frame in [FRAME])),
    ("images", lambda one: one.set_images("road.jpg")),
    ("images", lambda one: one.set_images([])),
    ("images", lambda one: one.detect_many(None)),
    ("images", lambda one: one.calibrate(FRAME)),
    ("image", lambda one: one.set_image(torch.zeros(148, 410, 3, dtype=torch.uint8))),
    ("image", lambda one: one.set_image(FRAME.astype(np.float32))),
    ("image", lambda one: one.set_image(FRAME.astype(object))),
    ("image", lambda one: one.detect(FRAME[:0])),
    ("image", lambda one: one.detect("road.jpg")),
    ("viewport", lambda one: one.detect(FRAME, (0, 0, 1, 1))),
    ("conf", lambda one: one.detect(FRAME, conf="0.5")),
    ("conf", lambda one: one.lanes(2)),
    ("conf", lambda one: one.lanes(float("nan"))),
    ("conf", lambda one: one.lanes(True)),
    ("conf", lambda one: one.detections_of_images(-0.1)),
    ("clicks", lambda one: one.complete_many(None)),
    ("clicks", lambda one: one.complete_many(point for point in [[[1, 2]]])),
    ("points", lambda one: one.complete(None)),
    ("points", lambda one: one.complete([["200", "120"]])),
    ("points", lambda one: one.complete(np.ones((2, 2), complex))),
    ("use_detector", lambda one: one.complete([[200, 120]], use_detector="no")),
    ("image", lambda one: one.complete_many([[[200, 120]]], image="0")),
    ("image", lambda one: one.complete_many([[[200, 120]]], image=1.5)),
    ("image", lambda one: one.complete_many([[[200, 120]]], image=10**30)),
    ("config", lambda _: Predictor(5)),
    ("checkpoint", lambda _: Predictor(Config(), 5)),
    ("device", lambda _: Predictor(Config(), "random", 0)),
    ("precision", lambda _: Predictor(Config(), "random", precision=16)),
    ("backend", lambda _: Predictor(Config(), "random", backend="tensorrt")),
    ("compiled", lambda _: Predictor(Config(), "random", compiled="yes")),
    ("device", lambda _: init_detector(Config(), "random", 0)),
    ("config", lambda _: init_detector({"a": 1})),
    ("y", lambda _: Lane(np.array([[0.0, 1.0], [1.0, 0.0]])).x_at("a")),
    ("margin", lambda _: Lane(np.array([[0.0, 1.0], [1.0, 0.0]])).x_at(np.ones(1), margin="a")),
    ("points", lambda _: Lane(5).x_at(np.ones(1))),
    ("to", lambda _: export_model(Config(), "random", "tensorrt")),
    ("calibration", lambda _: export_model(Config(), "random", calibration=5)),
    ("out", lambda _: pack_weights("a.ckpt", 5)),
]


@pytest.mark.parametrize(("name", "call"), CALLS, ids=[f"{i}-{name}" for i, (name, _) in enumerate(CALLS)])
def test_errors_of_every_function_name_the_parameter(name: str, call: Any, predictor: Predictor) -> None:
    with pytest.raises(UserError) as refused:
        call(predictor)
    assert str(refused.value).startswith(f"{name}: ")
    assert "\n" not in str(refused.value)


def test_images_may_be_read_only_or_reversed_views(predictor: Predictor) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, FRAME.shape, np.uint8)
    expected = [lane.score for lane in predictor.detect(image[::-1, ::-1].copy(), conf=0)]
    image.setflags(write=False)
    assert [lane.score for lane in predictor.detect(image[::-1, ::-1], conf=0)] == expected


def test_numpy_numbers_and_path_objects_are_accepted(predictor: Predictor) -> None:
    assert len(predictor.detect(FRAME, conf=np.float32(0.0))) == len(predictor.detect(FRAME, conf=0))
    assert predictor.complete_many(np.array([[[200, 120]]]), image=np.int64(0))


@pytest.mark.parametrize(
    "wrong",
    [None, 5, -1, b"x", float("nan"), {}, [None], np.zeros(()), object()],
    ids=["None", "5", "-1", "bytes", "nan", "dict", "list", "array", "object"],  # the same in every test process
)
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("config", CLRerNet),
        ("root", lambda wrong: CulaneDataset(wrong, "list.txt", Compose([]))),
        ("list_file", lambda wrong: CulaneDataset("here", wrong, Compose([]))),
        ("pipeline", lambda wrong: CulaneDataset("here", "list.txt", wrong)),
        ("config", lambda wrong: build_dataset(wrong, "train")),
        ("split", lambda wrong: build_dataset(Config(), wrong)),
        ("transforms", lambda wrong: Compose([wrong])),
        ("samples", collate),
        ("samples", lambda wrong: collate([wrong])),
        ("ious", match_lanes),
        ("name_or_file", weights_path),
        ("path", open_runtime),
        ("img_w", lambda wrong: lanelm.LaneTokenizerConfig(0 if wrong == 5 else wrong)),
        ("config", lambda wrong: lanelm.LaneTokenizer(wrong or 0)),
        ("nbins_x", lambda wrong: lanelm.LaneLMModel(0 if wrong == 5 else wrong)),
        ("embed_dim", lambda wrong: lanelm.LaneLMDecoder(0 if wrong == 5 else wrong, 1, 1, 1)),
        ("num_heads", lambda wrong: lanelm.LaneLMDecoderLayer(8, 0 if wrong == 5 else wrong, 1)),
        ("logits_x", lambda wrong: lanelm.lane_lm_loss(wrong, *[torch.zeros(1)] * 3)),
    ],
)
def test_every_public_function_names_a_wrong_argument(name, call, wrong):
    with pytest.raises(UserError, match=rf"^{name}: ") as error:
        call(wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["pred_dir", "gt_dir", "list_file", "per_image", "categories"])
def test_an_empty_text_is_no_path(name):
    with pytest.raises(UserError, match=f"^{name}: '' is not a path"):
        evaluate(**{"pred_dir": "a", "gt_dir": "b", "list_file": "c", name: ""})


def test_lists_of_long_items_are_shown_shortened():
    with pytest.raises(UserError, match=r"^count: \[.*\.\.\. is not an int$") as error:
        function(["\x1f\U00018cd6" * 8] * 9)
    assert len(str(error.value)) < 200
