"""Unpickles tensors and plain containers, and turns everything else into inert objects.

A pickle is a program that names functions to call. Here only the few that rebuild tensors exist; every
other name, `os.system` as well as a harmless class of a training engine, becomes `Placeholder`: nothing is imported,
no code runs, and the rest of the file can be read. Time and memory are bounded: instructions are counted, keys
of dictionaries are plain values (others are left out), and a value that repeats itself until it is huge is refused.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

from clrernetlm.core.nesting_limits import check_nesting

UnpicklingError = pickle.UnpicklingError

MAX_INSTRUCTIONS = 300_000  # a training checkpoint of LaneLM has 40,000
MAX_VALUES = 5_000_000  # values in the result; a shared value counts wherever it occurs
MAX_DEPTH = 100  # containers inside containers
MAX_KEY = 1 << 60  # larger integers can be chosen with equal hashes, which make a dictionary very slow
MAX_VIEW = 1 << 20  # values of a tensor that may exceed those of its storage (an expanded tensor)


class Placeholder:
    """Replaces any object of a class that is not read; accepts every operation of a pickle on it, and ignores it."""

    __slots__ = ("__weakref__",)

    def __new__(cls, *args: Any, **kwargs: Any) -> Placeholder:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def _ignore(self, *args: Any, **kwargs: Any) -> None: ...

    append = extend = add = _ignore

    def __repr__(self) -> str:
        return "<not read>"


@dataclass(frozen=True, slots=True)
class StorageKind:
    """The type of a storage that a pickle names: the type of the numbers in its bytes."""

    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes on the CPU that hold the values of tensors."""

    bytes: torch.UntypedStorage
    dtype: torch.dtype


class _Builder:
    """A function that pickles may call, without the attributes through which a pickle could change the function."""

    __slots__ = ("_build",)
    _build: Callable[..., Any]

    def __init__(self, build: Callable[..., Any]) -> None:
        object.__setattr__(self, "_build", build)

    def __setattr__(self, name: str, value: Any) -> None:
        raise UnpicklingError(f"a builder has no {name} to change")

    def __call__(self, *args: Any) -> Any:
        return self._build(*args)


def _tensor(storage: Storage, offset: int, size: Any, stride: Any, *unused: Any, dtype: Any = None) -> Tensor:
    """Build a tensor as a view of a storage, inside its bounds; gradient flags and hooks in the file are left out."""
    dtype = dtype or storage.dtype
    size, stride = tuple(size), tuple(stride)
    if len(size) != len(stride) or any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
        raise UnpicklingError("a tensor of no shape")
    available, values = storage.bytes.nbytes() // dtype.itemsize, 1
    for n in size:
        values *= n
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if values else offset - 1
    if last >= available or values > max(available, MAX_VIEW):
        raise UnpicklingError("a tensor larger than its storage")
    return torch.empty((0,), dtype=dtype).set_(storage.bytes, offset, size, stride)


def _tensor_of_dtype(
    storage: Storage, offset: int, size: Any, stride: Any, grad: Any, hooks: Any, dtype: torch.dtype, *unused: Any
) -> Tensor:
    return _tensor(storage, offset, size, stride, dtype=dtype)


def _parameter(data: Tensor, *unused: Any) -> Tensor:
    return data


def _tensor_of_class(build: Any, kind: Any, arguments: tuple[Any, ...], *unused: Any) -> Any:
    """Build a plain tensor for one of another class or with attributes."""
    return build(*arguments) if isinstance(build, _Builder) else Placeholder()


def _decode_bytes(text: str, encoding: str = "latin1") -> bytes:
    """Decode bytes as pickles of older protocols store them."""
    if encoding != "latin1":
        raise UnpicklingError(f"bytes encoded in {encoding}")
    return text.encode(encoding)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Builder(OrderedDict),
    ("torch._utils", "_rebuild_tensor"): _Builder(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Builder(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): _Builder(_tensor_of_dtype),
    ("torch._utils", "_rebuild_parameter"): _Builder(_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): _Builder(_parameter),
    ("torch._tensor", "_rebuild_from_type_v2"): _Builder(_tensor_of_class),
    ("torch", "Size"): _Builder(torch.Size),
    ("torch", "device"): _Builder(torch.device),
    ("_codecs", "encode"): _Builder(_decode_bytes),
}
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}


class _Counted(dict[int, Callable[[Any], None]]):
    """The instructions by their byte; raises UnpicklingError after `MAX_INSTRUCTIONS` look-ups."""

    left = MAX_INSTRUCTIONS

    def __getitem__(self, key: int) -> Callable[[Any], None]:
        self.left -= 1
        if self.left < 0:
            raise UnpicklingError("too many instructions")
        return super().__getitem__(key)


class Unpickler(pickle._Unpickler):
    """A `pickle.Unpickler` that takes names from a fixed list, never imports, and counts its instructions.

    Derived from the one in Python, because the one in C allocates as many memo slots as a pickle names.
    """

    def __init__(self, file: BinaryIO, persistent_load: Callable[[Any], Any] | None = None) -> None:
        super().__init__(file, encoding="utf-8")
        self.dispatch = _Counted(_INSTRUCTIONS)  # type: ignore[misc]
        if persistent_load is not None:
            self.persistent_load = persistent_load  # type: ignore[assignment, method-assign]

    def load(self) -> Any:
        """Read the object, of bounded size; raises UnpicklingError, or any other exception for broken bytes."""
        value = super().load()
        check_nesting(value, MAX_VALUES, MAX_DEPTH)
        return value

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Return the builder, type or storage of an allowed name, and `Placeholder` for any other name."""
        if module_name.partition(".")[0] == "torch":
            if global_name in _STORAGES:
                return StorageKind(_STORAGES[global_name])
            if isinstance(found := vars(torch).get(global_name), torch.dtype) and module_name == "torch":
                return found
        return _ALLOWED.get((module_name, global_name), Placeholder)

    def _instantiate(self, kind: Any, arguments: Any) -> None:
        self.append(_called(kind, arguments))  # type: ignore[attr-defined]


def _called(function: Any, arguments: Any) -> Any:
    if isinstance(function, _Builder):
        return function(*arguments)
    if function is Placeholder or isinstance(function, Placeholder):
        return Placeholder()
    raise UnpicklingError(f"calls a {type(function).__name__}")


def _load_reduce(unpickler: Any) -> None:
    arguments = unpickler.stack.pop()
    unpickler.stack[-1] = _called(unpickler.stack[-1], arguments)


def _load_newobj_ex(unpickler: Any) -> None:
    unpickler.stack.pop()  # arguments by name
    _load_reduce(unpickler)


def _load_build(unpickler: Any) -> None:
    unpickler.stack.pop()  # attributes, which no object that is read has
    if not isinstance(unpickler.stack[-1], Placeholder | Tensor | dict):
        raise UnpicklingError(f"sets attributes of a {type(unpickler.stack[-1]).__name__}")


def _load_dict(unpickler: Any) -> None:
    items = unpickler.pop_mark()
    unpickler.append(dict(_entries(items)))


def _load_setitem(unpickler: Any) -> None:
    value, key = unpickler.stack.pop(), unpickler.stack.pop()
    _fill(unpickler.stack[-1], [key, value])


def _load_setitems(unpickler: Any) -> None:
    items = unpickler.pop_mark()
    _fill(unpickler.stack[-1], items)


def _fill(target: Any, items: list[Any]) -> None:
    if isinstance(target, Placeholder):
        return
    if not isinstance(target, dict):
        raise UnpicklingError(f"sets items of a {type(target).__name__}")
    target.update(_entries(items))


def _entries(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Pair alternating keys and values; pairs whose key is no plain value are left out."""
    return ((key, value) for key, value in zip(items[::2], items[1::2], strict=True) if _is_plain(key))


def _is_plain(key: Any) -> bool:
    """Check that hashing a key is fast whatever its value: nested tuples can take very long."""
    return isinstance(key, str | bytes | None) or (isinstance(key, int) and abs(key) < MAX_KEY)


def _load_additems(unpickler: Any) -> None:
    items = unpickler.pop_mark()
    if isinstance(unpickler.stack[-1], set):
        unpickler.stack[-1].update(filter(_is_plain, items))


def _load_frozenset(unpickler: Any) -> None:
    items = unpickler.pop_mark()
    unpickler.append(frozenset(filter(_is_plain, items)))


_REFUSED = (
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4),  # names that other code has registered
    *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),  # memory as large as the file says
)
_INSTRUCTIONS: dict[int, Callable[[Any], None]] = {
    code: load for code, load in pickle._Unpickler.dispatch.items() if bytes([code]) not in _REFUSED
} | {
    pickle.REDUCE[0]: _load_reduce,
    pickle.NEWOBJ[0]: _load_reduce,
    pickle.NEWOBJ_EX[0]: _load_newobj_ex,
    pickle.BUILD[0]: _load_build,
    pickle.DICT[0]: _load_dict,
    pickle.SETITEM[0]: _load_setitem,
    pickle.SETITEMS[0]: _load_setitems,
    pickle.ADDITEMS[0]: _load_additems,
    pickle.FROZENSET[0]: _load_frozenset,
}


def load(file: BinaryIO, persistent_load: Callable[[Any], Any] | None = None) -> Any:
    """Read the object in `file` with `Unpickler`; `persistent_load` returns the storage of a persistent id."""
    return Unpickler(file, persistent_load).load()
