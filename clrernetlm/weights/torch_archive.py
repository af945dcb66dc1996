"""Reads files of `torch.save`, of the zip and the legacy format, without running code in them.

Sizes stated in a file are compared with the file's own before memory is allocated. Not read: tar archives of 2016, and
compressed zip archives (PyTorch writes neither).
"""

from __future__ import annotations

import io
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from clrernetlm.weights import safe_unpickler
from clrernetlm.weights.safe_unpickler import Storage, StorageKind, UnpicklingError

ZIP = b"PK\x03\x04"
MAX_DIRECTORY = 1 << 24  # bytes of a zip archive's table of contents; 2,500 tensors take 0.3 MB
MAX_STORAGES = 100_000
# A file of the legacy format begins with this number and this version.
MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001


class TorchScriptError(UnpicklingError):
    """Raised for a TorchScript program, which is no checkpoint."""


def read_torch_file(path: Path) -> Any:
    """Read the object that `torch.save` wrote: tensors on the CPU, plain values, and `Placeholder` for all others.

    Raises OSError, TorchScriptError, UnpicklingError, or any other exception for broken bytes.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(len(ZIP))
        file.seek(0)
        return _read_zip(file, size) if start == ZIP else _read_legacy(file, size)


def _read_zip(file: BinaryIO, size: int) -> Any:
    if _directory_size(file, size) > MAX_DIRECTORY:
        raise UnpicklingError("too many members")
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        root = next(name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl"))
        if f"{root}constants.pkl" in members:
            raise TorchScriptError("a TorchScript program")
        if any(info.compress_type or info.file_size != info.compress_size for info in members.values()):
            raise UnpicklingError("compressed members")
        if sum(info.file_size for info in archive.infolist()) > size:
            raise UnpicklingError("members that share their bytes")
        byte_order = archive.read(f"{root}byteorder").decode() if f"{root}byteorder" in members else "little"
        storages: dict[str, Storage] = {}

        def storage(identity: Any) -> Any:
            kind, key, _, count = _storage_reference(identity, 4)
            if key not in storages:
                member = members[f"{root}data/{key}"]
                if count * kind.dtype.itemsize > member.file_size:
                    raise UnpicklingError("a storage larger than its member")
                with archive.open(member) as content:
                    filled = _fill(torch.UntypedStorage(member.file_size), content)
                if byte_order != sys.byteorder:
                    filled.byteswap(kind.dtype)
                storages[key] = Storage(filled, kind.dtype)
            return storages[key]

        with archive.open(f"{root}data.pkl") as pickled:
            return safe_unpickler.load(io.BytesIO(pickled.read()), storage)


def _directory_size(file: BinaryIO, size: int) -> int:
    """Read the size in bytes of a zip archive's table of contents from its last record, for large archives Zip64's."""
    file.seek(max(size - 98, 0))
    end = file.read().rjust(98, b"\0")
    if end[76:80] != b"PK\x05\x06":
        raise UnpicklingError("no zip archive")
    large = end[56:60] == b"PK\x06\x07"
    offset: int = struct.unpack_from("<Q", end, 40)[0] if large else struct.unpack_from("<I", end, 76 + 12)[0]
    return offset


def _read_legacy(file: BinaryIO, size: int) -> Any:
    if safe_unpickler.load(file) != MAGIC or safe_unpickler.load(file) != VERSION:
        raise UnpicklingError("no file of torch.save")
    byte_order = safe_unpickler.load(file)
    storages: dict[Any, Storage] = {}
    bytes_left = size

    def storage(identity: Any) -> Any:
        nonlocal bytes_left
        if isinstance(identity, tuple) and identity[:1] == ("module",):
            return identity[1]
        kind, key, _, count, view = _storage_reference(identity, 5)
        if key not in storages:
            bytes_left -= count * kind.dtype.itemsize
            if bytes_left < 0 or len(storages) == MAX_STORAGES:
                raise UnpicklingError("storages larger than the file")
            storages[key] = Storage(torch.UntypedStorage(count * kind.dtype.itemsize), kind.dtype)
        whole = storages[key]
        if view is None:
            return whole
        _, offset, values = view
        first, last = (n * kind.dtype.itemsize for n in (offset, offset + values))
        if not 0 <= first <= last <= whole.bytes.nbytes():
            raise UnpicklingError("a view outside of its storage")
        return Storage(whole.bytes[first:last], kind.dtype)

    value = safe_unpickler.load(file, storage)
    keys = safe_unpickler.load(file)
    if set(keys) != set(storages):
        raise UnpicklingError("storages without their bytes")
    for key in keys:
        filled = storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        if count * filled.dtype.itemsize != filled.bytes.nbytes():
            raise UnpicklingError("a storage of another size")
        _fill(filled.bytes, file)
        if isinstance(byte_order, dict) and byte_order.get("little_endian", True) != (sys.byteorder == "little"):
            filled.bytes.byteswap(filled.dtype)
    return value


def _storage_reference(identity: Any, count: int) -> tuple[Any, ...]:
    """Check a pickle's reference to a storage; returns its kind, key, device, number of values, ..."""
    if not isinstance(identity, tuple) or len(identity) != count + 1 or identity[0] != "storage":
        raise UnpicklingError("a reference to something else than a storage")
    kind, key, _, values, *_ = identity[1:]
    if not isinstance(kind, StorageKind) or not isinstance(key, str) or type(values) is not int or values < 0:
        raise UnpicklingError("a reference to something else than a storage")
    return identity[1:]


def _fill(storage: torch.UntypedStorage, content: Any) -> torch.UntypedStorage:
    """Fill a storage with bytes read from a file, and return it; raises UnpicklingError when they end too early."""
    values: Any = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
    target = memoryview(values)
    read: Callable[[memoryview], int] = content.readinto
    done = 0
    while done < len(target):
        count = read(target[done : done + (1 << 24)])
        if not count:
            raise UnpicklingError("cut short")
        done += count
    return storage
