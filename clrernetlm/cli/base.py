"""What the commands have in common: settings, configs and weights among their words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tyro.conf import Positional, Suppress, arg

from clrernetlm.core.errors import UserError

if TYPE_CHECKING:
    from clrernetlm.config import Config

Device = Annotated[str, arg(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps")]
BackendChoice = Annotated[
    Literal["torch", "onnxruntime", "openvino"] | None,
    arg(help="what computes, the last two on the CPU; default: torch, or what an exported file is for"),
]
TrustCode = Annotated[bool, arg(help="open a .pt2, which can run code of whoever made it; no other file can")]


@dataclass(kw_only=True)
class Command:
    """One command; `run` returns the exit code."""

    renamed_options: ClassVar[dict[str, str]] = {}  # former option -> present one, both with dashes

    def run(self) -> int:
        raise NotImplementedError


def check_device(name: str) -> None:
    """Raise UserError for a device that this machine lacks, before models, data and what computes are loaded."""
    if name not in ("auto", "cpu"):
        from clrernetlm.core.device import select_device

        select_device(name)


@dataclass(kw_only=True)
class WithResults(Command):
    """A command that writes files and replaces none but its own."""

    # Replace results of an earlier run; any other file is refused all the same.
    overwrite: bool = False


@dataclass(kw_only=True)
class WithSettings(Command):
    """A command that any setting can follow."""

    overrides: Suppress[tuple[str, ...]] = ()


@dataclass(kw_only=True)
class WithConfig(WithSettings):
    """A command that reads a config; any setting can follow it."""

    config: Annotated[Positional[str], arg(metavar="CONFIG", help="config file or name; any setting may follow it")]

    def load(self, *more: str) -> Config:
        from clrernetlm.config import load_config

        return load_config(self.config, (*self.overrides, *more))


@dataclass(kw_only=True)
class WithCheckpoint(WithConfig):
    """A command that runs a trained model: CONFIG CHECKPOINT, or one word that stands for both."""

    config: Annotated[
        Positional[str], arg(metavar="CONFIG", help="config file or name, or a model of `clrernetlm models` alone")
    ] = ""
    checkpoint: Annotated[
        Positional[str | None],
        arg(metavar="CHECKPOINT", help=".ckpt of a training, or a released .pth or .safetensors"),
    ] = None
    device: Device = "auto"

    def load_model(self, command: str) -> tuple[Config, str]:
        """Settings and weights file; raises UserError of `command` when the words do not name both."""
        check_device(self.device)
        from clrernetlm.config.loading import is_config
        from clrernetlm.weights import REMOTE
        from clrernetlm.weights.resolve import find_settings_and_weights, is_model_name

        released = REMOTE.get(self.config)
        here = is_model_name(self.config) or (released is not None and released.path.is_file())
        if self.checkpoint is None and not here and (not self.config or is_config(self.config)):
            missing = "CHECKPOINT" if self.config else "CONFIG and CHECKPOINT"
            get = f"; `clrernetlm models get {self.config}` downloads it" if released is not None else ""
            raise UserError(f"{command}: {missing} missing{get}; see clrernetlm {command} --help")
        return find_settings_and_weights(self.config, self.checkpoint, self.overrides)
