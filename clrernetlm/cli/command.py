"""Defines the base classes of the commands, and how a command declares its arguments.

A command is a dataclass. Each field is one argument: one made by `option` is given as `--name VALUE`, one made by
`positional` by its position. `cli.arguments` fills the fields from the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field
from typing import TYPE_CHECKING, Any

from clrernetlm.core.errors import UserError

if TYPE_CHECKING:
    from clrernetlm.config import Config

BACKEND_HELP = "what computes, the last two on the CPU; default: torch, or the runtime of an exported file"
TRUST_CODE_HELP = "open a .pt2, which can run code of its maker; no other file can"
DEVICE_HELP = "auto, cpu, cuda, cuda:N or mps"


@dataclass(frozen=True)
class Argument:
    """Describes how one field of a command is given on the command line.

    `metavar`: the value's name in help texts; empty: made from the field's type. `name`: the option without dashes, if
    it differs from the field's name. `former_name`: an earlier name of the option, which still works. `convert`: turns
    a text into the value, for types that `value_from_text` lacks; it raises ValueError with the message.
    """

    help: str
    metavar: str = ""
    positional: bool = False
    name: str = ""
    convert: Callable[[str], Any] | None = None
    former_name: str = ""


def option(
    default: Any = MISSING,
    *,
    help: str,
    metavar: str = "",
    name: str = "",
    convert: Callable[[str], Any] | None = None,
    former_name: str = "",
) -> Any:
    """Declare a field that is given as `--name VALUE`; without a default the option is required."""
    return field(default=default, metadata={"argument": Argument(help, metavar, False, name, convert, former_name)})


def positional(default: Any = MISSING, *, help: str, metavar: str) -> Any:
    """Declare a field that is given by its position; required without a default. A tuple takes all that remain."""
    return field(default=default, metadata={"argument": Argument(help, metavar, positional=True)})


@dataclass(kw_only=True)
class Command:
    """Base class of all commands; the docstring of a command is its help text."""

    def run(self) -> int:
        """Run the command; returns the exit code."""
        raise NotImplementedError


def check_device(name: str) -> None:
    """Raise UserError for a device that this machine lacks, before models, data and PyTorch's runtimes are loaded."""
    if name not in ("auto", "cpu"):
        from clrernetlm.core.device import select_device

        select_device(name)


@dataclass(kw_only=True)
class WithResults(Command):
    """A command that writes files, and replaces only results of its own."""

    overwrite: bool = option(
        False, help="replace results of an earlier run; any other file is refused even with this option"
    )


@dataclass(kw_only=True)
class WithSettings(Command):
    """A command that also takes settings of the config, such as `--training.epochs 3`."""

    overrides: tuple[str, ...] = ()  # the settings among the arguments


@dataclass(kw_only=True)
class WithConfig(WithSettings):
    """A command that reads a config."""

    config: str = positional(metavar="CONFIG", help="config file or name; any setting may follow it")

    def load_config(self, *more: str) -> Config:
        """Load the config, and apply the settings of the command line and then those in `more`."""
        from clrernetlm.config import load_config

        return load_config(self.config, (*self.overrides, *more))


@dataclass(kw_only=True)
class WithCheckpoint(WithConfig):
    """A command that runs a trained model, given as CONFIG CHECKPOINT, or as the name of a model or a packed file."""

    config: str = positional(
        "", metavar="CONFIG", help="config file or name, or a model of `clrernetlm models` without CHECKPOINT"
    )
    checkpoint: str | None = positional(
        None, metavar="CHECKPOINT", help=".ckpt of a training, or a released .pth or .safetensors"
    )
    device: str = option("auto", metavar="DEVICE", help=DEVICE_HELP)

    def find_model(self, command: str) -> tuple[Config, str]:
        """Return the config and the weights file of the model; raises UserError unless the arguments name both.

        `command`: its name on the command line, for the message.
        """
        check_device(self.device)
        from clrernetlm.config.loading import is_config
        from clrernetlm.weights.registry import REMOTE
        from clrernetlm.weights.resolve import has_weights, resolve_model

        if self.checkpoint is None and (not self.config or (is_config(self.config) and not has_weights(self.config))):
            missing = "CHECKPOINT" if self.config else "CONFIG and CHECKPOINT"
            get = f"; `clrernetlm models get {self.config}` downloads it" if self.config in REMOTE else ""
            raise UserError(f"{command}: {missing} missing{get}; see clrernetlm {command} --help")
        return resolve_model(self.config, self.checkpoint, self.overrides)
