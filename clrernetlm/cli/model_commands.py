"""The commands about trained models: using one, listing and getting them, packing one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from clrernetlm.cli.base import BackendChoice, Command, Device, TrustCode, WithResults, WithSettings, check_device
from clrernetlm.core.errors import UserError

if TYPE_CHECKING:
    from clrernetlm.config import Config


@dataclass(kw_only=True)
class Detect(WithSettings, WithResults):
    """Detect lanes in images, folders, videos and cameras: text, JSON and overlays."""

    inputs: Annotated[
        Positional[tuple[str, ...]],
        arg(
            metavar="[CONFIG CHECKPOINT] INPUT...",
            help="images, videos, folders and 'patterns/*.jpg' of them, 0 for the first camera, rtsp://...; in front, "
            "a model of your own",
        ),
    ] = ()
    model: Annotated[
        str | None,
        arg(metavar="NAME|FILE", help="one of `clrernetlm models`, or a packed file; else roads_detector"),
    ] = None
    out: Annotated[str, arg(metavar="DIR", help="folder for the results")] = "lanes"
    conf: Annotated[float | None, arg(metavar="0..1", help="confidence threshold; default: the model's")] = None
    crop: Annotated[
        str | None,
        arg(metavar="TOP[,BOTTOM]", help="where the road begins (and ends), 0 to 1 of the height; default: found out"),
    ] = None
    # Images of one folder and size come from one camera: choose one crop for all of them.
    one_camera: bool = False
    # Videos: every frame by itself, without identities and smoothing.
    no_tracking: bool = False
    device: Device = "auto"
    backend: BackendChoice = None
    trust_code: TrustCode = False

    def run(self) -> int:
        if self.conf is not None and not 0 <= self.conf <= 1:
            raise UserError(f"--conf: {self.conf:g} is out of range; use 0 to 1")
        check_device(self.device)
        from clrernetlm.cli.options import parse_crop, settle_crop

        if self.crop is not None:
            parse_crop(self.crop)  # a wrong crop is noticed before the weights are read
        config, checkpoint, inputs = self._model_and_inputs()
        from clrernetlm.core.memory import keep_freed_memory
        from clrernetlm.inference.detect_images import detect

        keep_freed_memory()
        detect(
            settle_crop(config, self.overrides, self.crop),
            checkpoint,
            inputs,
            self.out,
            conf=self.conf,
            device=self.device,
            tracking=not self.no_tracking,
            one_camera=self.one_camera,
            backend=self.backend,
            overwrite=self.overwrite,
            trust_code=self.trust_code,
        )
        return 0

    def _model_and_inputs(self) -> tuple[Config, str, Sequence[str]]:
        from clrernetlm.core.sources import find_inputs
        from clrernetlm.weights import DETECTOR
        from clrernetlm.weights.resolve import find_settings_and_weights

        own = self.model is None and starts_with_config(self.inputs)
        inputs = self.inputs[2:] if own else self.inputs
        find_inputs(inputs, self.out)  # a wrong name is noticed before the weights are read
        if own:
            return *find_settings_and_weights(self.inputs[0], self.inputs[1], self.overrides), inputs
        return *find_settings_and_weights(self.model or DETECTOR, None, self.overrides), inputs


def starts_with_config(words: Sequence[str]) -> bool:
    """Whether the words of `detect` are CONFIG CHECKPOINT INPUT..., not INPUT... alone.

    Raises UserError that names the missing or misplaced word when they are neither.
    """
    from clrernetlm.config.loading import find_config
    from clrernetlm.core.sources import has_media_suffix, is_input
    from clrernetlm.weights import BUNDLED
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
    if not _looks_like_config(first):
        raise UserError(f"{first}: no such image, folder, video or config; check the path")
    find_config(first)
    if rest and rest[0] in weights:
        return True
    if not rest or (is_input(rest[0]) and not Path(rest[0]).is_file()) or has_media_suffix(rest[0]):
        raise UserError(f"{first}: a config needs its checkpoint: {first} CHECKPOINT INPUT...; or leave it out")
    return True


def _looks_like_config(word: str) -> bool:
    from clrernetlm.config.loading import is_config
    from clrernetlm.config.suggestions import closest

    misspelt = Path(word).suffix == ".py" or (not Path(word).suffix and bool(closest(word, _config_names())))
    return misspelt or is_config(word)


def _config_names() -> list[str]:
    from clrernetlm.config.loading import config_folder

    return [path.stem for path in config_folder().rglob("*.py")]


@dataclass(kw_only=True)
class Models(Command):
    """List the models that are ready to use; `models get NAME` downloads a released one."""

    words: Annotated[Positional[tuple[str, ...]], arg(metavar="[get NAME]", help="which model to download")] = ()
    to: Annotated[str | None, arg(metavar="DIR", help="download to this folder; default: the cache")] = None

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

    checkpoint: Annotated[
        Positional[str], arg(metavar="CHECKPOINT", help=".ckpt of a training; LaneLM's brings its detector along")
    ]
    out: Annotated[Positional[str], arg(metavar="OUT.safetensors", help="the file to write")]
    precision: Annotated[Literal["fp16", "fp32"], arg(help="of the weights in the file")] = "fp16"
    config: Annotated[
        str | None, arg(metavar="CONFIG", help="settings instead of those in the checkpoint; a released .pth has none")
    ] = None

    def run(self) -> int:
        from clrernetlm.weights.pack import pack_weights

        pack_weights(self.checkpoint, self.out, self.precision, self.config, self.overrides, self.overwrite)
        return 0
