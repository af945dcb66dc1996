"""Base classes of the commands, and how a command declares its arguments.

A command is a dataclass. Each field is one argument: made by `option` it is given as `--name VALUE`, made by
`positional` by its place. `cli.arguments` fills the fields from the words of a command line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clrernetlm.config import Config

BACKEND_HELP = "what computes, the last two on the CPU; default: torch, or the runtime of an exported file"
TRUST_CODE_HELP = "open a .pt2, which can run code of its maker; no other file can"
DEVICE_HELP = "auto, cpu, cuda, cuda:N or mps"


@dataclass(frozen=True)
class Argument:
    """How one field of a command is given on the command line.

    `metavar`: the value's name in help texts; empty: made from the field's type. `name`: the option without dashes,
    where it is not the field's name. `former_name`: an earlier name of the option, which still works. `convert`: turns
    one word into the value, for types that `value_from_text` does not have; it raises ValueError with the message.
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
    """Declare a field that is given by its place; without a default it is required. A tuple takes all that is left."""
    return field(default=default, metadata={"argument": Argument(help, metavar, positional=True)})


@dataclass(kw_only=True)
class Command:
    """One command."""

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
    """A command that writes files and replaces none but its own."""

    overwrite: bool = option(
        False, help="replace results of an earlier run; any other file is refused even with this option"
    )


@dataclass(kw_only=True)
class WithSettings(Command):
    """A command that takes settings of the config too, such as `--training.epochs 3`."""

    overrides: tuple[str, ...] = ()  # filled with the settings among the words


@dataclass(kw_only=True)
class WithConfig(WithSettings):
    """A command that reads a config."""

    config: str = positional(metavar="CONFIG", help="config file or name; any setting may follow it")

    def load_config(self, *more: str) -> Config:
        """Load the config with the settings of the command line, and `more` of them, applied."""
        from clrernetlm.config import load_config

        return load_config(self.config, (*self.overrides, *more))
