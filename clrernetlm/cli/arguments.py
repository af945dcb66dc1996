"""Words of the command line -> a command, with errors of one line."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import tyro

from clrernetlm.cli.base import Command, WithSettings
from clrernetlm.cli.commands import COMMANDS
from clrernetlm.config.suggestions import closest, did_you_mean
from clrernetlm.core.errors import UserError
from clrernetlm.core.notices import print_once
from clrernetlm.core.version import __version__

PROGRAM = "clrernetlm"


def run(words: Sequence[str]) -> int:
    """Run the command that `words` ask for and return its exit code; raises UserError for bad arguments."""
    first = words[0] if words else "--help"
    if first in ("-h", "--help", "help"):
        print(overview())
        return 0
    if first == "--version":
        print(PROGRAM, __version__)
        return 0
    if first not in COMMANDS:
        hint = did_you_mean(first, COMMANDS) or f"; use one of {', '.join(COMMANDS)}"
        raise UserError(f"{first}: no such command{hint}")
    if {"-h", "--help"} & set(words):
        tyro.cli(COMMANDS[first], prog=f"{PROGRAM} {first}", args=["--help"], config=MARKERS)
    return parse(first, words[1:]).run()


def overview() -> str:
    """The text of `clrernetlm --help`."""
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


def parse(name: str, words: Sequence[str]) -> Command:
    """The command `name` with its options filled in; raises UserError."""
    cls = COMMANDS[name]
    overrides: list[str] = []
    rest = [_present_option(cls, word) for word in words]
    if issubclass(cls, WithSettings):
        from clrernetlm.config.overrides import split_overrides

        overrides, rest = split_overrides(words)
    _check_options(name, cls, rest)
    # tyro explains in boxes of several lines; ours is one line with its first sentences.
    boxes = io.StringIO()
    try:
        with contextlib.redirect_stderr(boxes):
            command = tyro.cli(cls, prog=f"{PROGRAM} {name}", args=rest, config=MARKERS)
    except SystemExit:
        raise UserError(f"{name}: {_one_line(boxes.getvalue())}; see {PROGRAM} {name} --help") from None
    return replace(command, overrides=tuple(overrides)) if isinstance(command, WithSettings) else command


def _present_option(cls: type[Command], word: str) -> str:
    """Replace the former name of an option by its present one, and say so once."""
    option, equals, value = word.partition("=")
    present = cls.renamed_options.get(option)
    if present is None:
        return word
    print_once(f"{option} is now called {present}")
    return f"{present}{equals}{value}"


MARKERS = (tyro.conf.FlagCreatePairsOff,)


def _check_options(name: str, cls: type[Command], words: Sequence[str]) -> None:
    """Raise UserError for an option that the command lacks, with the closest option or setting."""
    own = {option_name(item): item for item in fields(cls) if item.name != "overrides"}
    for word in words:
        option = word.partition("=")[0].replace("_", "-")
        if not option.startswith("--") or option == "--" or option.removeprefix("--") in own:
            continue
        near = [f"--{other}" for other in closest(option.removeprefix("--"), own)]
        if not near and issubclass(cls, WithSettings):
            from clrernetlm.config.serialization import setting_types

            near = [f"--{setting}" for setting in closest(option.removeprefix("--"), setting_types())]
        hint = f"; did you mean {near[0]}?" if near else f"; see {PROGRAM} {name} --help"
        raise UserError(f"{option}: {name} has no such option{hint}")


def option_name(item: Any) -> str:
    """The option of a command's field, without dashes in front."""
    return item.metadata.get("option", item.name.replace("_", "-"))


def _summary(cls: type[Command]) -> str:
    return (cls.__doc__ or "").partition("\n")[0].rstrip(".")


def _one_line(boxes: str) -> str:
    """The message inside tyro's box, what stands between its first two rules, in the words of our other errors."""
    lines = boxes.splitlines()
    rules = [index for index, line in enumerate(lines) if re.search(r"[─-]{8,}", line)]
    start, end = (rules[0] + 1, rules[1]) if len(rules) > 1 else (0, len(lines))
    text = " ".join(" ".join(lines[start:end]).replace("│", " ").split()).rstrip(". ")
    if "(required)" in text:
        # Each missing argument is its option or metavar, then its help, then "(required)".
        missing = re.findall(r"(--[\w-]+|\b[A-Z]{3,}\b)(?=.*?\(required\))", text)
        options = [word for word in missing if word.startswith("--")]
        return f"{' and '.join(options or missing)} missing"
    for pattern, wording in REWORDED.items():
        text = re.sub(pattern, wording, text)
    return text


REWORDED = {
    r"'None', |, 'None'": "",  # what an option is that was left out; no word for it
    r"^Unrecognized options: (.*)": r"\1: not expected",
    r"^Missing value for argument '(.*?)'.*": r"\1: a value is missing",
    r"^invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)": r"\2: '\1' is not one of \3",
    r"^Error parsing ": "",
    r"invalid literal for int\(\) with base 10: (.*)": r"\1 is not an int",
    r"no type matching .*FLOAT could be instantiated from \[(.*?)\].*": r"\1 is not a number",
}
