"""Checks the arguments of public functions: a value of a wrong type or range is a UserError that names the argument.

`@check_arguments` checks all arguments of a function against its annotations; the other functions check one value each.
Supported are numbers, texts, paths, flags, literals, tuples and sequences of these, classes and unions; NumPy's scalars
are accepted as numbers. Arrays are checked by the functions, because their shapes are not part of annotations.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from reprlib import Repr
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import ArrayLike

from clrernetlm.core.arrays import Float64Array
from clrernetlm.core.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")
_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = 2, 80, 40, 80
MAX_REPR_LENGTH = 150  # characters of a value in a message
MAX_INT = 2**63 - 1  # integers that NumPy and PyTorch can hold


def require_path(value: object, name: str) -> None:
    """Raise UserError unless `value` is a text or path-like object that can name a file."""
    try:
        path = os.fspath(value)  # type: ignore[call-overload]
    except TypeError:
        path = None
    if not isinstance(path, str) or not path:
        raise UserError(f"{name}: {short_repr(value)} is not a path; use a text or a Path")
    if "\0" in path:
        raise UserError(
            f"{name}: {short_repr(path)} holds a NUL character, which no path may; check where it comes from"
        )


def require_whole_number(value: object, name: str, least: int | None = None, most: int | None = None) -> None:
    """Raise UserError unless `value` is a whole number from `least` to `most`."""
    _require_in_range(value, name, Integral, "whole number", least, most)


def require_number(value: object, name: str, least: float | None = None, most: float | None = None) -> None:
    """Raise UserError unless `value` is a number from `least` to `most`; NaN is not a number."""
    _require_in_range(value, name, Real, "number", least, most)


def _require_in_range(value: Any, name: str, kind: type, called: str, least: float | None, most: float | None) -> None:
    wording = (
        f"use {least or 0:g}{f' to {most:g}' if most is not None else ' or more'}"
        if least is not None
        else f"use a {called}"
    )
    if not _is_number(value, kind):
        raise UserError(f"{name}: {short_repr(value)} is not a {called}; {wording}")
    if (least is not None and value < least) or (most is not None and value > most):
        raise UserError(f"{name}: {short_repr(value)} is out of range; {wording}")


def require_size(value: object, name: str, least: int, most: int) -> None:
    """Raise UserError unless `value` is (width, height) in whole pixels from `least` to `most`."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise UserError(f"{name}: {short_repr(value)} is not (width, height) in pixels; use {least} to {most} for both")
    for side in value:
        if not _is_number(side, Integral) or not least <= side <= most:
            raise UserError(
                f"{name}: {short_repr(value)} is not (width, height) in pixels; use {least} to {most} for both"
            )


def require_texts(value: object, name: str) -> None:
    """Raise UserError unless `value` is a list or tuple of texts."""
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise UserError(f"{name}: {short_repr(value)} is not a list of texts; use a list or tuple of them")


def require_sequence(value: object, name: str, of: str) -> None:
    """Raise UserError unless `value` is a sequence, such as a list, tuple or array, and no text.

    `of` names its items in the plural, for the message.
    """
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return
    if not hasattr(value, "__array__") or not getattr(value, "shape", ()):
        raise UserError(f"{name}: {short_repr(value)} is not a list of {of}; use a list or tuple of them")


def short_repr(value: Any) -> str:
    """Format a value for a message, like `repr` with bounded length and time: it may come from a hostile file."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, int) and value.bit_length() > 10_000:  # converting it to text takes seconds, and is refused
        return "a number of thousands of digits"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return f"{type(value).__name__} of shape {tuple(shape)}"
    try:
        text = _SHORT.repr(value)
    except Exception:  # any error of a __repr__
        return f"a {type(value).__name__}"
    return text if len(text) <= MAX_REPR_LENGTH else f"{text[: MAX_REPR_LENGTH - 3]}..."


def _is_number(value: object, kind: type) -> bool:
    if isinstance(value, bool) or not isinstance(value, kind):
        return False
    try:
        return not math.isnan(value)  # type: ignore[arg-type]
    except OverflowError:  # a whole number beyond every float
        return kind is Integral


@dataclass(frozen=True)
class Range:
    """Smallest and largest number allowed, for `Annotated`."""

    least: float
    most: float = math.inf

    def __str__(self) -> str:
        return f"from {self.least:g} to {self.most:g}" if self.most < math.inf else f"of {self.least:g} or more"


Fraction = Annotated[float, Range(0, 1)]
ClickSigma = Annotated[float, Range(0.1, 100)]  # pixels


class _Mismatch(Exception):
    """Raised for a value that does not match its annotation."""


def check_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function to raise UserError for arguments that do not match its annotations.

    Other arguments are passed unchanged, but NumPy's scalars are converted to Python's. The annotations are read at the
    first call.
    """
    signature = inspect.signature(function)

    @functools.cache
    def annotations() -> dict[str, Any]:
        return get_type_hints(function, include_extras=True)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs)
        for name, value in given.arguments.items():
            annotation = annotations().get(name)
            if annotation is not None and name not in ("self", "cls"):
                given.arguments[name] = check_argument(name, value, annotation)
        return function(*given.args, **given.kwargs)

    return checked


def check_argument(name: str, value: Any, annotation: Any) -> Any:
    """Convert `value` to the annotated type; raises UserError that begins with `name`."""
    try:
        return _fit(value, annotation)
    except _Mismatch:
        if isinstance(value, str) and (choices := _choices(annotation)):
            raise UserError(f"{name}: {short_repr(value)} is unknown; use one of {', '.join(choices)}") from None
        raise UserError(f"{name}: {short_repr(value)} is not {describe(annotation)}") from None


def number_array(value: Any, name: str, expected: str) -> Float64Array:
    """Convert an array-like of real numbers to float64; raises UserError that names the `expected` shape."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # ragged lists; tensors with gradients or on a GPU
        array = np.asarray(None)
    if array.dtype.kind not in "iuf" and array.size:
        raise UserError(f"{name}: not an array of numbers; expected {expected}")
    return array.astype(np.float64, copy=False) if array.size else np.zeros(array.shape)


def describe(annotation: Any) -> str:
    """Describe an annotation in words that follow "is not "."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is ArrayLike:
        return "an array"
    if origin is Annotated:
        return " ".join([describe(arguments[0]), *map(str, arguments[1:])])
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (Union, UnionType):
        hidden = {NoneType, str} if os.PathLike[str] in arguments else {NoneType}  # a path may be a text
        options = [describe(option) for option in arguments if option not in hidden]
        return " or ".join([*dict.fromkeys(options), *(["None"] if NoneType in arguments else [])])
    if origin is tuple:
        count = "a list of" if Ellipsis in arguments else str(len(arguments))
        return f"{count} {_plural(arguments[0])}"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return f"a list of {_plural(arguments[0])}"
    if origin is os.PathLike or annotation is os.PathLike:
        return "a path"
    words = {int: "an int", float: "a number", str: "a text", bool: "True or False"}
    return words.get(annotation) or f"a {getattr(annotation, '__name__', annotation)}"


def _plural(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if annotation is ArrayLike:
        return "arrays"
    words = {int: "ints", float: "numbers", str: "texts"}
    return words.get(annotation) or ("images" if get_origin(annotation) is np.ndarray else "such values")


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    if get_origin(annotation) in (Union, UnionType):
        return [choice for option in get_args(annotation) for choice in _choices(option)]
    return []


def _fit(value: Any, annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is ArrayLike:
        return value
    if origin is Annotated:
        fitted = _fit(value, arguments[0])
        if any(isinstance(rule, Range) and not rule.least <= fitted <= rule.most for rule in arguments[1:]):
            raise _Mismatch
        return fitted
    if origin in (Union, UnionType):
        return _fit_any(value, arguments)
    if origin is Literal:
        if any(type(value) is type(choice) and value == choice for choice in arguments):
            return value
        raise _Mismatch
    if origin is tuple or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return _fit_items(value, origin, arguments)
    if annotation in CONVERTERS:
        return CONVERTERS[annotation](value)
    if origin is os.PathLike or annotation is os.PathLike:
        return _path(value)
    if origin is None and isinstance(annotation, type) and annotation not in (object, Any):
        if isinstance(value, annotation):
            return value
        raise _Mismatch
    return value  # arrays, callables and other values that functions check themselves


def _fit_any(value: Any, options: Sequence[Any]) -> Any:
    if type(value) is str and value == "" and os.PathLike[str] in options:
        raise _Mismatch
    for option in options:
        try:
            return _fit(value, option)
        except _Mismatch:
            continue
    raise _Mismatch


def _fit_items(value: Any, origin: Any, arguments: Sequence[Any]) -> Any:
    if isinstance(value, np.ndarray) and value.ndim and arguments[0] is ArrayLike:
        return list(value)
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iuf":
        value = value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise _Mismatch
    fixed = origin is tuple and Ellipsis not in arguments
    if fixed and len(value) != len(arguments):
        raise _Mismatch
    kinds = arguments if fixed else [arguments[0]] * len(value)
    items = [_fit(item, kind) for item, kind in zip(value, kinds, strict=True)]
    return tuple(items) if origin is tuple else items


def _number(value: Any) -> float:
    if not _is_number(value, Real) or not math.isfinite(value):
        raise _Mismatch
    return float(value)


def _int(value: Any) -> int:
    if not _is_number(value, Integral) or abs(value) > MAX_INT:
        raise _Mismatch
    return operator.index(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise _Mismatch
    return bool(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise _Mismatch
    return value


def _path(value: Any) -> Any:
    if not isinstance(value, os.PathLike) or not isinstance(os.fspath(value), str) or "\0" in os.fspath(value):
        raise _Mismatch
    return value


def _nothing(value: Any) -> None:
    if value is not None:
        raise _Mismatch


CONVERTERS: dict[Any, Callable[[Any], Any]] = {
    int: _int,
    float: _number,
    bool: _flag,
    str: _text,
    NoneType: _nothing,
}
