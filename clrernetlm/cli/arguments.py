"""Parses the arguments of the command line into a command, and formats help texts. Errors are one line."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from clrernetlm.cli.command import Argument, Command, WithSettings
from clrernetlm.cli.commands import COMMANDS
from clrernetlm.cli.messages import with_options
from clrernetlm.config.suggestions import closest, did_you_mean
from clrernetlm.config.text_values import value_from_text, without_none
from clrernetlm.core.argument_checks import describe
from clrernetlm.core.errors import UserError
from clrernetlm.core.notices import print_once
from clrernetlm.core.version import __version__

PROGRAM = "clrernetlm"
HELP_COLUMN = 24  # column of a help text in which explanations begin


def run(arguments: Sequence[str]) -> int:
    """Run the command of a command line and return its exit code; raises UserError that names options, not parameters.

    `arguments`: the name of the command, then its own arguments.
    """
    first = arguments[0] if arguments else "--help"
    if first in ("-h", "--help", "help"):
        print(overview())
        return 0
    if first == "--version":
        print(PROGRAM, __version__)
        return 0
    if first not in COMMANDS:
        hint = did_you_mean(first, COMMANDS) or f"; use one of {', '.join(COMMANDS)}"
        raise UserError(f"{first}: no such command{hint}")
    if {"-h", "--help"} & set(arguments):
        print(help_text(first))
        return 0
    command = parse(first, arguments[1:])
    try:
        return command.run()
    except UserError as error:
        all_options = {key: value for cls in COMMANDS.values() for key, value in options_of(cls).items()}
        raise UserError(with_options(str(error), options_of(type(command)), all_options, arguments)) from error


def overview() -> str:
    """Return the text of `clrernetlm --help`."""
    rows = [f"  {name:<12}{_summary(command)}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND ...",
            "",
            *rows,
            "",
            f"`{PROGRAM} COMMAND --help` explains a command. CONFIG is a file or a name such as clrernet_culane_dla34;",
            "after it any setting can be given: --training.epochs 3",
        ]
    )


@dataclass(frozen=True)
class Field:
    """One argument of a command: its field's name, type and default, and its form on the command line."""

    name: str
    annotation: Any
    default: Any
    argument: Argument

    @property
    def label(self) -> str:
        """Return the option with its dashes, or the metavar of a positional argument."""
        return self.argument.metavar if self.argument.positional else f"--{self.option}"

    @property
    def option(self) -> str:
        """Return the option without dashes."""
        return self.argument.name or self.name.replace("_", "-")

    @property
    def is_flag(self) -> bool:
        """Return whether the option takes no value."""
        return self.annotation is bool

    @property
    def is_list(self) -> bool:
        """Return whether the field takes any number of values."""
        return Ellipsis in get_args(self.annotation)

    @property
    def metavar(self) -> str:
        """Return the value's name in help texts; empty for flags."""
        if self.argument.metavar or self.is_flag:
            return self.argument.metavar
        value_type = without_none(self.annotation)
        if get_origin(value_type) is Literal:
            return f"{{{','.join(get_args(value_type))}}}"
        return {int: "N", float: "NUMBER", Path: "PATH"}.get(value_type, "TEXT")

    @property
    def usage(self) -> str:
        """Return the option with the name of its value."""
        return f"{self.label} {self.metavar}".rstrip()

    def value(self, arguments: Sequence[str]) -> Any:
        """Convert the field's arguments to its value; raises UserError."""
        convert = self.argument.convert
        try:
            return convert(arguments[0]) if convert is not None else value_from_text(self.annotation, arguments)
        except ValueError as error:
            if convert is not None:
                raise UserError(f"{self.label}: {error}") from None
        item_type = get_args(self.annotation)[0] if self.is_list else without_none(self.annotation)
        wrong = next(argument for argument in arguments if not _is_value(item_type, argument))
        raise UserError(f"{self.label}: '{wrong}' is not {describe(item_type)}")

    def count(self, arguments: Sequence[str]) -> int:
        """Count how many of the arguments after an option are its values.

        A list of numbers ends before the first argument that is no number: `speed --batch 1 2 CONFIG`.
        """
        following = next((i for i, argument in enumerate(arguments) if argument.startswith("--")), len(arguments))
        if not self.is_list:
            return min(1, following)
        item_type = get_args(self.annotation)[0]
        if item_type not in (int, float):
            return following
        numbers = next(
            (i for i, argument in enumerate(arguments[:following]) if not _is_value(item_type, argument)), following
        )
        return numbers or min(1, following)


def _is_value(annotation: Any, argument: str) -> bool:
    try:
        value_from_text(annotation, [argument])
    except ValueError:
        return False
    return True


def command_fields(cls: type[Command]) -> list[Field]:
    """Return the arguments of a command, in the order of its class and base classes."""
    types = get_type_hints(cls)
    return [
        Field(item.name, types[item.name], item.default, item.metadata["argument"])
        for item in fields(cls)
        if "argument" in item.metadata
    ]


def options_of(cls: type[Command]) -> dict[str, str]:
    """Return {field: option with its dashes} of a command."""
    return {item.name: item.label for item in command_fields(cls) if not item.argument.positional}


def parse(name: str, arguments: Sequence[str]) -> Command:
    """Fill the command `name` with its arguments; raises UserError.

    Options, settings and positional arguments may be mixed; after `--` all are positional. Underscores and hyphens in
    names of options are equivalent.
    """
    cls = COMMANDS[name]
    see_help = f"see {PROGRAM} {name} --help"
    overrides: list[str] = []
    arguments = list(arguments)
    if issubclass(cls, WithSettings):
        from clrernetlm.config.overrides import split_overrides

        overrides, arguments = split_overrides(arguments)
    options = {item.option: item for item in command_fields(cls) if not item.argument.positional}
    former = {item.argument.former_name: item for item in options.values() if item.argument.former_name}
    values: dict[str, Any] = {"overrides": tuple(overrides)} if issubclass(cls, WithSettings) else {}
    positional: list[str] = []
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        position += 1
        if argument == "--":
            positional += arguments[position:]
            break
        if not argument.startswith("--"):
            if argument.startswith("-") and argument != "-" and not _is_value(float, argument):
                raise UserError(f"{name}: {argument}: not expected; {see_help}")
            positional.append(argument)
            continue
        given, equals, text = argument.partition("=")
        item = {**former, **options}.get(given.removeprefix("--").replace("_", "-"))
        if item is not None and item.label != given.replace("_", "-"):
            print_once(f"{given} is now called {item.label}")
        if item is None:
            raise _no_such_option(name, given.replace("_", "-"), options)
        if item.is_flag:
            if equals:
                raise UserError(f"{name}: {item.label}: takes no value; {see_help}")
            values[item.name] = True
            continue
        count = item.count(arguments[position:]) if not equals or item.is_list else 0
        texts = [*([text] if equals else []), *arguments[position : position + count]]
        position += count
        if not texts:
            raise UserError(f"{name}: {item.label}: a value is missing; {see_help}")
        values[item.name] = _converted(item, texts, f"{name}: ", see_help)
    return cls(**values, **_positional_values(name, cls, positional, values))


def _positional_values(name: str, cls: type[Command], arguments: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """Assign the arguments that are no options to the positional fields; raises UserError also for missing ones."""
    see_help = f"see {PROGRAM} {name} --help"
    values: dict[str, Any] = {}
    for item in command_fields(cls):
        if item.argument.positional and arguments:
            count = len(arguments) if item.is_list else 1
            values[item.name] = _converted(item, arguments[:count], f"{name}: ", see_help)
            arguments = arguments[count:]
    if arguments:
        raise UserError(f"{name}: {', '.join(arguments)}: not expected; {see_help}")
    missing = [
        item.label.partition(".")[0]
        for item in command_fields(cls)
        if item.default is MISSING and item.name not in values and item.name not in given
    ]
    if missing:
        raise UserError(f"{name}: {' and '.join(missing)} missing; {see_help}")
    return values


def _converted(item: Field, arguments: Sequence[str], prefix: str, see_help: str) -> Any:
    try:
        return item.value(arguments)
    except UserError as error:
        raise UserError(f"{prefix}{error}; {see_help}") from None


def _no_such_option(name: str, given: str, options: dict[str, Field]) -> UserError:
    """Return the error for an option that the command lacks, with the closest option or setting."""
    near = [f"--{other}" for other in closest(given.removeprefix("--"), options)]
    if not near and issubclass(COMMANDS[name], WithSettings):
        from clrernetlm.config.serialization import setting_types

        near = [f"--{setting}" for setting in closest(given.removeprefix("--"), setting_types())]
    hint = f"; did you mean {near[0]}?" if near else f"; see {PROGRAM} {name} --help"
    return UserError(f"{given}: {name} has no such option{hint}")


def help_text(name: str, width: int | None = None) -> str:
    """Return the text of `clrernetlm NAME --help`, for a terminal of `width` columns; None: as wide as this one."""
    width = width or shutil.get_terminal_size().columns
    items = command_fields(COMMANDS[name])
    positionals = [item for item in items if item.argument.positional]
    options = [item for item in items if not item.argument.positional]
    usage = [f"usage: {PROGRAM} {name}", "[options]"]
    usage += [item.label if item.default is MISSING or item.is_list else f"[{item.label}]" for item in positionals]
    usage += [item.usage for item in options if item.default is MISSING]
    lines = [" ".join(usage), "", *textwrap.wrap((COMMANDS[name].__doc__ or "").partition("\n\n")[0], width)]
    for title, members in (("arguments", positionals), ("options", options)):
        rows = [(item.label if item.argument.positional else item.usage, _help_of(item)) for item in members]
        rows += [("-h, --help", "show this text")] if title == "options" else []
        if rows:
            lines += ["", f"{title}:"]
        for label, text in rows:
            wrapped = textwrap.wrap(text, max(width - HELP_COLUMN, 20))
            beside = len(label) + 4 <= HELP_COLUMN
            lines.append(f"  {label:<{HELP_COLUMN - 2}}{wrapped.pop(0)}" if beside else f"  {label}")
            lines += [" " * HELP_COLUMN + line for line in wrapped]
    return "\n".join(lines)


def _help_of(item: Field) -> str:
    """Return a field's help with its default, unless the help says it or the option is off without it."""
    text = item.argument.help
    if item.default is MISSING:
        return f"{text} (required)"
    if item.default is None or item.default is False or item.default in ("", ()) or "default" in text:
        return text
    return f"{text} (default: {_text_of(item.default)})"


def _text_of(value: Any) -> str:
    if isinstance(value, tuple):
        size = len(value) == 2 and all(type(side) is int for side in value)
        return ("x" if size else " ").join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _summary(cls: type[Command]) -> str:
    return (cls.__doc__ or "").partition("\n")[0].rstrip(".")
