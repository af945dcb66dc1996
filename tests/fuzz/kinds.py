"""Kinds of fuzzed inputs: how a valid one is damaged, and all functions of the package that read it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np

from clrernetlm.cli.token_text import print_tokens
from clrernetlm.config import load_config
from clrernetlm.config.serialization import flatten
from clrernetlm.core.errors import UserError
from clrernetlm.core.fast_lane_reader import read_lane_points
from clrernetlm.core.image_headers import image_size
from clrernetlm.core.image_list import read_image_list, read_images
from clrernetlm.core.images import ThreadLocalBuffers, read_frame, read_image
from clrernetlm.core.lane_attribute_files import format_attributes, read_attributes, read_labelled_lanes
from clrernetlm.core.lane_attributes import HiddenRange, LaneAttributes
from clrernetlm.core.lane_files import read_lines
from clrernetlm.core.sources import find_inputs
from clrernetlm.core.video import Video
from clrernetlm.core.viewport import Viewport
from clrernetlm.datasets import PackCLRNetInputs, PackLaneLMInputs
from clrernetlm.datasets.alaug import Alaug
from clrernetlm.datasets.check import check_data
from clrernetlm.datasets.culane import CulaneDataset, read_labels
from clrernetlm.datasets.frame_difference import load_differences
from clrernetlm.datasets.masks import read_mask
from clrernetlm.datasets.transforms import Compose
from clrernetlm.deploy.export.quantisation import calibration_inputs
from clrernetlm.deploy.runtimes.open_runtime import open_runtime
from clrernetlm.inference.predictor import Predictor
from clrernetlm.metrics.categories import read_categories
from clrernetlm.metrics.evaluator import evaluate
from clrernetlm.metrics.prediction_files import read_predictions
from clrernetlm.metrics.sweep import scored_ious, sweep_confidence
from clrernetlm.reports.worst_images import image_rows, mistake_pictures
from clrernetlm.training.feature_cache import FILES, FeatureCache, find_damage
from clrernetlm.weights.checkpoint import read_checkpoint
from clrernetlm.weights.exported_metadata import read_metadata
from clrernetlm.weights.resolve import find_model
from clrernetlm.weights.safetensors_file import KEY, read_settings
from tests.fuzz.calls import make_call, read_call
from tests.fuzz.command_lines import make_command, read_command, read_process
from tests.fuzz.mutations import (
    NUMBERS,
    damage_archive,
    damage_bytes,
    damage_json,
    damage_safetensors,
    damage_text,
    encode_text,
)
from tests.fuzz.reading import each, predictor_of
from tests.fuzz.seeds import IMAGE_SUFFIXES, SIZE, VIDEO_SUFFIXES, content, metadata_of_xml, pick
from tests.helpers.small_detector import small_config

FRAMES_READ = 20  # of a video
VIEWPORT = Viewport(width=160, height=64, top=0.45)


@dataclass(frozen=True)
class Kind:
    """`make(rng, seeds, folder)` writes a damaged input into `folder`; `read(seeds, folder)` hands it to all readers.

    `read` raises UserError when a reader refuses it. `writes` says whether reading may write into `folder` itself, not
    only into its `out`. `runs` says that the input is code that runs by design.
    """

    name: str
    make: Callable[[Random, Path, Path], None]
    read: Callable[[Path, Path], None]
    writes: bool = False
    runs: bool = False
    start: float = 0.0


def text_of(path: Path) -> str:
    return content(path).decode()


def link_data(seeds: Path, folder: Path, *names: str) -> Path:
    """The root of a data set in `folder` of which `names` are those of the seeds."""
    root = folder / "data"
    root.mkdir(exist_ok=True)
    for name in names:
        (root / name).symlink_to(seeds / "data" / name)
    return root


# --- lists


def make_list(rng: Random, seeds: Path, folder: Path) -> None:
    root = link_data(seeds, folder, "driver_1", "laneseg")
    (root / "list").mkdir()
    lists = [text_of(seeds / "data" / "list" / name) for name in ("train_gt.txt", "test.txt", "val.txt")]
    (root / "list" / "list.txt").write_bytes(encode_text(rng, damage_text(rng, rng.choice(lists), lists)))


def read_list(seeds: Path, folder: Path) -> None:
    root = folder / "data"
    path = root / "list" / "list.txt"
    each(
        lambda: read_image_list(path),
        lambda: read_image_list(path, []),
        lambda: list(read_images(path)),
        lambda: read_categories(path.parent),
        lambda: calibration_inputs(str(path), VIEWPORT),
        lambda: dataset_of(root),
        lambda: check(root, folder, "list/list.txt"),
        lambda: evaluate(seeds / "predictions", root, path, image_size=SIZE, width=8, workers=1),
    )


def dataset_of(root: Path, packed: str = "clrnet", masks: bool = True) -> CulaneDataset:
    """Training items of `list/list.txt`."""
    alaug = Alaug(small_config(root, root).data.augmentation, VIEWPORT)
    pack: Any = PackCLRNetInputs(4, 160, 64, 72) if packed == "clrnet" else PackLaneLMInputs(4, 16, 160, 64, 80)
    dataset = CulaneDataset(root, "list/list.txt", Compose([alaug, pack]), use_masks=masks)
    dataset[0]
    return dataset


def check(root: Path, folder: Path, *lists: str) -> None:
    report = check_data(root, lists or None, contact_sheet=folder / "out" / "sheet.jpg", workers=1)
    with contextlib.redirect_stdout(io.StringIO()):
        report.print()


# --- labels


def make_label(rng: Random, seeds: Path, folder: Path) -> None:
    root = link_data(seeds, folder)
    files = sorted((seeds / "data").rglob("*.lines.txt"))
    texts = [text_of(path) for path in files]
    write_item(root, seeds)
    (root / "a.lines.txt").write_bytes(encode_text(rng, damage_text(rng, rng.choice(texts), texts)))


def write_item(root: Path, seeds: Path) -> None:
    """A data set of one image `a.jpg`, its label, its mask `a.png` and `list/list.txt`; its label again in `right/`."""
    first = next((seeds / "data").rglob("*.jpg"))
    mask = seeds / "data" / "laneseg" / first.relative_to(seeds / "data").with_suffix(".png")
    for target, source in (("a.jpg", first), ("a.lines.txt", first.with_suffix(".lines.txt")), ("a.png", mask)):
        (root / target).write_bytes(content(source))
    (root / "list").mkdir()
    (root / "list" / "list.txt").write_text("/a.jpg /a.png\n")
    (root / "right").mkdir()
    (root / "right" / "a.lines.txt").write_bytes(content(first.with_suffix(".lines.txt")))


def read_label(seeds: Path, folder: Path) -> None:
    root = folder / "data"
    path, right, listed = root / "a.lines.txt", root / "right", root / "list" / "list.txt"

    def alike() -> None:
        points, stops = read_lane_points(path)
        lanes = read_lines(path)
        assert len(stops) == len(lanes) + 1, "two readers of labels differ"
        assert np.array_equal(points, np.concatenate([np.zeros((0, 2)), *lanes])), "two readers of labels differ"

    def tokens() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            print_tokens(path, frame=SIZE, viewport=VIEWPORT, steps=16, bins=80)

    each(
        lambda: read_lines(path),
        alike,
        lambda: read_labels(str(root / "a.jpg")),
        lambda: dataset_of(root)[0],
        lambda: dataset_of(root, "lanelm")[0],
        tokens,
        lambda: check(root, folder),
        lambda: evaluate(root, right, listed, image_size=SIZE, width=8, workers=1),
        lambda: evaluate(right, root, listed, image_size=SIZE, width=8, workers=1, implementation="official"),
    )


# --- attributes of labels


def make_attributes(rng: Random, seeds: Path, folder: Path) -> None:
    root = link_data(seeds, folder)
    write_item(root, seeds)
    tree = json.loads(attributes_text(root))
    if rng.random() < 0.7:
        text = json.dumps(damage_json(rng, tree))
    else:
        text = damage_text(rng, json.dumps(tree), [json.dumps(tree, indent=1)])
    (root / "a.lanes.json").write_bytes(encode_text(rng, text))


def attributes_text(root: Path) -> str:
    """Attributes that fit the labels of the item in `root`, with a hidden range in every lane."""
    counts = [len(points) for points in read_lines(root / "a.lines.txt")]
    hidden = (HiddenRange(0, 1, "bonnet"),)
    return format_attributes([LaneAttributes(n, "dashed", "white", -1, 3, hidden) for n in counts], SIZE)


def read_label_attributes(seeds: Path, folder: Path) -> None:
    root = folder / "data"
    each(
        lambda: read_attributes(root / "a.lanes.json"),
        lambda: read_labelled_lanes(root / "a.lines.txt", SIZE),
        lambda: dataset_of(root)[0],
        lambda: dataset_of(root, "lanelm")[0],
        lambda: check(root, folder),
    )


# --- masks and images


def make_mask(rng: Random, seeds: Path, folder: Path) -> None:
    root = link_data(seeds, folder)
    write_item(root, seeds)
    others = content(pick(rng, seeds / "images", "*.png"))
    (root / "a.png").write_bytes(damage_bytes(rng, content(root / "a.png"), others, head=200))


def read_one_mask(seeds: Path, folder: Path) -> None:
    root = folder / "data"
    each(lambda: read_mask(str(root / "a.png")), lambda: dataset_of(root)[0], lambda: check(root, folder))


def make_image(rng: Random, seeds: Path, folder: Path) -> None:
    root = link_data(seeds, folder)
    write_item(root, seeds)
    suffix = rng.choice((".jpg", *IMAGE_SUFFIXES))
    data = content(seeds / "images" / f"image{suffix}")
    damaged = damage_bytes(rng, data, content(pick(rng, seeds / "images")), head=700)
    suffix = rng.choice(IMAGE_SUFFIXES) if rng.randrange(8) == 0 else suffix
    (root / "a.jpg").unlink()
    (root / f"a{suffix}").write_bytes(damaged)
    (root / "list" / "list.txt").write_text(f"/a{suffix}\n")


def read_one_image(seeds: Path, folder: Path) -> None:
    root = folder / "data"
    (path,) = (
        str(root / line.strip("/\n")) for line in os.fsdecode((root / "list" / "list.txt").read_bytes()).splitlines()
    )

    def same_size() -> None:
        image, size = read_frame(path, ThreadLocalBuffers())
        read = read_image(path, cv2.IMREAD_COLOR)
        assert image.shape == read.shape, "two readers of images differ"
        assert (read.shape[1], read.shape[0]) == size == image_size(path), "two readers of sizes differ"

    each(
        lambda: read_frame(path, ThreadLocalBuffers()),
        lambda: read_frame(path, ThreadLocalBuffers(), 300),
        lambda: image_size(path),
        same_size,
        lambda: calibration_inputs(str(root), VIEWPORT),
        lambda: dataset_of(root, masks=False)[0],
        lambda: check(root, folder),
        lambda: detect_with(seeds, path),
    )


def detect_with(seeds: Path, path: str) -> None:
    predictor = predictor_of(str(seeds / "models" / "tiny.safetensors"))
    predictor.set_image(read_image(path, cv2.IMREAD_COLOR))
    predictor.lanes()


# --- videos


def make_video(rng: Random, seeds: Path, folder: Path) -> None:
    suffix = rng.choice(VIDEO_SUFFIXES)
    data = content(seeds / "videos" / f"clip{suffix}")
    damaged = damage_bytes(rng, data, content(pick(rng, seeds / "videos")), head=1000)
    suffix = rng.choice((*VIDEO_SUFFIXES, ".mov", ".webm", ".m4v")) if rng.randrange(8) == 0 else suffix
    (folder / f"clip{suffix}").write_bytes(damaged)


def read_video(seeds: Path, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.name not in ("out", "data"):
            given = find_inputs([str(path)])
            for video in given.videos:
                with Video(video) as frames:
                    for _ in zip(range(FRAMES_READ), frames, strict=False):
                        assert frames.seconds >= 0
                        assert frames.frames_due >= 0


# --- arrays


def make_npz(rng: Random, seeds: Path, folder: Path) -> None:
    data = content(seeds / "data" / "list" / "train_diffs.npz")
    (folder / "diffs.npz").write_bytes(damage_archive(rng, data))


def read_npz(seeds: Path, folder: Path) -> None:
    load_differences(folder / "diffs.npz", expected=4, list_file="list.txt")


def make_features(rng: Random, seeds: Path, folder: Path) -> None:
    write_features(folder)
    path = folder / "features" / "level_0.npy"
    path.write_bytes(damage_bytes(rng, path.read_bytes(), head=130))


def write_features(folder: Path) -> None:
    """A feature cache of two augmentations of two images."""
    (folder / "features").mkdir()
    for name in FILES:
        np.save(folder / "features" / f"{name}.npy", np.arange(24, dtype=np.float16).reshape(4, 3, 2))


def read_features(seeds: Path, folder: Path) -> None:
    fault = find_damage(folder / "features", 4, dict.fromkeys(FILES, np.zeros((1, 3, 2), np.float16)))
    if fault is not None:
        raise UserError(fault)  # what training does with it is to compute the features again
    cached = FeatureCache(folder / "features", 2)
    for view in range(2):
        cached.read(view, 1)


# --- configs


def make_config(rng: Random, seeds: Path, folder: Path) -> None:
    text = text_of(seeds / "configs" / "tiny.py")
    (folder / "tiny.py").write_bytes(encode_text(rng, damage_text(rng, text)))


def read_config(seeds: Path, folder: Path) -> None:
    flatten(load_config(folder / "tiny.py"))


def make_mmdetection(rng: Random, seeds: Path, folder: Path) -> None:
    shutil.copytree(seeds / "configs" / "mmdetection", folder / "configs")
    files = sorted((folder / "configs").rglob("*.py"))
    texts = [path.read_text() for path in files]
    for path, text in zip(files, texts, strict=True):
        if rng.random() < 0.5:
            path.write_bytes(encode_text(rng, damage_text(rng, text, texts)))


def read_mmdetection(seeds: Path, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted((folder / "configs").rglob("*.py")):
            if path.name == "clrernet_culane_dla34.py":
                load_config(path)


# --- models


def make_checkpoint(rng: Random, seeds: Path, folder: Path) -> None:
    suffix = rng.choice((".pth", ".ckpt"))
    (folder / f"tiny{suffix}").write_bytes(damage_archive(rng, content(seeds / "models" / f"tiny{suffix}")))


def read_model(seeds: Path, folder: Path) -> None:
    """Read the one checkpoint of a folder in every way, and detect with it."""
    (path,) = (path for path in folder.iterdir() if path.name not in ("out", "data"))
    small = small_config(folder, folder)
    each(
        lambda: read_checkpoint(path),
        lambda: use(Predictor(checkpoint=path)),
        lambda: Predictor(small, path),
    )


def use(predictor: Predictor) -> None:
    predictor.set_image(np.full((118, 328, 3), 80, np.uint8))
    predictor.lanes()


def make_packed(rng: Random, seeds: Path, folder: Path) -> None:
    name = rng.choice(("tiny", "lanelm"))
    data = content(seeds / "models" / f"{name}.safetensors")
    (folder / "model.safetensors").write_bytes(damage_safetensors(rng, data, KEY))


def read_packed_model(seeds: Path, folder: Path) -> None:
    path = folder / "model.safetensors"
    each(
        lambda: read_checkpoint(path),
        lambda: read_settings(path),
        lambda: find_model(path),
        lambda: use(Predictor(checkpoint=path)),
    )


def make_onnx(rng: Random, seeds: Path, folder: Path) -> None:
    data = content(seeds / "models" / "tiny.onnx")
    (folder / "tiny.onnx").write_bytes(damage_bytes(rng, data) if rng.randrange(3) == 0 else damage_onnx(rng, data))


def damage_onnx(rng: Random, data: bytes) -> bytes:
    """The graph with one to three of its parts damaged, so that the file itself still can be read."""
    import onnx

    model = onnx.ModelProto.FromString(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        graph = model.graph
        tensor, node = rng.choice(graph.initializer), rng.choice(graph.node)
        change = rng.randrange(11)
        if change <= 2:
            entry = model.metadata_props[0]
            if change == 0:
                entry.value = damage_text(rng, entry.value).encode(errors="replace").decode()
            else:
                with contextlib.suppress(ValueError):
                    entry.value = json.dumps(damage_json(rng, json.loads(entry.value)))
        elif change == 3:
            tensor.dims[:] = [rng.choice((0, 1, -1, 48, 2**31, 2**40)) for _ in range(rng.randrange(5))]
        elif change == 4:
            tensor.raw_data = damage_bytes(rng, tensor.raw_data) + rng.randbytes(rng.choice((0, 4)))
        elif change == 5:
            tensor.data_type = rng.randrange(20)
        elif change == 6:
            node.op_type = rng.choice(("Loop", "If", "Custom", "Identity", "ConstantOfShape", "Gemm", "Add", ""))
        elif change == 7 and node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(
                (*(item.name for item in graph.initializer), "x", "")
            )
        elif change == 8:
            node.domain = rng.choice(("com.microsoft", "ai.onnx.ml", "custom"))
        elif change == 9:
            value = rng.choice((*graph.input, *graph.output))
            value.name = rng.choice(("images", "xs", "other", ""))
            value.type.tensor_type.elem_type = rng.choice((1, 2, 7, 10, 8))
        else:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=rng.choice(("../escaped", "/etc/passwd", "tiny.onnx", "")))
            tensor.external_data.add(key="length", value=rng.choice(NUMBERS))
    return model.SerializeToString()


def read_exported(seeds: Path, folder: Path) -> None:
    """Open the one exported file of a folder, and detect with it."""
    (path,) = (path for path in folder.iterdir() if path.suffix in (".onnx", ".xml", ".pt2"))
    others = [lambda: use(Predictor(checkpoint=path, backend="openvino"))] if path.suffix == ".onnx" else []
    each(
        lambda: read_metadata(path),
        lambda: open_runtime(path, 1),
        lambda: find_model(path),
        lambda: use(Predictor(checkpoint=path)),
        *others,
    )


def read_trusted(seeds: Path, folder: Path) -> None:
    """Open a program whose maker is trusted: it may run code, yet a damaged one is refused in one line."""
    use(Predictor(checkpoint=folder / "tiny.pt2", trust_code=True))


def make_openvino(rng: Random, seeds: Path, folder: Path) -> None:
    text, weights = text_of(seeds / "models" / "tiny.xml"), content(seeds / "models" / "tiny.bin")
    way = rng.randrange(5)
    data = text.encode()
    if way == 0:
        weights = damage_bytes(rng, weights)
    elif way in (1, 2):
        before, about, behind = metadata_of_xml(text)
        damaged = json.dumps(damage_json(rng, json.loads(about)))
        quoted = damaged.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
        data = (before + quoted + behind).encode()
    elif way == 3:
        data = damage_bytes(rng, data, head=4000)
    else:
        data = encode_text(rng, damage_text(rng, text))
    (folder / "tiny.xml").write_bytes(data)
    if rng.randrange(20):
        (folder / "tiny.bin").write_bytes(weights)


def make_program(rng: Random, seeds: Path, folder: Path) -> None:
    data = content(seeds / "models" / "tiny.pt2")
    (folder / "tiny.pt2").write_bytes(damage_archive(rng, data, text_members=True))


# --- predictions


def make_predictions(rng: Random, seeds: Path, folder: Path) -> None:
    link_data(seeds, folder, "driver_1", "list")
    names = ("predictions.jsonl", "per_image.jsonl")
    damaged = rng.choice(names)
    for name in names:
        text = text_of(seeds / "predictions" / name)
        data = text.encode()
        if name == damaged and rng.random() < 0.5:
            data = encode_text(rng, damage_text(rng, text))
        elif name == damaged:
            lines = text.splitlines()
            place = rng.randrange(len(lines))
            lines[place] = json.dumps(damage_json(rng, json.loads(lines[place])))
            data = encode_text(rng, "\n".join(lines) + "\n")
        (folder / name).write_bytes(data)


def read_jsonl(seeds: Path, folder: Path) -> None:
    root = folder / "data"
    predictions, per_image = folder / "predictions.jsonl", folder / "per_image.jsonl"
    names = {line.lstrip("/") for line in text_of(seeds / "data" / "list" / "test.txt").splitlines()}
    each(
        lambda: list(read_predictions(predictions)),
        lambda: sweep_confidence(scored_ious(predictions, root, image_size=SIZE, width=8)).to_dict(),
        lambda: list(scored_ious(predictions, root, root / "list" / "test.txt", image_size=None)),
        lambda: mistake_pictures(per_image, seeds / "predictions", root, root, count=2),
        lambda: image_rows(per_image, names),
    )


KINDS = {
    kind.name: kind
    for kind in (
        Kind("lists", make_list, read_list),
        Kind("labels", make_label, read_label),
        Kind("attributes", make_attributes, read_label_attributes),
        Kind("masks", make_mask, read_one_mask),
        Kind("images", make_image, read_one_image),
        Kind("videos", make_video, read_video),
        Kind("npz", make_npz, read_npz),
        Kind("features", make_features, read_features),
        Kind("configs", make_config, read_config, runs=True),
        Kind("mmdetection", make_mmdetection, read_mmdetection, runs=True),  # what is none of theirs is ours
        Kind("checkpoints", make_checkpoint, read_model),
        Kind("packed", make_packed, read_packed_model),
        Kind("onnx", make_onnx, read_exported),
        Kind("openvino", make_openvino, read_exported),
        Kind("pt2", make_program, read_exported),
        Kind("trusted-pt2", make_program, read_trusted, runs=True),
        Kind("predictions", make_predictions, read_jsonl),
        Kind("api", make_call, read_call, writes=True),
        # A valid line may train, with two loader processes and two more for validation; each loads PyTorch, audited.
        Kind("commands", make_command, read_command, writes=True, runs=True, start=30),
        Kind("processes", make_command, read_process, writes=True, runs=True, start=60),
    )
}
