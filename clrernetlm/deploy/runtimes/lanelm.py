"""An exported LaneLM in the place of a `PromptableDetector`: the same requests, answered by graphs in a runtime."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from clrernetlm.config import Config, to_dict
from clrernetlm.core.errors import UserError
from clrernetlm.deploy.graph_io import (
    CACHE,
    FIRST,
    GUIDES,
    IMAGES,
    LEVELS,
    LOOK,
    MAX_CLICKS,
    NEXT,
    PREFILL,
    REQUEST,
    STAGE,
    STEP,
)
from clrernetlm.deploy.runtimes.base import Array, Backend, Runtime
from clrernetlm.deploy.runtimes.detector import ExportedDetector
from clrernetlm.deploy.runtimes.export_cache import TARGETS
from clrernetlm.deploy.runtimes.open_runtime import SUFFIX_OF, open_runtime
from clrernetlm.models.lanelm.detector import Observation, PromptableDetector
from clrernetlm.models.lanelm.generate import Answers
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.requests import Requests
from clrernetlm.weights.build import changed_setting
from clrernetlm.weights.exported_metadata import DETECTOR


class ExportedLaneLM(PromptableDetector):
    """The four graphs of a folder that `clrernetlm export` wrote; `exported` is the detector's.

    `trust_code` as in `open_runtime`. Raises UserError for a folder that lacks one.
    """

    def __init__(self, config: Config, folder: Path, backend: Backend, trust_code: bool = False) -> None:
        nn.Module.__init__(self)
        self.config = config
        if folder.is_file():
            raise UserError(f"{folder}: a file, but a LaneLM is a folder of files; name the folder it is in")
        suffix = next((s for s in (SUFFIX_OF[backend], ".onnx") if (folder / f"{DETECTOR}{s}").is_file()), None)
        if suffix is None:
            target = TARGETS[backend]
            raise UserError(f"{folder}: holds no LaneLM for {backend}; export it: clrernetlm export --to {target}")

        def opened(part: str) -> Runtime:
            return open_runtime(folder / f"{part}{suffix}", torch.get_num_threads(), backend, trust_code)

        self.exported = ExportedDetector(opened(DETECTOR), str(folder))
        self.look, self.prefill, self.step = (opened(part) for part in (LOOK, PREFILL, STEP))
        self._check_parts()
        # Its rows and sizes are asked for; its weights are in the graphs.
        self.lanelm = LaneLM(config.lanelm.network, config.model.head.feature_channels, config.model.viewport.size)
        self.eval()

    def _check_parts(self) -> None:
        """Raise UserError unless the four graphs are what they are called, fit each other, and the settings."""
        self.exported.runtime.require((IMAGES,), (*STAGE, *LEVELS))
        self.look.require(LEVELS, ())
        scene = self.look.outputs
        self.prefill.require((*scene, *REQUEST), FIRST)
        self.step.require((*scene, "has_question", *GUIDES, *CACHE, "x", "previous_x", "row", "place"), NEXT)
        for part, runtime in ((LOOK, self.look), (PREFILL, self.prefill), (STEP, self.step)):
            if runtime.metadata.part != part:
                raise UserError(f"{runtime.path}: holds {runtime.metadata.part}, not {part}; export the model again")
            changed = changed_setting(self.config, to_dict(runtime.metadata.config))
            if changed is not None:
                raise UserError(f"{runtime.path}: {changed}")

    def train(self, mode: bool = True) -> ExportedLaneLM:
        """Exported graphs do not train."""
        nn.Module.train(self, False)
        return self

    def observe(self, images: Tensor) -> Observation:
        """(B, 3, H, W) float images in [0, 1] -> the detector's pyramid and predictions."""
        pixels = (images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8)
        return self.exported.observe(pixels.numpy())

    def generate(self, levels: tuple[Tensor, ...], requests: Requests) -> Answers:
        """As `models.lanelm.generate.generate`, with one call of a graph for every keypoint."""
        batch, lanes, steps = requests.question.shape
        written = self.lanelm.written
        if not batch * lanes:
            return Answers(requests.question, requests.shown, requests.score)
        if lanes == 1 and self.step.name == "torch":  # torch.export takes a size of one for a fixed one
            twice = Requests(*(getattr(requests, item.name).repeat_interleave(2, 1) for item in fields(requests)))
            answers = self.generate(levels, twice)
            return Answers(answers.xs[:, :1], answers.shown[:, :1], answers.score[:, :1])
        scene = self.look.run(dict(zip(LEVELS, (level.numpy() for level in levels), strict=True)))
        told = self.prefill.run({**scene, **request_arrays(requests)})
        asked = requests.asked.numpy()
        self.prefill.require_results(told, dict.fromkeys(("lane", "row", "x", "sure"), (batch, lanes)), asked)
        if not ((told["row"] >= 0) & (told["row"] < steps)).all():
            raise UserError(f"{self.prefill.path}: a lane begins outside of the {steps} rows; export the model again")
        score = (told["lane"] * asked).astype(np.float32)
        going, certainty, count = asked.copy(), np.zeros_like(score), np.zeros_like(score)
        xs, shown = np.zeros((batch, lanes, steps), np.float32), np.zeros((batch, lanes, steps), bool)
        row, x, sure = told["row"], told["x"], told["sure"]
        previous = np.full_like(x, np.nan)
        fixed = {**scene, **{name: told[name] for name in ("has_question", *GUIDES)}}
        cache = {name: told[name] for name in CACHE}
        for place in range(steps):
            image, lane = np.nonzero(going)
            xs[image, lane, row[going]], shown[image, lane, row[going]] = x[going], True
            certainty, count = certainty + sure * going, count + going
            if place == steps - 1 or not len(image):
                break
            newest = {"x": x, "previous_x": previous, "row": row, "place": np.array([place])}
            found = self.step.run({**fixed, **cache, **newest})
            self.step.require_results(found, dict.fromkeys(("go_on", "x_next", "sure_next"), (batch, lanes)), going)
            cache = {name: found[f"{name}_next"] for name in CACHE}
            going = going & found["go_on"].astype(bool)
            previous, row = x, np.minimum(row + 1, steps - 1)
            x, sure = found["x_next"], found["sure_next"]
        score = score * certainty / np.maximum(count, 1)
        return Answers(written(torch.from_numpy(xs)), written(torch.from_numpy(shown)), torch.from_numpy(score))


def request_arrays(requests: Requests) -> dict[str, Array]:
    """Requests as inputs of `prefill`, with places for `MAX_CLICKS` prompts; raises UserError for more."""
    arrays = {item.name: getattr(requests, item.name).numpy() for item in fields(requests) if item.name != "asked"}
    clicks = requests.prompts.shape[2]
    if clicks > MAX_CLICKS:
        raise UserError(f"points: {clicks} on one lane, but an exported LaneLM takes {MAX_CLICKS}; click fewer")
    room = MAX_CLICKS - clicks
    arrays["prompts"] = np.pad(arrays["prompts"], ((0, 0), (0, 0), (0, room), (0, 0))).astype(np.float32)
    arrays["prompted"] = np.pad(arrays["prompted"], ((0, 0), (0, 0), (0, room)))
    return arrays
