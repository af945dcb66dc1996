"""The commands about trained models: detect with one, export one, list and download them, pack one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clrernetlm.cli.command import (
    BACKEND_HELP,
    DEVICE_HELP,
    TRUST_CODE_HELP,
    Command,
    WithConfig,
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
class WithCheckpoint(WithConfig):
    """A command that runs a trained model: CONFIG CHECKPOINT, or one word that stands for both."""

    config: str = positional(
        "", metavar="CONFIG", help="config file or name, or a model of `clrernetlm models` without CHECKPOINT"
    )
    checkpoint: str | None = positional(
        None, metavar="CHECKPOINT", help=".ckpt of a training, or a released .pth or .safetensors"
    )
    device: str = option("auto", metavar="DEVICE", help=DEVICE_HELP)

    def find_model(self, command: str) -> tuple[Config, str]:
        """Find settings and weights file; raises UserError of `command` when the words do not name both."""
        check_device(self.device)
        from clrernetlm.config.loading import is_config
        from clrernetlm.weights.registry import REMOTE
        from clrernetlm.weights.resolve import has_weights, resolve_model

        if self.checkpoint is None and (not self.config or (is_config(self.config) and not has_weights(self.config))):
            missing = "CHECKPOINT" if self.config else "CONFIG and CHECKPOINT"
            get = f"; `clrernetlm models get {self.config}` downloads it" if self.config in REMOTE else ""
            raise UserError(f"{command}: {missing} missing{get}; see clrernetlm {command} --help")
        return resolve_model(self.config, self.checkpoint, self.overrides)


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
        False, help="cut lanes where the bonnet of the own car hides them, with a model that says so"
    )
    device: str = option("auto", metavar="DEVICE", help=DEVICE_HELP)
    backend: Literal["torch", "onnxruntime", "openvino"] | None = option(None, help=BACKEND_HELP)
    trust_code: bool = option(False, help=TRUST_CODE_HELP)

    def run(self) -> int:
        if self.conf is not None and not 0 <= self.conf <= 1:
            raise UserError(f"conf: {self.conf:g} is out of range; use 0 to 1")
        check_device(self.device)
        from clrernetlm.cli.options import fix_given_crop, parse_crop

        if self.crop is not None:
            parse_crop(self.crop)  # a wrong crop is noticed before the weights are read
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
        find_inputs(inputs, self.out)  # a wrong name is noticed before the weights are read
        config, checkpoint = self.inputs[:2] if own else (self.model or DEFAULT_DETECTOR, None)
        return *resolve_model(config, checkpoint, self.overrides), inputs


def starts_with_config(words: Sequence[str]) -> bool:
    """Return whether the words of `detect` are CONFIG CHECKPOINT INPUT..., not INPUT... alone.

    Raises UserError that names the missing or misplaced word when they are neither.
    """
    from clrernetlm.config.loading import find_config
    from clrernetlm.core.sources import has_media_suffix, is_input
    from clrernetlm.weights.registry import BUNDLED
    from clrernetlm.weights.resolve import WEIGHT_SUFFIXES, exported_file

    if not words:
        raise UserError("detect: INPUT missing; name images, folders or videos: clrernetlm detect photo.jpg")
    first, *rest = words
    weights = [word for word in words if Path(word).suffix in WEIGHT_SUFFIXES or exported_file(word) is not None]
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


def _resembles_config(word: str) -> bool:
    from clrernetlm.config.loading import is_config, project_configs
    from clrernetlm.config.suggestions import closest

    misspelt = Path(word).suffix == ".py" or (not Path(word).suffix and bool(closest(word, project_configs())))
    return misspelt or is_config(word)


@dataclass(kw_only=True)
class Export(WithCheckpoint, WithResults):
    """Write a model for another runtime: ONNX, OpenVINO or a torch.export program."""

    to: Literal["onnx", "openvino", "torch"] = option(
        "onnx", help="the runtime; torch writes a .pt2, which can run code and is opened with --trust-code only"
    )
    precision: Literal["fp32", "fp16", "bf16", "int8"] = option(
        "fp32", help="fp16: half the file; bf16, int8: faster where supported"
    )
    dynamic_batch: bool = option(False, help="any number of images at a time, instead of one")
    calibration: str | None = option(
        None, metavar="FOLDER|LIST", help="images for int8: a folder, or a file with one path per line"
    )
    out: str | None = option(
        None, metavar="FILE", help="file to write, for LaneLM a folder; default: named after the model"
    )
    device: Literal["auto", "cpu"] = option("cpu", help="tracing needs no other")

    def run(self) -> int:
        from clrernetlm.cli.options import fix_given_crop
        from clrernetlm.deploy.export import export_model

        config, checkpoint = self.find_model("export")
        export_model(
            fix_given_crop(config, self.overrides),
            checkpoint,
            self.to,
            precision=self.precision,
            dynamic_batch=self.dynamic_batch,
            out=self.out,
            calibration=self.calibration,
            overwrite=self.overwrite,
        )
        return 0


@dataclass(kw_only=True)
class Models(Command):
    """List the models that are ready to use; `models get NAME` downloads a released one."""

    words: tuple[str, ...] = positional((), metavar="[get NAME]", help="which model to download")
    to: str | None = option(None, metavar="DIR", help="download to this folder; default: the cache")

    def run(self) -> int:
        from clrernetlm.weights.listing import get_model, print_models

        if not self.words:
            print_models()
        elif self.words[0] == "get" and len(self.words) == 2:
            get_model(self.words[1], self.to)
        else:
            raise UserError(f"models: {' '.join(self.words)}: not understood; use `models` or `models get NAME`")
        return 0


@dataclass(kw_only=True)
class Pack(WithSettings, WithResults):
    """Make one file for use from a training checkpoint: weights and settings, half the size."""

    checkpoint: str = positional(metavar="CHECKPOINT", help=".ckpt of a training; that of LaneLM includes its detector")
    out: str = positional(metavar="OUT.safetensors", help="the file to write")
    precision: Literal["fp16", "fp32"] = option("fp16", help="precision of the weights in the file")
    config: str | None = option(
        None, metavar="CONFIG", help="settings instead of those in the checkpoint; a released .pth has none"
    )

    def run(self) -> int:
        from clrernetlm.weights.pack import pack_weights

        pack_weights(self.checkpoint, self.out, self.precision, self.config, self.overrides, self.overwrite)
        return 0
