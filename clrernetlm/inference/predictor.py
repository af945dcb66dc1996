"""Defines the Predictor, which detects lanes in images, with or without a few clicks."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from clrernetlm.config import Config
from clrernetlm.core.argument_checks import ClickSigma, Fraction, check_arguments
from clrernetlm.core.arrays import BgrImage
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike, sha256
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_positions import with_positions
from clrernetlm.core.viewport import Viewport
from clrernetlm.deploy.load_model import detector_of, device_of, load_resolved_model
from clrernetlm.deploy.runtimes.base import Backend
from clrernetlm.deploy.runtimes.exported_detector import ExportedDetector
from clrernetlm.inference.auto_crop import DetectorBatch, camera_viewport, run_detector
from clrernetlm.inference.click_coordinates import frame_size, prompts_of_clicks
from clrernetlm.inference.completed_lane import CompletedLane, Ends, completed_lane, refined_detection
from clrernetlm.inference.expected_lanes import first_image, proposals_of_lanes
from clrernetlm.inference.model_source import ModelSource, file_stamps, to_arrays, to_tensors
from clrernetlm.inference.tracking import with_position_among
from clrernetlm.models.clrernet.decode import decode_lanes
from clrernetlm.models.clrernet.detector import CLRerNet
from clrernetlm.models.lanelm.detector import LaneLMDetectorBase, PromptableDetector
from clrernetlm.models.lanelm.greedy_decoding import Answers
from clrernetlm.models.lanelm.postprocess import answered_lane, lanes_from_answers
from clrernetlm.models.lanelm.proposals import Proposals
from clrernetlm.models.lanelm.requests import MAX_CLICK_DISTANCE, requests_from_clicks
from clrernetlm.models.tracing_lock import running, tracing
from clrernetlm.weights.registry import RANDOM
from clrernetlm.weights.resolve import resolve_model

_states_lock = threading.Lock()


@dataclass(eq=False)
class ImageState:
    """Results for the images that one thread has given last; LaneLM's are computed when first needed."""

    batch: DetectorBatch
    proposals: Proposals | None = None
    answers: Answers | None = None


class Predictor:
    """Detects lanes in images of any size, with a detector or with LaneLM on top of one, depending on `config.task`.

    `Predictor()` is the model bundled with the package, `Predictor("roads_detector")` another one of `clrernetlm
    models`, `Predictor(checkpoint="mine.safetensors")` one of `clrernetlm pack` or a training checkpoint, which hold
    their settings. Otherwise `config` is a Config, a path or a name, and `checkpoint` a `.ckpt`, `.pth` or
    `.safetensors` file; "random" instead of one makes random weights. The costly part is `set_image` (the detector's
    network); everything after it is cheap and can be called as often as needed:

        predictor = Predictor()
        predictor.set_image(cv2.imread("road.jpg"))
        for lane in predictor.lanes():
            print(lane.score, lane.points)
        lane = predictor.complete([[812.0, 431.5], [640.0, 310.0]])  # the lane through these pixels

    `checkpoint` may also be an exported model (`clrernetlm export`). `backend` onnxruntime or openvino exports the
    weights, in `precision`, and runs them there; see `deploy.load_model.load_model`. In PyTorch `precision` is fp32,
    bf16 or, on a GPU, fp16, and `compiled` is for torch.compile; see `models.fusing.fuse`. `trust_code` opens an
    exported .pt2, which can run code of its maker; no other file can (docs/SECURITY.md).

    `detect` and `detect_many` keep no state. That of `set_image` belongs to the thread that called it, so threads may
    share a predictor. Copies share the network. A pickle contains the settings, the path of the weights file, which
    must not change, and the results for the last image.

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
        self._load(
            ModelSource(path, device, backend, precision, compiled, trust_code, file_stamps(path), state), checkpoint
        )

    def _load(self, source: ModelSource, checkpoint: str) -> None:
        """Load the model; `checkpoint` is the path of `source` in the form that error messages name."""
        model = load_resolved_model(
            self.config,
            checkpoint,
            source.device,
            source.backend,
            source.precision,
            source.compiled,
            source.trust_code,
        )
        self._source = source
        self._lanelm_detector = model if isinstance(model, LaneLMDetectorBase) else None
        self.detector, self.device = detector_of(model), device_of(model)
        self._process = os.getpid()
        self._thread_local = threading.local()  # `state`: that of this thread, or None
        self._states: weakref.WeakSet[ImageState] = weakref.WeakSet()  # of all threads

    def __getstate__(self) -> dict[str, Any]:
        source = self._source
        if source.files != file_stamps(source.checkpoint):
            raise UserError(f"{source.checkpoint}: changed since this predictor was made; make a new one")
        digests = tuple(sha256(path) for path, *_ in source.files)
        return {"config": self.config, "source": source, "digests": digests, "state": to_arrays(self._only_state())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        source: ModelSource = state["source"]
        files = file_stamps(source.checkpoint)
        if tuple(sha256(path) for path, *_ in files) != state["digests"]:
            raise UserError(f"{source.checkpoint}: not the file that the pickled predictor is of; make a new one")
        self.config = state["config"]
        with torch.random.fork_rng([], enabled=source.random_state is not None):
            if source.random_state is not None:
                torch.set_rng_state(source.random_state)
            self._load(replace(source, files=files), source.checkpoint)
        self._state = to_tensors(state["state"], self.device)

    def __deepcopy__(self, memo: dict[int, Any]) -> Predictor:
        copied = self.__copy__()
        copied.config = deepcopy(self.config, memo)
        copied._state = to_tensors(to_arrays(self._state), self.device)
        return copied

    def __copy__(self) -> Predictor:
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__, _thread_local=threading.local(), _states=weakref.WeakSet())
        state = self._state
        copied._state = None if state is None else replace(state)
        return copied

    @property
    def model(self) -> CLRerNet | ExportedDetector | LaneLMDetectorBase:
        """Return the network: the detector, or the detector and LaneLM in one."""
        return self._lanelm_detector or self.detector

    @check_arguments
    def detect(self, image: BgrImage, viewport: Viewport | None = None, conf: Fraction | None = None) -> list[Lane]:
        """Return the lanes of one (H, W, 3) uint8 BGR image, best first, in pixels of that image; keeps no state.

        As `set_image` and `lanes` in one, for threads and tasks that share a predictor.
        """
        return self.detect_many([image], viewport, conf)[0]

    @check_arguments
    def detect_many(
        self, images: Sequence[BgrImage], viewport: Viewport | None = None, conf: Fraction | None = None
    ) -> list[list[Lane]]:
        """Return the lanes of every image of a batch, as `set_images` and `lanes_of_images` in one; keeps no state."""
        return self._lanes(ImageState(self._detect_batch(images, viewport)), conf)

    @check_arguments
    def set_images(self, images: Sequence[BgrImage], viewport: Viewport | None = None) -> None:
        """Run the detector on a batch of (H, W, 3) uint8 BGR images, each of its own size.

        The results are kept for the calling thread; after an error those of the call before remain.

        `viewport` is the crop of all images. Without one it is the configured crop, but with `model.viewport_mode` auto
        an image whose horizon is outside the range the network expects is cropped around it and run a second time.
        Raises UserError for no images, and for one of another shape or type.
        """
        self._state = ImageState(self._detect_batch(images, viewport))

    @check_arguments
    def set_image(self, image: BgrImage, viewport: Viewport | None = None) -> None:
        """Run the detector on one (H, W, 3) uint8 BGR image; see `set_images`."""
        self.set_images([image], viewport)

    @property
    def viewports(self) -> list[Viewport]:
        """Return the crops of the images of the last call of `set_images`; empty before it."""
        return [] if self._state is None else [*self._state.batch.viewports]

    @property
    def viewport(self) -> Viewport:
        """Return the crop of the image given last; before any image, the configured one."""
        return self.config.model.viewport if self._state is None else self._state.batch.viewports[0]

    @check_arguments
    def calibrate(self, images: Sequence[BgrImage]) -> Viewport:
        """Choose the crop for a camera from a few of its images, all of one size, as `viewport` of `set_image`.

        It lies around the median of the horizons that the lanes show, or is the configured one with
        `model.viewport_mode` fixed. Raises UserError for images of several sizes.
        """
        sizes = sorted({frame_size(image) for image in images})
        if len(sizes) > 1:
            listed = ", ".join(f"{width}x{height}" for width, height in sizes[:3])
            raise UserError(f"images: sizes {listed}; calibrate one camera, with images of one size, at a time")
        if not images or self.config.model.viewport_mode == "fixed":
            return self.config.model.viewport
        with self._network(), torch.inference_mode():
            return camera_viewport(self.config.model, self.detector, images)

    @check_arguments
    def detections_of_images(self, conf: Fraction | None = None) -> list[list[Lane]]:
        """Return the detector's own lanes of every image given last, best first, in pixels of that image.

        `conf` overrides the detector's confidence threshold.
        """
        return self._detections(self._require_state(), conf)

    @check_arguments
    def detections(self, conf: Fraction | None = None) -> list[Lane]:
        """Return the detector's own lanes of the image given last, best first, in pixels of that image."""
        return self.detections_of_images(conf)[0]

    @check_arguments
    def lanes_of_images(self, conf: Fraction | None = None) -> list[list[Lane]]:
        """Return the lanes of every image given last, best first, in its pixels; `conf` overrides the threshold.

        With LaneLM these are its answers to the detector's lanes as requests, those of low confidence among them.
        """
        return self._lanes(self._require_state(), conf)

    @check_arguments
    def lanes(self, conf: Fraction | None = None, expected: Sequence[Lane] = ()) -> list[Lane]:
        """Return the lanes of the image given last, best first, in pixels of that image.

        `expected` are lanes that are probably there, such as those of the frame before in a video: LaneLM verifies and
        refines those that the detector does not find, so that a lane that it misses for a moment stays. A detector
        ignores them.
        """
        if not expected or not isinstance(self._lanelm_detector, PromptableDetector):
            return self.lanes_of_images(conf)[0]
        state = self._require_state()
        viewport, frame = state.batch.viewports[0], state.batch.frames[0]
        proposals = proposals_of_lanes(expected, viewport, frame, self.config.lanelm.network.num_steps)
        with self._network(), torch.inference_mode():
            answers = self._lanelm_detector.decode_unprompted(
                first_image(state.batch.output), state.batch.crops and state.batch.crops[:1], proposals
            )
            decode, most = self.config.lanelm.decode, self.config.model.max_lanes
            return lanes_from_answers(answers, decode, [viewport], [frame], most, conf)[0]

    @check_arguments
    def complete(
        self, points: ArrayLike, use_detector: bool = True, click_sigma: ClickSigma = 3.0, ends: Ends = "none"
    ) -> CompletedLane:
        """Return the lane through `points` (K, 2), x, y in pixels of the image given last; see `complete_many`."""
        return self.complete_many([points], use_detector, click_sigma=click_sigma, ends=ends)[0]

    @check_arguments
    def complete_many(
        self,
        clicks: Sequence[ArrayLike],
        use_detector: bool = True,
        image: int = 0,
        click_sigma: ClickSigma = 3.0,
        ends: Ends = "none",
    ) -> list[CompletedLane]:
        """Return one lane per set of points (K, 2), x, y in pixels of an image: several calls of `complete` in one.

        A set has one point or more, in any order, anywhere along its lane; sets may differ in length. Points that are
        NaN or outside the part of the image that the network sees (`viewport`; CULane: the lowest 320 of 590 rows) are
        left out. With `use_detector` a lane of the detector that passes near the points is refined; without
        it, or without such a lane, LaneLM decodes the lane from the points alone. `score` is LaneLM's confidence that
        there is such a lane; when that is low, the lane may have fewer than two points. `image` counts the images
        given to `set_images`.

        With a fovea the lane passes every point within about two `click_sigma`, the standard deviation of points in
        pixels of a frame 1640 wide; a point far from any paint gives a lane of low score. `is_confident` says whether
        the score reaches the threshold of lanes, `refined` is the detector's lane that the answer is made from. With
        `ends` the outermost points are the ends of the lane: "top", "bottom" or "both". Its `position` is that among
        the detector's lanes.

        Raises UserError for a config without LaneLM, before `set_image`, and for a set without usable point.
        """
        model, state = self._require_promptable(), self._require_state()
        frames, viewports = state.batch.frames, state.batch.viewports
        if not 0 <= image < len(frames):
            raise UserError(f"image: {image}, but {len(frames)} were given; count from 0")
        if not clicks:
            return []
        frame, viewport, output = frames[image], viewports[image], state.batch.output
        prompts, exists = prompts_of_clicks(clicks, viewport, frame)
        with self._network(), torch.inference_mode():
            if state.proposals is None:
                state.proposals = model.propose(output.predictions)
            found, one = state.proposals, slice(image, image + 1)
            requests = requests_from_clicks(
                Proposals(found.xs[one], found.visible[one], found.scores[one]),
                prompts[None].to(self.device),
                exists[None].to(self.device),
                model.lanelm.rows,
                MAX_CLICK_DISTANCE * viewport.width if use_detector else 0.0,
            )
            answers = model.answer(
                tuple(level[one] for level in output.levels),
                requests,
                None if state.batch.crops is None else state.batch.crops[one],
                click_sigma / 1640 * viewport.width,
            )
        threshold, in_frame = self.config.lanelm.decode.lane_threshold, viewport.to_frame(prompts.numpy(), frame)
        detected = self._detections(state, None)[image]
        return [
            completed_lane(
                with_position_among(answered_lane(answers, 0, i, viewport, frame), detected, frame),
                refined_detection(requests, i, viewport, frame),
                threshold,
                np.asarray(in_frame[i][exists[i].numpy()], np.float64),
                ends,
            )
            for i in range(len(clicks))
        ]

    def _detect_batch(self, images: Sequence[BgrImage], viewport: Viewport | None) -> DetectorBatch:
        if not images:
            raise UserError("images: none; give one or more")
        for image in images:
            frame_size(image)
        with self._network(), torch.inference_mode():
            batch = run_detector(self.config.model, self.detector, images, viewport)
        if self._lanelm_detector is not None and self._lanelm_detector.needs_crops:
            batch.keep_crops(images)
        return batch

    def _detections(self, state: ImageState, conf: Fraction | None) -> list[list[Lane]]:
        model, batch = self.config.model, state.batch
        decode = model.decode if conf is None else replace(model.decode, conf_threshold=conf)
        images = decode_lanes(
            batch.output.predictions, decode, batch.viewports, batch.frames, max_lanes=model.max_lanes
        )
        return [with_positions(lanes, frame) for lanes, frame in zip(images, batch.frames, strict=True)]

    def _lanes(self, state: ImageState, conf: Fraction | None) -> list[list[Lane]]:
        if self._lanelm_detector is None:
            return self._detections(state, conf)
        with self._network(), torch.inference_mode():
            if state.answers is None:
                state.answers = self._lanelm_detector.decode_unprompted(state.batch.output, state.batch.crops)
            return lanes_from_answers(
                state.answers,
                self.config.lanelm.decode,
                state.batch.viewports,
                state.batch.frames,
                self.config.model.max_lanes,
                conf,
            )

    def _network(self) -> AbstractContextManager[None]:
        """Return the lock to hold while networks run: shared by threads, exclusive before a compilation."""
        if self.device.type == "cuda" and os.getpid() != self._process:
            raise UserError("predictor: a forked process cannot use its parent's GPU; start processes with spawn")
        return tracing() if self._source.compiled else running()

    @property
    def _state(self) -> ImageState | None:
        return getattr(self._thread_local, "state", None)

    @_state.setter
    def _state(self, state: ImageState | None) -> None:
        self._thread_local.state = state
        if state is not None:
            with _states_lock:
                self._states.add(state)

    def _only_state(self) -> ImageState | None:
        """Return the state of this thread, or of the only thread with one: queues pickle in a thread of their own."""
        with _states_lock:
            kept = list(self._states)
        return self._state or (kept[0] if len(kept) == 1 else None)

    def _require_state(self) -> ImageState:
        if self._state is None:
            raise UserError(
                "predictor: no image yet in this thread; call set_image(image) first, in the same thread, "
                "or detect(image), which needs no other call"
            )
        return self._state

    def _require_promptable(self) -> PromptableDetector:
        if self._lanelm_detector is None:
            raise UserError(
                f"complete: {self.config.name or 'this config'} is a detector, which takes no clicks; use Predictor(), "
                "which is LaneLM, or a config of configs/lanelm and its checkpoint"
            )
        if not isinstance(self._lanelm_detector, PromptableDetector):
            raise UserError(f"complete: lanelm.variant {self.config.lanelm.variant} takes no clicks; use full")
        return self._lanelm_detector
