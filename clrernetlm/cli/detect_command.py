"""Defines the command that detects lanes in images, videos and cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clrernetlm.cli.command import (
    BACKEND_HELP,
    DEVICE_HELP,
    TRUST_CODE_HELP,
    WithResults,
    WithSettings,
    check_device,
    option,
    positional,
)
from clrernetlm.core.errors import UserError

if TYPE_CHECKING:
    from clrernetlm.config import Config


@dataclass(kw_only=True)
class Detect(WithSettings, WithResults):
    """Detect lanes in images, folders, videos and cameras: text, JSON and overlays."""

    inputs: tuple[str, ...] = positional(
        (),
        metavar="[CONFIG CHECKPOINT] INPUT...",
        help="images, videos, folders and 'patterns/*.jpg' of them, 0 for the first camera, rtsp://...; in front, a "
        "model of your own",
    )
    model: str | None = option(
        None, metavar="NAME|FILE", help="one of `clrernetlm models`, or a packed file; default: roads_detector"
    )
    out: str = option("lanes", metavar="DIR", help="folder for the results")
    conf: float | None = option(None, metavar="0..1", help="confidence threshold; default: the model's")
    crop: str | None = option(
        None,
        metavar="TOP[,BOTTOM]",
        help="where the road begins (and ends), 0 to 1 of the height; default: found from the lanes",
    )
    one_camera: bool = option(
        False, help="choose one crop for all images of one folder and size, which come from one camera"
    )
    no_tracking: bool = option(False, help="videos: every frame by itself, without identities and smoothing")
    end_at_bonnet: bool = option(
        False, help="cut lanes where the bonnet of the own car hides them, with a LaneLM that has a fovea"
    )
    device: str = option("auto", metavar="DEVICE", help=DEVICE_HELP)
    backend: Literal["torch", "onnxruntime", "openvino"] | None = option(None, help=BACKEND_HELP)
    trust_code: bool = option(False, help=TRUST_CODE_HELP)

    def run(self) -> int:
        if self.conf is not None and not 0 <= self.conf <= 1:
            raise UserError(f"conf: {self.conf:g} is out of range; use 0 to 1")
        check_device(self.device)
        from clrernetlm.cli.size_and_crop import fix_given_crop, parse_crop

        if self.crop is not None:
            parse_crop(self.crop)  # raises before the weights are read, which takes seconds
        config, checkpoint, inputs = self._model_and_inputs()
        from clrernetlm.core.memory import keep_freed_memory
        from clrernetlm.inference.detect_images import detect

        keep_freed_memory()
        detect(
            fix_given_crop(config, self.overrides, self.crop),
            checkpoint,
            inputs,
            self.out,
            conf=self.conf,
            device=self.device,
            tracking=not self.no_tracking,
            one_camera=self.one_camera,
            end_at_bonnet=self.end_at_bonnet,
            backend=self.backend,
            overwrite=self.overwrite,
            trust_code=self.trust_code,
        )
        return 0

    def _model_and_inputs(self) -> tuple[Config, str, Sequence[str]]:
        from clrernetlm.core.sources import find_inputs
        from clrernetlm.weights.registry import DEFAULT_DETECTOR
        from clrernetlm.weights.resolve import resolve_model

        own = self.model is None and starts_with_config(self.inputs)
        inputs = self.inputs[2:] if own else self.inputs
        find_inputs(inputs, self.out)  # raises for a missing input before the weights are read
        config, checkpoint = self.inputs[:2] if own else (self.model or DEFAULT_DETECTOR, None)
        return *resolve_model(config, checkpoint, self.overrides), inputs


def starts_with_config(arguments: Sequence[str]) -> bool:
    """Return whether the arguments of `detect` are CONFIG CHECKPOINT INPUT..., not INPUT... alone.

    Raises UserError that names the missing or misplaced argument if they are neither.
    """
    from clrernetlm.config.loading import find_config
    from clrernetlm.core.sources import has_media_suffix, is_input
    from clrernetlm.weights.registry import BUNDLED
    from clrernetlm.weights.resolve import WEIGHT_SUFFIXES, exported_file

    if not arguments:
        raise UserError("detect: INPUT missing; name images, folders or videos: clrernetlm detect photo.jpg")
    first, *rest = arguments
    weights = [name for name in arguments if Path(name).suffix in WEIGHT_SUFFIXES or exported_file(name) is not None]
    if first in weights:
        raise UserError(
            f"{first}: weights come after their config: CONFIG {first} INPUT..., or --model {first} INPUT..."
        )
    if is_input(first) and not (rest and rest[0] in weights):
        return False
    if first in BUNDLED and not (rest and rest[0] in weights):
        raise UserError(f"{first}: a model, not an input; use --model {first}")
    if not _resembles_config(first):
        raise UserError(f"{first}: no such image, folder, video or config; check the path")
    find_config(first)
    if rest and rest[0] in weights:
        return True
    if not rest or (is_input(rest[0]) and not Path(rest[0]).is_file()) or has_media_suffix(rest[0]):
        raise UserError(f"{first}: a config needs its checkpoint: {first} CHECKPOINT INPUT...; or leave it out")
    return True


def _resembles_config(argument: str) -> bool:
    from clrernetlm.config.loading import is_config, project_configs
    from clrernetlm.config.suggestions import closest

    suffix = Path(argument).suffix
    is_misspelt = suffix == ".py" or (not suffix and bool(closest(argument, project_configs())))
    return is_misspelt or is_config(argument)
