"""Runs an exported LaneLM in place of a `PromptableDetector`: decodes the same requests with graphs in a runtime."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from clrernetlm.config import Config, to_dict
from clrernetlm.core.errors import UserError
from clrernetlm.deploy.graph_names import (
    CACHE,
    ENCODE_IMAGE,
    FOVEA,
    FOVEA_INPUT,
    FOVEA_RESULTS,
    IMAGES,
    LEVELS,
    MAX_CLICKS,
    PREFILL,
    PREFILL_RESULTS,
    REQUEST,
    ROW_PRIORS,
    STAGE,
    STEP,
    STEP_RESULTS,
)
from clrernetlm.deploy.runtimes.base import Array, Backend, Runtime
from clrernetlm.deploy.runtimes.export_cache import TARGETS
from clrernetlm.deploy.runtimes.exported_detector import ExportedDetector
from clrernetlm.deploy.runtimes.open_runtime import SUFFIX_OF, open_runtime
from clrernetlm.models.clrernet.detector import DetectorOutput
from clrernetlm.models.lanelm.detector import PromptableDetector
from clrernetlm.models.lanelm.fovea.network import NUM_COLOURS, NUM_TYPES, OFFSETS, FoveaInput, FoveaOutput
from clrernetlm.models.lanelm.fovea.patches import ROWS_PER_STEP
from clrernetlm.models.lanelm.greedy_decoding import Answers, Keypoint, decode_greedily
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.requests import Requests
from clrernetlm.weights.build_models import changed_setting
from clrernetlm.weights.exported_metadata import DETECTOR_PART

LANES_PER_CALL = 4  # of the fovea in OpenVINO, as long as there are so many; then 1


class ExportedLaneLM(PromptableDetector):
    """Runs the graphs in a folder that `clrernetlm export` wrote; `exported` runs the detector's.

    `trust_code` as in `open_runtime`. Raises UserError for a folder that lacks one of them. The fovea's is opened only
    with `lanelm.network.fovea`.
    """

    def __init__(self, config: Config, folder: Path, backend: Backend, trust_code: bool = False) -> None:
        nn.Module.__init__(self)
        self.config = config
        if folder.is_file():
            raise UserError(f"{folder}: a file, but a LaneLM is a folder of files; name the folder it is in")
        suffix = next((s for s in (SUFFIX_OF[backend], ".onnx") if (folder / f"{DETECTOR_PART}{s}").is_file()), None)
        if suffix is None:
            target = TARGETS[backend]
            raise UserError(f"{folder}: holds no LaneLM for {backend}; export it with `to={target}`")

        def open_part(part: str) -> Runtime:
            return open_runtime(folder / f"{part}{suffix}", torch.get_num_threads(), backend, trust_code)

        self.exported = ExportedDetector(open_part(DETECTOR_PART), str(folder))
        self.encode_image, self.prefill, self.step = (open_part(part) for part in (ENCODE_IMAGE, PREFILL, STEP))
        self.fovea_runtime: Runtime | None = None
        if config.lanelm.network.fovea:
            if not (folder / f"{FOVEA}{suffix}").is_file():
                raise UserError(
                    f"{folder}: lacks {FOVEA}{suffix}, which lanelm.network.fovea=True needs; export the model again, "
                    "or set lanelm.network.fovea=False"
                )
            self.fovea_runtime = open_part(FOVEA)
        self._check_parts()
        # Only its rows and sizes are used; the weights are in the graphs.
        self.lanelm = LaneLM(config.lanelm.network, config.model.head.feature_channels, config.model.viewport.size)
        self.eval()

    def _check_parts(self) -> None:
        """Raise UserError unless each graph is the part of its name, and all fit each other and the settings."""
        self.exported.runtime.require((IMAGES,), (*STAGE, *LEVELS))
        self.encode_image.require(LEVELS, ())
        image = self.encode_image.outputs
        self.prefill.require((*image, *REQUEST), PREFILL_RESULTS)
        newest = ("x", "previous_x", "row", "place")
        self.step.require((*image, "has_question", *ROW_PRIORS, *CACHE, *newest), STEP_RESULTS)
        parts = {ENCODE_IMAGE: self.encode_image, PREFILL: self.prefill, STEP: self.step}
        if self.fovea_runtime is not None:
            self.fovea_runtime.require(tuple(FOVEA_INPUT), FOVEA_RESULTS)
            parts[FOVEA] = self.fovea_runtime
        for part, runtime in parts.items():
            if runtime.metadata.part != part:
                raise UserError(f"{runtime.path}: holds {runtime.metadata.part}, not {part}; export the model again")
            changed = changed_setting(self.config, to_dict(runtime.metadata.config))
            if changed is not None:
                raise UserError(f"{runtime.path}: {changed}")

    def train(self, mode: bool = True) -> ExportedLaneLM:
        """Stay in evaluation mode: exported graphs cannot be trained."""
        nn.Module.train(self, False)
        return self

    def run_detector(self, images: Tensor) -> DetectorOutput:
        """Run the detector on images (B, 3, H, W), uint8 or float in [0, 1]."""
        pixels = images if images.dtype == torch.uint8 else (images * 255).round().to(torch.uint8)
        return self.exported.run(pixels)

    def generate(self, levels: tuple[Tensor, ...], requests: Requests) -> Answers:
        """Decode requests as `models.lanelm.generate.generate`, with one call of a graph per keypoint.

        For a model with a fovea, which passes all clicks, `MAX_CLICKS` of them are used.
        """
        if self.needs_crops:
            requests = spread_clicks(requests, MAX_CLICKS)
        batch, lanes, steps = requests.proposal_x.shape
        if not batch * lanes:
            return Answers(requests.proposal_x, requests.proposal_mask, requests.score)
        if lanes == 1 and self.step.name == "torch":  # torch.export treats a size of one as fixed
            twice = Requests(*(getattr(requests, item.name).repeat_interleave(2, 1) for item in fields(requests)))
            answers = self.generate(levels, twice)
            return Answers(answers.xs[:, :1], answers.visible[:, :1], answers.score[:, :1])
        answers = decode_greedily(ExportedStepDecoder(self, levels, requests), steps, stop_early=True)
        order = self.lanelm.to_decode_order
        return Answers(order(answers.xs), order(answers.visible), answers.score)

    def run_fovea(self, given: FoveaInput) -> FoveaOutput:
        """Run the fovea on patches; raises UserError for results of wrong shapes, and that are not finite."""
        runtime = self.fovea_runtime
        assert runtime is not None
        inputs = {name: getattr(given, field).numpy() for name, field in FOVEA_INPUT.items()}
        total, steps = given.rows.shape[:2]
        sizes = [total]
        if runtime.name == "openvino":  # compiles the graph for every number of lanes, which takes half a second each
            sizes = [LANES_PER_CALL] * (total // LANES_PER_CALL) + [1] * (total % LANES_PER_CALL)
        shapes: dict[str, tuple[int, ...]] = {
            "offset": (steps, OFFSETS),
            "spread": (steps,),
            "on_lane": (steps * ROWS_PER_STEP,),
            "seen": (steps,),
            "lane": (),
            "type": (NUM_TYPES,),
            "colour": (NUM_COLOURS,),
        }
        parts = []
        for end, size in zip(np.cumsum(sizes), sizes, strict=True):
            results = runtime.run({name: value[end - size : end] for name, value in inputs.items()})
            runtime.require_results(results, {name: (size, *shape) for name, shape in shapes.items()})
            parts.append(results)
        joined = {name: np.concatenate([part[name] for part in parts]) for name in FOVEA_RESULTS}
        return FoveaOutput(**{name: torch.from_numpy(value).float() for name, value in joined.items()})


class ExportedStepDecoder:
    """Computes LaneLM's keypoints for `decode_greedily` with the graphs of an `ExportedLaneLM`.

    Raises UserError for results of wrong shapes, that are not finite, or out of range.
    """

    def __init__(self, model: ExportedLaneLM, levels: tuple[Tensor, ...], requests: Requests) -> None:
        self.step, prefill = model.step, model.prefill
        self.shape = tuple(requests.score.shape)
        image = model.encode_image.run(dict(zip(LEVELS, (level.numpy() for level in levels), strict=True)))
        results = prefill.run({**image, **request_arrays(requests)})
        request_mask, steps = requests.request_mask.numpy(), requests.proposal_x.shape[2]
        prefill.require_results(results, dict.fromkeys(("lane", "row", "x", "sure"), self.shape), request_mask)
        if not ((results["row"] >= 0) & (results["row"] < steps)).all():
            raise UserError(f"{prefill.path}: a lane begins outside of the {steps} rows; export the model again")
        self.first = Keypoint(
            torch.from_numpy(results["row"]).long(),
            torch.from_numpy(results["x"]).float(),
            torch.from_numpy(results["sure"]).float(),
            requests.request_mask,
        )
        self.lane_probability = torch.from_numpy(results["lane"]).float()
        self.context = {**image, **{name: results[name] for name in ("has_question", *ROW_PRIORS)}}
        self.cache = {name: results[name] for name in CACHE}

    def decode_next(self, index: int, last: Keypoint, previous_x: Tensor) -> Keypoint:
        """Decode the next keypoint, as `StepDecoder.decode_next`."""
        newest = {"x": last.x.numpy(), "previous_x": previous_x.numpy(), "row": last.row.numpy()}
        results = self.step.run({**self.context, **self.cache, **newest, "place": np.array([index])})
        shapes = dict.fromkeys(("go_on", "x_next", "sure_next"), self.shape)
        self.step.require_results(results, shapes, last.exists.numpy())
        self.cache = {name: results[f"{name}_next"] for name in CACHE}
        return Keypoint(
            last.row + 1,
            torch.from_numpy(results["x_next"]).float(),
            torch.from_numpy(results["sure_next"]).float(),
            torch.from_numpy(results["go_on"].astype(bool)),
        )


def request_arrays(requests: Requests) -> dict[str, Array]:
    """Convert requests to inputs of `prefill`, padded to `MAX_CLICKS` prompts; raises UserError for more."""
    arrays = {name: getattr(requests, field).numpy() for name, field in REQUEST.items()}
    clicks = requests.prompts.shape[2]
    if clicks > MAX_CLICKS:
        raise UserError(f"points: {clicks} on one lane, but an exported LaneLM takes {MAX_CLICKS}; click fewer")
    padding = MAX_CLICKS - clicks
    arrays["prompts"] = np.pad(arrays["prompts"], ((0, 0), (0, 0), (0, padding), (0, 0))).astype(np.float32)
    arrays["prompted"] = np.pad(arrays["prompted"], ((0, 0), (0, 0), (0, padding)))
    return arrays


def spread_clicks(requests: Requests, limit: int) -> Requests:
    """Keep at most `limit` (2 or more) clicks of every lane: the top and the bottom one, and some evenly between."""
    if requests.prompts.shape[2] <= limit:
        return requests
    exists = requests.prompt_mask
    order = torch.where(exists, requests.prompts[..., 1], torch.inf).argsort(-1)  # from the top, the missing last
    count, slot = exists.sum(-1, keepdim=True), torch.arange(limit)
    spread = (slot * (count - 1) / (limit - 1)).round().long()
    chosen = order.gather(-1, torch.where(count > limit, spread, slot))
    prompts = requests.prompts.gather(2, chosen[..., None].expand(*chosen.shape, 2))
    return replace(requests, prompts=prompts, prompt_mask=slot < count)
