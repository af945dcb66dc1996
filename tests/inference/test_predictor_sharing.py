"""One Predictor used, made and copied by several threads and processes: each gets the lanes of its own image."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from clrernetlm import Predictor, UserError, Viewport
from clrernetlm.config import Config
from clrernetlm.core.lane import Lane
from clrernetlm.weights.build_models import save_lanelm
from tests.helpers.drawn_roads import write_drawn_roads
from tests.helpers.small_lanelm import random_lanelm_detector, small_lanelm_config

THREADS, CALLS = 8, 40


@pytest.fixture(scope="module", autouse=True)
def one_thread_each() -> object:
    """Compute on one thread each: threads that start threads would oversubscribe the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """Save a small LaneLM of random weights that finds lanes of every length."""
    folder = tmp_path_factory.mktemp("saved")
    config = small_lanelm_config(folder, folder, folder)
    config.model.decode.conf_threshold, config.lanelm.decode.lane_threshold = 0.2, 0.0
    model = random_lanelm_detector(config)
    with torch.no_grad():
        model.lanelm.head.proj_y.bias[-1] -= 6  # lanes end late
    save_lanelm(model, folder / "lanelm.pth")
    return config, folder / "lanelm.pth"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    root = write_drawn_roads(tmp_path_factory.mktemp("roads"), 10)
    return [cv2.imread(str(path)) for path in sorted(root.glob("driver_1/*/*.jpg"))]


def made(saved: tuple[Config, Path], task: str = "lanelm", **arguments: object) -> Predictor:
    config = copy.deepcopy(saved[0])
    config.task = task  # type: ignore[assignment]
    return Predictor(config, saved[1], **arguments)  # type: ignore[arg-type]


def values(lanes: list[Lane]) -> list[tuple[float, bytes]]:
    return [(lane.score, lane.points.tobytes()) for lane in lanes]


def test_detect_equals_set_image_and_lanes_and_keeps_no_state(saved, images) -> None:
    predictor = made(saved)
    predictor.set_image(images[0])
    first = values(predictor.lanes())
    assert first
    assert values(predictor.detect(images[0])) == first
    many = predictor.detect_many(images[:2], conf=0.1)
    assert [len(lanes) for lanes in many] == [len(predictor.detect(image, conf=0.1)) for image in images[:2]]
    view = Viewport(*saved[0].model.viewport.size, top=0.3)
    other = values(predictor.detect(images[1], view))
    assert values(predictor.lanes()) == first
    predictor.set_image(images[1], view)
    assert values(predictor.lanes()) == other != first


@pytest.mark.parametrize("task", ["clrernet", "lanelm"])
def test_threads_get_the_lanes_of_their_own_image(saved, images, task: str) -> None:
    predictor = made(saved, task)
    expected = [values(predictor.detect(image)) for image in images]
    assert len({str(lanes) for lanes in expected}) == len(images)
    order = [number % len(images) for number in range(CALLS)]
    random.Random(0).shuffle(order)
    start = threading.Barrier(THREADS)

    def ask(thread: int) -> list[tuple[int, list[tuple[float, bytes]]]]:
        start.wait(60)
        found = []
        for number in order[thread::THREADS]:
            if thread % 2:
                found.append((number, values(predictor.detect(images[number]))))
            else:
                predictor.set_image(images[number])
                found.append((number, values(predictor.lanes())))
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        answers = [answer for found in pool.map(ask, range(THREADS)) for answer in found]
    assert len(answers) == CALLS
    assert [number for number, lanes in answers if lanes != expected[number]] == []


def test_threads_share_runtimes_and_their_export(saved, images) -> None:
    """Predictors that export are made in parallel, while another thread runs the network in PyTorch."""
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    pytest.importorskip("openvino", reason="the extra `export` is not installed")
    pytorch = made(saved, "clrernet")
    plain = [values(pytorch.detect(image)) for image in images]
    done = threading.Event()

    def go_on() -> bool:
        same = True
        while not done.is_set():
            same &= [values(pytorch.detect(image)) for image in images] == plain
        return same

    with ThreadPoolExecutor(3) as pool:
        other = pool.submit(go_on)
        try:
            predictors = list(pool.map(lambda _: made(saved, "clrernet", backend="onnxruntime"), range(2)))
        finally:
            done.set()
        assert other.result()
    exported = next(saved[1].with_name(f"{saved[1].name}.exported").glob("*.onnx"))
    predictors.append(Predictor(checkpoint=exported, backend="openvino"))
    with ThreadPoolExecutor(THREADS) as pool:
        for predictor in predictors:
            expected = [values(predictor.detect(image)) for image in images]
            assert any(expected)
            assert list(pool.map(lambda image, it=predictor: values(it.detect(image)), images * 2)) == expected * 2


def test_predictors_are_made_in_parallel(saved, images) -> None:
    expected = values(made(saved).detect(images[0]))
    start = threading.Barrier(THREADS)

    def make(_: int) -> list[tuple[float, bytes]]:
        start.wait(60)
        return values(made(saved).detect(images[0]))

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(make, range(THREADS))) == [expected] * THREADS


def test_an_image_belongs_to_the_thread_that_gave_it(saved, images) -> None:
    predictor = made(saved)
    predictor.set_image(images[0])
    with ThreadPoolExecutor(1) as pool:
        for ask in (predictor.lanes, predictor.detections, lambda: predictor.complete([[200.0, 120.0]])):
            with pytest.raises(UserError, match=r"^predictor: no image yet in this thread; call set_image"):
                pool.submit(ask).result()
        assert pool.submit(lambda: predictor.viewports).result() == []
    assert predictor.lanes()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_find_the_same_lanes(saved, images, copied) -> None:
    predictor = made(saved)
    assert values(copied(predictor).detect(images[0])) == values(predictor.detect(images[0]))
    predictor.set_images(images[:2])
    predictor.config.model.decode.conf_threshold = 0.3  # settings changed later are copied too
    other = copied(predictor)
    assert [values(lanes) for lanes in other.detections_of_images()] == [
        values(lanes) for lanes in predictor.detections_of_images()
    ]
    assert [values(lanes) for lanes in other.lanes_of_images()] == [
        values(lanes) for lanes in predictor.lanes_of_images()
    ]
    clicks = [[[200.0, 120.0]]]
    assert values(other.complete_many(clicks, image=1)) == values(predictor.complete_many(clicks, image=1))
    other.set_image(images[2])
    assert len(predictor.viewports) == 2


def test_a_pickled_predictor_requires_the_same_weights_file(saved, images, tmp_path: Path, monkeypatch) -> None:
    moved = tmp_path / "lanelm.pth"
    moved.write_bytes(saved[1].read_bytes())
    monkeypatch.chdir(tmp_path)
    predictor = Predictor(saved[0], "lanelm.pth")
    text = pickle.dumps(predictor)
    monkeypatch.chdir("/")
    assert values(pickle.loads(text).detect(images[0])) == values(predictor.detect(images[0]))
    moved.write_bytes(saved[1].read_bytes() + b" ")
    with pytest.raises(UserError, match=r"lanelm\.pth: not the file that the pickled predictor is of"):
        pickle.loads(text)
    with pytest.raises(UserError, match=r"lanelm\.pth: changed since this predictor was made"):
        pickle.dumps(predictor)
    assert values(copy.deepcopy(predictor).detect(images[0])) == values(predictor.detect(images[0]))


def found_in_child(predictor: Predictor, image: np.ndarray) -> tuple[list[tuple[float, bytes]], ...]:
    return values(predictor.detect(image)), values(predictor.lanes())


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_processes_of_every_kind_find_the_same_lanes(saved, images, method: str) -> None:
    torch.set_num_threads(2)  # a forked child would wait for the second one for ever
    try:
        predictor = made(saved)
        predictor.set_image(images[1])
        with multiprocessing.get_context(method).Pool(1) as pool:
            found = pool.apply_async(found_in_child, (predictor, images[0])).get(timeout=120)
        assert found == (values(predictor.detect(images[0])), values(predictor.lanes()))
    finally:
        torch.set_num_threads(1)


def test_a_forked_child_that_inherits_a_predictor_can_use_and_make_one(saved, images) -> None:
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system does not fork")
    torch.set_num_threads(2)
    try:
        predictor = made(saved)
        expected = values(predictor.detect(images[0]))
        context = multiprocessing.get_context("fork")
        results = context.Queue()

        def child() -> None:
            results.put((values(predictor.detect(images[0])), values(made(saved).detect(images[0]))))

        process = context.Process(target=child, daemon=True)
        process.start()
        try:
            assert results.get(timeout=60) == (expected, expected)
        finally:
            process.kill()
    finally:
        torch.set_num_threads(1)


def test_settings_survive_a_pickle(saved) -> None:
    for config in (Config(), saved[0]):
        assert pickle.loads(pickle.dumps(config)) == config == copy.deepcopy(config)
