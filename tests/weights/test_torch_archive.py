"""Files of torch.save with wrong sizes are refused at once."""

import os
import pickle
import re
import struct
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from clrernetlm import UserError
from clrernetlm.weights.checkpoint import read_checkpoint
from clrernetlm.weights.safe_unpickler import MAX_DEPTH, MAX_INSTRUCTIONS, Placeholder
from clrernetlm.weights.torch_archive import MAGIC, VERSION, read_torch_file

STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ%btQ"  # 4 bytes of count
)
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"%b\x89ccollections\nOrderedDict\n)RtR"


def tensor(count: int, view: bytes) -> bytes:
    """Return a pickled dictionary with a tensor: values in its storage, and offset, size and strides as pickled."""
    return b"\x80\x02}X\x01\x00\x00\x00a" + TENSOR % (struct.pack("<i", count), view) + b"s."


def write_zip(path: Path, pickled: bytes, content: bytes = bytes(16), **options: Any) -> Path:
    """Write an archive like that of torch.save, with any pickle inside."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", content)
    return path


def write_legacy(path: Path, pickled: bytes) -> Path:
    machine = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {}}
    front = [pickle.dumps(value, 2) for value in (MAGIC, VERSION, machine)]
    pickled = re.sub(rb"(cpuJ....)tQ", rb"\1NtQ", pickled, flags=re.DOTALL)  # no view
    path.write_bytes(b"".join([*front, pickled, pickle.dumps(["0"], 2), struct.pack("<q", 4), bytes(16)]))
    return path


def refuse(path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_checkpoint(path)
    assert str(caught.value) == f"{path}: not a checkpoint, or cut short; get the file again"


def doubled(empty: bytes, times: int) -> bytes:
    """Return opcodes for a list (or tuple) that holds the previous one twice, and so on."""
    twice = b"h\x00h\x00\x86q\x000" if empty == b")" else b"](h\x00h\x00eq\x000"
    return empty + b"q\x000" + times * twice + b"h\x00"


SMALL = b"K\x00(K\x02K\x02t(K\x02K\x01t"  # offset 0, (2, 2), strides (2, 1)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_tensors_inside_their_storage_are_read(write, tmp_path: Path) -> None:
    read = read_torch_file(write(tmp_path / "a.pth", tensor(4, SMALL)))
    assert torch.equal(read["a"], torch.zeros(2, 2))


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize(
    ("count", "view"),
    [
        (5, SMALL),  # a value more than there are: PyTorch shows what lies behind them in memory
        (2_000_000_000, SMALL),
        (-1, SMALL),
        (4, b"K\x01(K\x02K\x02t(K\x02K\x01t"),  # from the second value on
        (4, b"J\xff\xff\xff\xff(K\x02K\x02t(K\x02K\x01t"),  # from before the first
        (4, b"K\x00(J\x00\x00\x00\x7ft(K\x01t"),
        (4, b"K\x00(J\x00\x00\x00\x7fJ\x00\x00\x00\x7ft(K\x00K\x00t"),  # 4e18 times the same value
        (4, b"K\x00(K\x02t(J\xff\xff\xff\xfft"),  # backwards
        (4, b"K\x00(K\x02t(K\x01K\x01t"),
        (4, b"K\x00(G\x40\x00\x00\x00\x00\x00\x00\x00t(K\x01t"),  # 2.0
    ],
)
def test_tensors_outside_their_storage_are_refused(write, count: int, view: bytes, tmp_path: Path) -> None:
    refuse(write(tmp_path / "a.pth", tensor(count, view)))


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02}X\x01\x00\x00\x00a" + doubled(b"]", 60) + b"s.",
        b"\x80\x02}X\x01\x00\x00\x00a" + doubled(b")", 60) + b"s.",
        b"\x80\x02]q\x00h\x00a.",  # holds itself
        b"\x80\x02" + b"]" * (MAX_DEPTH + 5) + b"a" * (MAX_DEPTH + 4) + b".",
        b"\x80\x02" + b"(" * MAX_INSTRUCTIONS + b".",
        b"\x80\x02" + b"]" * (MAX_INSTRUCTIONS + 1) + b".",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"a.",
        b"\x80\x02}cbuiltins\nbytearray\n.",
    ],
    ids=["lists", "tuples", "itself", "deep", "marks", "many", "bytearray", "text", "class"],
)
def test_endless_pickles_are_refused(write, program: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.pth: (not a checkpoint|holds no dictionary)"):
        read_checkpoint(write(tmp_path / "a.pth", program))


@pytest.mark.parametrize("program", [b"}r\xff\xff\xff\x7f.", b"\x95" + struct.pack("<Q", 1 << 60) + b"}."])
def test_pickle_memo_slots_and_frames_allocate_only_their_content(program: bytes, tmp_path: Path) -> None:
    # The unpickler in C takes 16 GB for the first.
    assert read_torch_file(write_zip(tmp_path / "a.pth", b"\x80\x04" + program)) == {}


def test_keys_with_colliding_hashes_are_left_out(tmp_path: Path) -> None:
    tuples = b"\x80\x02}" + doubled(b")", 60) + b"K\x01sX\x01\x00\x00\x00bK\x02s."  # 2^60 tuples in one another
    assert read_torch_file(write_zip(tmp_path / "a.pth", tuples)) == {"b": 2}
    hashes = {n * (2**61 - 1): n for n in range(3)}  # all of one hash
    torch.save(hashes | {7: 7}, tmp_path / "b.pth")
    assert read_torch_file(tmp_path / "b.pth") == {0: 0, 7: 7}
    sets = b"\x80\x04\x8f(" + doubled(b")", 60) + b"K\x01\x90."
    assert read_torch_file(write_zip(tmp_path / "c.pth", sets)) == {1}


def test_archives_that_expand_enormously_are_refused(tmp_path: Path) -> None:
    refuse(write_zip(tmp_path / "a.pth", tensor(4, SMALL), compression=zipfile.ZIP_DEFLATED))
    whole = write_zip(tmp_path / "b.pth", tensor(4, SMALL), bytes(1000)).read_bytes()
    at = whole.index(b"PK\x01\x02", whole.index(b"PK\x01\x02") + 1)  # the entry of data/0
    for offset in (20, 24):  # its two sizes
        changed = bytearray(whole)
        changed[at + offset : at + offset + 4] = struct.pack("<I", 0x7FFFFFFF)
        (tmp_path / "b.pth").write_bytes(changed)
        refuse(tmp_path / "b.pth")
    end = whole.rindex(b"PK\x05\x06")
    changed = bytearray(whole)
    changed[end + 12 : end + 16] = struct.pack("<I", 0x7FFFFFFF)  # size of the table of contents
    (tmp_path / "b.pth").write_bytes(changed)
    refuse(tmp_path / "b.pth")


def test_a_changed_byte_of_the_weights_is_detected(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(1000.0)}, tmp_path / "a.pth")
    content = bytearray((tmp_path / "a.pth").read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()) + 2000] ^= 1
    (tmp_path / "a.pth").write_bytes(content)
    refuse(tmp_path / "a.pth")


def test_tar_archives_are_not_unpacked(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would block for ever
    with tarfile.open(tmp_path / "a.pth", "w") as archive:
        link = tarfile.TarInfo("storages")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "pipe")
        archive.addfile(link)
    refuse(tmp_path / "a.pth")


def test_all_objects_that_training_stores_are_read(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    tree = {
        "state_dict": OrderedDict(
            a=base.view(2, 3).T, b=base[2:], c=torch.tensor(3), d=torch.tensor([], dtype=torch.int8)
        ),
        "dtypes": [torch.ones(2, dtype=kind) for kind in (torch.bool, torch.bfloat16, torch.uint16, torch.complex64)],
        "parameter": torch.nn.Parameter(base),
        "plain": {"n": None, "yes": True, "x": 1.5, "t": (1, "a"), "big": 2**80, "bytes": b"\xff\0", 3: {4}},
        "size": torch.Size([1, 2]),
        "foreign": [torch.nn.Linear, {"k": torch.optim.SGD}],
    }
    for name, options in (("zip", {}), ("legacy", {"_use_new_zipfile_serialization": False})):
        torch.save(tree, tmp_path / name, **options)
        read = read_torch_file(tmp_path / name)
        for key, value in tree["state_dict"].items():
            assert torch.equal(read["state_dict"][key], value)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(read["dtypes"], tree["dtypes"], strict=True))
        assert torch.equal(read["parameter"], base)
        assert read["state_dict"]["b"].untyped_storage().data_ptr() == read["parameter"].untyped_storage().data_ptr()
        assert isinstance(read["plain"].pop(3), Placeholder)  # sets are of no use in a checkpoint
        assert read["plain"] == {key: value for key, value in tree["plain"].items() if key != 3}
        assert read["size"] == tree["size"]
        assert all(item is Placeholder or isinstance(item, Placeholder | dict) for item in read["foreign"])


def test_big_endian_numbers_are_converted(tmp_path: Path) -> None:
    with zipfile.ZipFile(
        write_zip(tmp_path / "a.pth", tensor(4, SMALL), struct.pack(">4f", 1, 2, 3, 4)), "a"
    ) as archive:
        archive.writestr("archive/byteorder", "big")
    assert read_torch_file(tmp_path / "a.pth")["a"].tolist() == [[1, 2], [3, 4]]


def test_storage_views_in_older_files_are_bounded(tmp_path: Path) -> None:
    front = b"".join(pickle.dumps(value, 2) for value in (MAGIC, VERSION, {}))
    for offset, fits in ((2, True), (3, False), (-1, False)):
        view = b"(X\x01\x00\x00\x00vJ" + struct.pack("<i", offset) + b"K\x02t"
        words = STORAGE.replace(b"tQ", b"%btQ") % (struct.pack("<i", 4), view)
        program = b"\x80\x02" + TENSOR.replace(STORAGE, words) % b"K\x00(K\x02t(K\x01t" + b"."
        content = front + program + pickle.dumps(["0"], 2) + struct.pack("<q4f", 4, 1, 2, 3, 4)
        (tmp_path / "a.pth").write_bytes(content)
        if fits:
            assert read_torch_file(tmp_path / "a.pth").tolist() == [3, 4]
        else:
            with pytest.raises(pickle.UnpicklingError):
                read_torch_file(tmp_path / "a.pth")
