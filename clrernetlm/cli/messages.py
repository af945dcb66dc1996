"""Translates error messages of the library for the command line: parameters become options."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

# A parameter in a hint, such as `overwrite=True`, `out` or `precision=fp32`.
_IN_BACKTICKS = re.compile(r"`(\w+)(?:=([^`]*))?`")


def with_options(
    message: str, own_options: Mapping[str, str], all_options: Mapping[str, str], arguments: Sequence[str]
) -> str:
    """Return a message of a UserError with options in the place of parameters.

    Two places hold parameters. In front of the first colon (`precision: ...`) they are those of the command that ran,
    {parameter: option}; a text that is one of the command's `arguments`, such as a file called precision, stays. In
    backticks (`overwrite=True`) they may also be those of other commands.
    """
    name, colon, rest = message.partition(": ")
    if colon and name in own_options and name not in arguments:
        message = f"{own_options[name]}{colon}{rest}"

    def option(found: re.Match[str]) -> str:
        parameter, value = found.groups()
        known = own_options.get(parameter) or all_options.get(parameter)
        if known is None:
            return found[0]
        return known if value in (None, "True") else f"{known} {value}"

    return _IN_BACKTICKS.sub(option, message)
