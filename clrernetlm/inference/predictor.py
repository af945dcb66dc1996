"""Predictor: image in, lanes out, with or without a few clicks."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from clrernetlm.config import Config
from clrernetlm.core.argument_checks import Fraction, check_arguments, number_array
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike, sha256
from clrernetlm.core.lane import Lane
from clrernetlm.core.viewport import FrameSize, Image, Viewport
from clrernetlm.deploy.load_model import detector_of, device_of, load_resolved_model
from clrernetlm.deploy.runtimes.base import Backend
from clrernetlm.deploy.runtimes.detector import ExportedDetector
from clrernetlm.inference.auto_crop import Look, camera_viewport, look
from clrernetlm.models.clrernet.decode import decode_lanes
from clrernetlm.models.clrernet.detector import CLRerNet
from clrernetlm.models.lanelm.detector import LaneLMDetectorBase, PromptableDetector
from clrernetlm.models.lanelm.greedy_decoding import Answers
from clrernetlm.models.lanelm.postprocess import keypoints, lanes_from_answers
from clrernetlm.models.lanelm.proposals import Proposals
from clrernetlm.models.lanelm.requests import MAX_CLICK_DISTANCE, requests_from_clicks
from clrernetlm.models.tracing_lock import running, tracing
from clrernetlm.weights import RANDOM
from clrernetlm.weights.resolve import resolve_model

_keeping = threading.Lock()


@dataclass(eq=False)
class Seen:
    """What is known of the images that one thread has given last."""

    look: Look
    proposals: Proposals | None = None  # computed when they are asked for first
    answers: Answers | None = None


@dataclass(frozen=True)
class Origin:
    """What a model was made from, besides its settings: enough to make it again in another process."""

    checkpoint: str  # absolute path, or `RANDOM`
    device: str
    backend: Backend | None
    precision: str
    compiled: bool
    trust_code: bool
    files: tuple[tuple[str, int, int], ...]  # path, bytes, time of the last change in ns
    random_state: Tensor | None  # that the random weights were drawn from


class Predictor:
    """A detector, or LaneLM on top of one, ready for images of any size; `config.task` says which.

    `Predictor()` is the model that ships with the package, `Predictor("roads_detector")` another one of `clrernetlm
    models`, `Predictor(checkpoint="mine.safetensors")` one of `clrernetlm pack` or a training checkpoint, which hold
    their settings. Otherwise `config` is a Config, a path or a name, and `checkpoint` a `.ckpt`, `.pth` or
    `.safetensors` file; "random" instead of one makes random weights. The costly part is `set_image` (the detector's
    network); everything after it can be asked as often as needed:

        predictor = Predictor()
        predictor.set_image(cv2.imread("road.jpg"))
        for lane in predictor.lanes():
            print(lane.score, lane.points)
        lane = predictor.complete([[812.0, 431.5], [640.0, 310.0]])  # the lane through these pixels

    `checkpoint` may also be what `clrernetlm export` wrote. `backend` onnxruntime or openvino exports weights, in
    `precision`, and runs them there; see `runtimes.loading.load_model`. In PyTorch `precision` is fp32, bf16 or, on a
    GPU, fp16, and `compiled` is for torch.compile; see `models.fusing.fuse`. `trust_code` opens an exported .pt2, which
    can run code of whoever made it; no other file can (docs/SECURITY.md).

    `detect` and `detect_many` keep nothing: image in, lanes out. What `set_image` keeps belongs to the thread that
    called it. So threads may share a predictor. Copies share the network. Pickled, it is the settings, the path of the
    weights file, which has to stay as it is, and what was computed for the last image.

    Only LaneLM takes clicks. Raises UserError for an unusable config, checkpoint, device or image.
    """

    @check_arguments
    def __init__(
        self,
        config: Config | PathLike | None = None,
        checkpoint: PathLike | None = None,
        device: str = "cpu",
        backend: Backend | None = None,
        precision: str = "fp32",
        compiled: bool = False,
        trust_code: bool = False,
    ) -> None:
        self.config, checkpoint = resolve_model(config, checkpoint)
        path = RANDOM if checkpoint == RANDOM else os.path.abspath(checkpoint)
        state = torch.get_rng_state() if path == RANDOM else None
        self._load(Origin(path, device, backend, precision, compiled, trust_code, stamps(path), state), checkpoint)

    def _load(self, origin: Origin, checkpoint: str) -> None:
        """`checkpoint` is the origin's as errors shall name it."""
        model = load_resolved_model(
            self.config,
            checkpoint,
            origin.device,
            origin.backend,
            origin.precision,
            origin.compiled,
            origin.trust_code,
        )
        self._origin = origin
        self._reader = model if isinstance(model, LaneLMDetectorBase) else None
        self.detector, self.device = detector_of(model), device_of(model)
        self._process = os.getpid()
        self._own = threading.local()  # `seen`: what this thread has given, or None
        self._kept: weakref.WeakSet[Seen] = weakref.WeakSet()  # of all threads

    def __getstate__(self) -> dict[str, Any]:
        origin = self._origin
        if origin.files != stamps(origin.checkpoint):
            raise UserError(f"{origin.checkpoint}: changed since this predictor was made; make a new one")
        digests = tuple(sha256(path) for path, *_ in origin.files)
        return {"config": self.config, "origin": origin, "digests": digests, "seen": to_arrays(self._only_seen())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        origin: Origin = state["origin"]
        files = stamps(origin.checkpoint)
        if tuple(sha256(path) for path, *_ in files) != state["digests"]:
            raise UserError(f"{origin.checkpoint}: not the file that the pickled predictor is of; make a new one")
        self.config = state["config"]
        with torch.random.fork_rng([], enabled=origin.random_state is not None):
            if origin.random_state is not None:
                torch.set_rng_state(origin.random_state)
            self._load(replace(origin, files=files), origin.checkpoint)
        self._seen = to_tensors(state["seen"], self.device)

    def __deepcopy__(self, memo: dict[int, Any]) -> Predictor:
        copied = self.__copy__()
        copied.config = deepcopy(self.config, memo)
        copied._seen = to_tensors(to_arrays(self._seen), self.device)
        return copied

    def __copy__(self) -> Predictor:
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__, _own=threading.local(), _kept=weakref.WeakSet())
        seen = self._seen
        copied._seen = None if seen is None else replace(seen)
        return copied

    @property
    def model(self) -> CLRerNet | ExportedDetector | LaneLMDetectorBase:
        """The network: the detector, or the detector and LaneLM in one."""
        return self._reader or self.detector

    @check_arguments
    def detect(self, image: Image, viewport: Viewport | None = None, conf: Fraction | None = None) -> list[Lane]:
        """Lanes of one (H, W, 3) uint8 BGR image, best first, in pixels of that image; keeps nothing.

        As `set_image` and `lanes` in one, for threads and tasks that share a predictor.
        """
        return self.detect_many([image], viewport, conf)[0]

    @check_arguments
    def detect_many(
        self, images: Sequence[Image], viewport: Viewport | None = None, conf: Fraction | None = None
    ) -> list[list[Lane]]:
        """Lanes of every image of a batch, as `set_images` and `lanes_of_images` in one; keeps nothing."""
        return self._lanes(Seen(self._look(images, viewport)), conf)

    @check_arguments
    def set_images(self, images: Sequence[Image], viewport: Viewport | None = None) -> None:
        """Run the detector on a batch of (H, W, 3) uint8 BGR images, each of its own size.

        What it finds is kept for the thread that calls this; what is refused changes nothing.

        `viewport` is the part of them to look at. Without one it is the configured part, but with `model.viewport_mode`
        auto an image whose horizon is not where the network expects it is seen a second time. Raises UserError for no
        images, and for one of another shape or type.
        """
        self._seen = Seen(self._look(images, viewport))

    @check_arguments
    def set_image(self, image: Image, viewport: Viewport | None = None) -> None:
        """Run the detector on one (H, W, 3) uint8 BGR image; see `set_images`."""
        self.set_images([image], viewport)

    @property
    def viewports(self) -> list[Viewport]:
        """Which part of every image given last the network saw."""
        return [] if self._seen is None else [*self._seen.look.viewports]

    @property
    def viewport(self) -> Viewport:
        """Which part of the image given last the network saw; before any image, what is configured."""
        return self.config.model.viewport if self._seen is None else self._seen.look.viewports[0]

    @check_arguments
    def calibrate(self, images: Sequence[Image]) -> Viewport:
        """The crop for a camera, from a few of its images, all of one size: what `set_image` takes as `viewport`.

        It lies around the median of the horizons that the lanes show, or is the configured one with
        `model.viewport_mode` fixed. Raises UserError for images of several sizes.
        """
        sizes = sorted({frame_size(image) for image in images})
        if len(sizes) > 1:
            shown = ", ".join(f"{width}x{height}" for width, height in sizes[:3])
            raise UserError(f"images: sizes {shown}; calibrate one camera, with images of one size, at a time")
        if not images or self.config.model.viewport_mode == "fixed":
            return self.config.model.viewport
        with self._network(), torch.inference_mode():
            return camera_viewport(self.config.model, self.detector, images)

    @check_arguments
    def detections_of_images(self, conf: Fraction | None = None) -> list[list[Lane]]:
        """The detector's own lanes of every image given last, best first, in pixels of that image.

        `conf` overrides the detector's confidence threshold.
        """
        return self._detections(self._given(), conf)

    @check_arguments
    def detections(self, conf: Fraction | None = None) -> list[Lane]:
        """The detector's own lanes of the image given last, best first, in pixels of that image."""
        return self.detections_of_images(conf)[0]

    @check_arguments
    def lanes_of_images(self, conf: Fraction | None = None) -> list[list[Lane]]:
        """Lanes of every image given last, best first, in pixels of that image; `conf` overrides the threshold.

        With LaneLM these are its answers about the detector's lanes, also about unsure ones.
        """
        return self._lanes(self._given(), conf)

    @check_arguments
    def lanes(self, conf: Fraction | None = None) -> list[Lane]:
        """Lanes of the image given last, best first, in pixels of that image."""
        return self.lanes_of_images(conf)[0]

    @check_arguments
    def complete(self, points: ArrayLike, use_detector: bool = True) -> Lane:
        """The lane that runs through `points` (K, 2), x, y in pixels of the image given last; see `complete_many`."""
        return self.complete_many([points], use_detector)[0]

    @check_arguments
    def complete_many(self, clicks: Sequence[ArrayLike], use_detector: bool = True, image: int = 0) -> list[Lane]:
        """One lane per set of points (K, 2), x, y in pixels of an image, in one go: as many calls of `complete`.

        A set has one point or more, in any order, anywhere along its lane; sets may differ in length. Points that are
        NaN or outside the part of the image that the network sees (`viewport`; CULane: the lowest 320 of 590 rows) are
        left out. With `use_detector` a lane of the detector that passes near the points is refined; without
        it, or without such a lane, LaneLM writes the lane from the points alone. `score` is LaneLM's confidence that
        there is such a lane; when it sees none, the lane may have fewer than two points. `image` counts the images
        given to `set_images`.

        Raises UserError for a config without LaneLM, before `set_image`, and for a set without usable point.
        """
        model, seen = self._promptable(), self._given()
        frames, viewports = seen.look.frames, seen.look.viewports
        if not 0 <= image < len(frames):
            raise UserError(f"image: {image}, but {len(frames)} were given; count from 0")
        if not clicks:
            return []
        frame, viewport, observation = frames[image], viewports[image], seen.look.observation
        prompts, there = prompts_of_clicks(clicks, viewport, frame)
        with self._network(), torch.inference_mode():
            if seen.proposals is None:
                seen.proposals = model.propose(observation.stage)
            found, one = seen.proposals, slice(image, image + 1)
            answers = model.answer(
                tuple(level[one] for level in observation.levels),
                requests_from_clicks(
                    Proposals(found.xs[one], found.visible[one], found.scores[one]),
                    prompts[None].to(self.device),
                    there[None].to(self.device),
                    model.lanelm.rows,
                    MAX_CLICK_DISTANCE * viewport.width if use_detector else 0.0,
                ),
            )
        xs, shown = answers.xs[0].cpu().numpy(), answers.visible[0].cpu().numpy()
        return [
            Lane(np.asarray(viewport.to_frame(keypoints(x, rows, viewport), frame), np.float64), score)
            for x, rows, score in zip(xs, shown, answers.score[0].tolist(), strict=True)
        ]

    def _look(self, images: Sequence[Image], viewport: Viewport | None) -> Look:
        if not images:
            raise UserError("images: none; give one or more")
        for image in images:
            frame_size(image)
        with self._network(), torch.inference_mode():
            return look(self.config.model, self.detector, images, viewport)

    def _detections(self, seen: Seen, conf: Fraction | None) -> list[list[Lane]]:
        model, given = self.config.model, seen.look
        decode = model.decode if conf is None else replace(model.decode, conf_threshold=conf)
        return decode_lanes(given.observation.stage, decode, given.viewports, given.frames, max_lanes=model.max_lanes)

    def _lanes(self, seen: Seen, conf: Fraction | None) -> list[list[Lane]]:
        if self._reader is None:
            return self._detections(seen, conf)
        with self._network(), torch.inference_mode():
            if seen.answers is None:
                seen.answers = self._reader.decode_unprompted(seen.look.observation)
            return lanes_from_answers(
                seen.answers,
                self.config.lanelm.decode,
                seen.look.viewports,
                seen.look.frames,
                self.config.model.max_lanes,
                conf,
            )

    def _network(self) -> AbstractContextManager[None]:
        """The context that networks run in: beside other threads, or alone where they may be compiled first."""
        if self.device.type == "cuda" and os.getpid() != self._process:
            raise UserError("predictor: a forked process cannot use its parent's GPU; start processes with spawn")
        return tracing() if self._origin.compiled else running()

    @property
    def _seen(self) -> Seen | None:
        return getattr(self._own, "seen", None)

    @_seen.setter
    def _seen(self, seen: Seen | None) -> None:
        self._own.seen = seen
        if seen is not None:
            with _keeping:
                self._kept.add(seen)

    def _only_seen(self) -> Seen | None:
        """What this thread has given, or the only thread that has: pools and queues pickle in a thread of their own."""
        with _keeping:
            kept = list(self._kept)
        return self._seen or (kept[0] if len(kept) == 1 else None)

    def _given(self) -> Seen:
        if self._seen is None:
            raise UserError(
                "predictor: no image yet in this thread; call set_image(image) first, in the same thread, "
                "or detect(image), which needs no other call"
            )
        return self._seen

    def _promptable(self) -> PromptableDetector:
        if self._reader is None:
            raise UserError(
                f"complete: {self.config.name or 'this config'} is a detector, which takes no clicks; use Predictor(), "
                "which is LaneLM, or a config of configs/lanelm and its checkpoint"
            )
        if not isinstance(self._reader, PromptableDetector):
            raise UserError(f"complete: lanelm.variant {self.config.lanelm.variant} takes no clicks; use full")
        return self._reader


def stamps(checkpoint: str) -> tuple[tuple[str, int, int], ...]:
    """(path, bytes, time of the last change in ns) of the files of a model; of an exported folder all in it."""
    if checkpoint == RANDOM:
        return ()
    path = Path(checkpoint)
    files = sorted(path.iterdir()) if path.is_dir() else [path, path.with_suffix(".bin")]
    found = [(str(file), file.stat()) for file in files if file.is_file()]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)


def to_arrays(value: Any) -> Any:
    """Dataclasses, dicts, lists and tuples with NumPy arrays in the place of tensors; for pickles."""
    return _with_leaves(value, lambda leaf: leaf.cpu().numpy().copy() if isinstance(leaf, Tensor) else leaf)


def to_tensors(value: Any, device: torch.device) -> Any:
    """The inverse of `to_arrays`, on a device."""
    return _with_leaves(value, lambda leaf: torch.from_numpy(leaf).to(device) if isinstance(leaf, np.ndarray) else leaf)


def _with_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    if is_dataclass(value) and not isinstance(value, type | Viewport):
        return type(value)(*(_with_leaves(getattr(value, item.name), change) for item in fields(value)))
    if isinstance(value, dict):
        return {key: _with_leaves(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_with_leaves(item, change) for item in value)
    return change(value)


def prompts_of_clicks(clicks: Sequence[ArrayLike], viewport: Viewport, frame: FrameSize) -> tuple[Tensor, Tensor]:
    """L sets of (K_i, 2) x, y in frame pixels -> points (L, K, 2) float32 in network pixels, (L, K) bool which exist.

    Points that are not finite or outside the viewport are left out. Raises UserError for a set of another shape, and
    for one without any point left.
    """
    names = ["points"] if len(clicks) == 1 else [f"points of lane {number}" for number in range(len(clicks))]
    usable = [points_in_view(given, viewport, frame, name) for given, name in zip(clicks, names, strict=True)]
    points = torch.zeros(len(usable), max(map(len, usable), default=0), 2)
    there = torch.zeros(points.shape[:2], dtype=torch.bool)
    for row, exists, found in zip(points, there, usable, strict=True):
        row[: len(found)], exists[: len(found)] = torch.from_numpy(found), True
    return points, there


def points_in_view(given: ArrayLike, viewport: Viewport, frame: FrameSize, name: str) -> NDArray[np.float64]:
    """Points (K, 2) in frame pixels -> those inside the viewport (k, 2) in network pixels; UserError without any."""
    points = number_array(given, name, "x, y pairs of shape (K, 2)")
    if points.ndim != 2 or points.shape[1] != 2:
        raise UserError(f"{name}: shape {points.shape}; expected x, y pairs of shape (K, 2)")
    inside = np.asarray(viewport.to_network(points, frame), np.float64)
    usable = ((inside >= 0) & (inside <= viewport.size)).all(axis=1)  # False for NaN
    if not usable.any():
        left, top, right, bottom = viewport.crop_box(frame)
        raise UserError(
            f"{name}: none of {len(points)} is where the network looks, x {left} to {right} and y {top} to {bottom} of "
            f"this {frame[0]}x{frame[1]} image; give one that is"
        )
    return inside[usable]


def frame_size(image: Image) -> FrameSize:
    """(width, height) of a BGR image; raises UserError for anything else."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UserError(f"image: {found}; expected uint8 of shape (height, width, 3), BGR as cv2.imread returns")
    if 0 in image.shape:
        raise UserError(f"image: {image.shape[1]}x{image.shape[0]} has no pixels")
    return image.shape[1], image.shape[0]
