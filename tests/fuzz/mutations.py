"""Damages valid files, texts, JSON trees and command lines at random, the same way for the same random generator."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Sequence
from random import Random
from typing import Any

INTEGERS = (0, 1, 2, -1, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, 10**9)
NUMBERS = (
    *(str(value) for value in INTEGERS),
    "-0", "0.5", "-0.5", "1e5", "1e9", "-1e9", "1e16", "1e38", "1e308", "1e999", "-1e999", "nan", "NaN", "inf", "-inf",
    "Infinity", "1e-320", "0x10", "1_000", "1,5", "½", "٣", "9" * 400, "0" * 300 + "1", "1e", "--1", "+5", ".", "-",
)  # fmt: skip
TEXTS = (
    "", " ", "\0", "\n", "\r", "\t", "\ufeff", "\u2028", "\x85", "\x0c", "\x1b[31m", "\u202e", "é", "日本", "😀",
    "\udcff",
    "..", "../../escaped", "/", "//", "./", "\\", "C:\\x", "~", "~root", "$HOME", "*", "?", "[a", "{", "}", "(", ")",
    "[", "]", '"', "'", "`", "#", "%s", "%n", "{0}", "{x.__class__}", "[bold]", "[/]", "None", "null", "True", "false",
    "a" * 300, "a" * 70000, "-", "--", "=", ":", ";", "|", "&", "@", "-1", "/dev/null", "/etc/passwd", "file:///etc/passwd",
    "__import__('os').system('touch escaped')",
)  # fmt: skip
TOKEN = re.compile(r"\s+|[^\W\d]\w*|\d+(?:\.\d+)?|.", re.DOTALL)
MOST = 4 << 20  # bytes that a damaged file may have


def damage_bytes(rng: Random, data: bytes, other: bytes = b"", head: int = 512) -> bytes:
    """One to six damages to `data`; half of the places are among the first or last `head` bytes, where headers are.

    `other` is a second valid file, of which pieces come in.
    """
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        place = _place(rng, len(result), head)
        size = min(rng.choice((1, 2, 4, 16, 200, 5000)), max(len(result) - place, 0))
        change = rng.randrange(10)
        if change == 0 and result:
            result[place % len(result)] ^= 1 << rng.randrange(8)
        elif change == 1 and result:
            result[place % len(result)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif change == 2:
            result[place:place] = rng.randbytes(rng.choice((1, 2, 7, 300)))
        elif change == 3:
            del result[place : place + size]
        elif change == 4:
            result[place:place] = result[place : place + size] * rng.choice((1, 2, 50))
        elif change == 5:
            del result[place:]
        elif change == 6 and other:
            start = _place(rng, len(other), head)
            result[place : place + size] = other[start : start + rng.choice((4, 64, 2000))]
        elif change == 7:
            width = rng.choice("bhiq")
            value = rng.choice(INTEGERS) & ((1 << 8 * struct.calcsize(width)) - 1)
            result[place : place + struct.calcsize(width)] = value.to_bytes(
                struct.calcsize(width), rng.choice(("little", "big"))
            )
        elif change == 8:
            result[place : place + size] = bytes([rng.choice((0, 255))]) * size
        elif numbers := list(re.finditer(rb"\d+", bytes(result[: 1 << 16]))):
            found = rng.choice(numbers)
            result[found.start() : found.end()] = rng.choice(NUMBERS).encode()
    return bytes(result[:MOST])


def _place(rng: Random, length: int, head: int) -> int:
    near = rng.randrange(4)
    if near == 0:
        return rng.randrange(min(length, head) + 1)
    if near == 1:
        return length - rng.randrange(min(length, head) + 1)
    return rng.randrange(length + 1)


def damage_text(rng: Random, text: str, others: Sequence[str] = ()) -> str:
    """One to six damages to the words, numbers and signs of a text."""
    tokens = TOKEN.findall(text)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        place = rng.randrange(len(tokens) + 1)
        end = min(len(tokens), place + rng.choice((1, 1, 2, 10, 100)))
        change = rng.randrange(9)
        numbers = [index for index, token in enumerate(tokens) if token[0].isdigit()]
        if change <= 2 and numbers:
            tokens[rng.choice(numbers)] = rng.choice(NUMBERS)
        elif change == 3:
            del tokens[place:end]
        elif change == 4:
            tokens[place:place] = tokens[place:end] * rng.choice((1, 3, 40))
        elif change == 5:
            tokens.insert(place, rng.choice(TEXTS))
        elif change == 6 and place < len(tokens):
            tokens[place] = rng.choice(TEXTS + tuple(tokens[:50])) or " "
        elif change == 7 and others:
            taken = TOKEN.findall(rng.choice(others))
            start = rng.randrange(len(taken) + 1)
            tokens[place:place] = taken[start : start + rng.choice((1, 5, 50))]
        else:
            first, second = rng.randrange(len(tokens) + 1), rng.randrange(len(tokens) + 1)
            if max(first, second) < len(tokens):
                tokens[first], tokens[second] = tokens[second], tokens[first]
        tokens = [token for token in tokens if token]
    return "".join(tokens)[: MOST // 4]


def encode_text(rng: Random, text: str) -> bytes:
    """A text in UTF-8 as a rule, else with other line ends, marks or encodings, or in bytes that are no text."""
    way = rng.randrange(16)
    if way == 0:
        text = text.replace("\n", "\r\n")
    elif way == 1:
        text = text.replace("\n", "\r")
    codec = {2: "utf-8-sig", 3: "utf-16", 4: "utf-16-le", 5: "utf-32", 6: "utf-16-be"}.get(way, "utf-8")
    data = text.encode(codec, errors="surrogatepass" if way > 5 or way < 2 else "replace")
    return damage_bytes(rng, data) if way in (7, 8) else data


def damage_json(rng: Random, tree: Any) -> Any:
    """A copy of a tree of plain values in which one to four places are something else."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        tree = _replaced(rng, tree)
    return tree


def _replaced(rng: Random, tree: Any) -> Any:
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        key = rng.choice(list(tree))
        change = rng.randrange(12)
        if change == 0:
            del tree[key]
        elif change == 1:
            tree[rng.choice(TEXTS)] = tree.pop(key)
        elif change == 2:
            tree[key] = tree[rng.choice(list(tree))]
        else:
            tree[key] = _replaced(rng, tree[key])
        return tree
    if isinstance(tree, list) and tree and rng.random() < 0.8:
        place = rng.randrange(len(tree))
        change = rng.randrange(6)
        if change == 0:
            del tree[place]
        elif change == 1:
            tree *= rng.choice((2, 30))
        else:
            tree[place] = _replaced(rng, tree[place])
        return tree
    return odd_value(rng)


def odd_value(rng: Random) -> Any:
    """A plain value that is seldom expected."""
    deep: Any = []
    for _ in range(rng.choice((3, 200))):
        deep = [deep]
    numbers = (*INTEGERS, 0.5, -1.5, 1e308, float("nan"), float("inf"), 10**400)
    return rng.choice((None, True, False, rng.choice(numbers), rng.choice(TEXTS), rng.choice(TEXTS), [], {}, [1], deep))


def damage_words(
    rng: Random, words: Sequence[str], options: Sequence[str], numbers: Sequence[str] = NUMBERS
) -> list[str]:
    """A command line with one to four words more, less or otherwise; `options` are words that may come in."""
    result = list(words)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(result) + 1)
        change = rng.randrange(8)
        there = place < len(result)
        if change == 0 and there:
            del result[place]
        elif change == 1:
            result.insert(place, rng.choice(options))
        elif change == 2:
            result.insert(place, rng.choice(TEXTS).replace("\0", ""))
        elif change == 3 and there and result[place][:1].isdigit():
            result[place] = rng.choice(numbers)
        elif change == 4 and there:
            result[place] = rng.choice((*result, *options))
        elif change == 5 and there and result[place]:
            at = rng.randrange(len(result[place]))
            result[place] = (
                result[place][:at] + rng.choice(("", "x", "-", "=", ".", "é", "\udcff")) + result[place][at + 1 :]
            )
        elif change == 6 and there:
            result.insert(place, result[place])
        elif there:
            result[place] = rng.choice((*numbers, *TEXTS)).replace("\0", "")
    return result


def damage_archive(rng: Random, data: bytes, text_members: bool = False) -> bytes:
    """A zip archive with one of its members damaged, renamed, left out or given twice; every third time as bytes."""
    if rng.randrange(3) == 0:
        return damage_bytes(rng, data, head=2000)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    place = rng.randrange(len(members))
    small = [index for index, (_, content) in enumerate(members) if len(content) < 200_000]
    if small and rng.random() < 0.8:
        place = rng.choice(small)
    name, content = members[place]
    change = rng.randrange(10)
    if change == 0:
        del members[place]
    elif change == 1:
        members[place] = (rng.choice(("../escaped", "/escaped", "a/../../escaped", "", "x" * 300, name[:-1])), content)
    elif change == 2:
        members.append((name, damage_bytes(rng, content)))
    else:
        text = _as_text(content) if text_members else None
        try:
            tree = json.loads(text) if text else None
        except (ValueError, RecursionError):
            tree = None
        if isinstance(tree, dict | list) and rng.random() < 0.7:
            damaged = json.dumps(damage_json(rng, tree)).encode()
        elif text and rng.random() < 0.5:
            damaged = encode_text(rng, damage_text(rng, text))
        else:
            damaged = damage_bytes(rng, content)
        members[place] = (name, damaged)
    buffer = io.BytesIO()
    with zipfile.ZipFile(
        buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    ) as out:
        for name, content in members:
            out.writestr(name or "empty", content)
    return buffer.getvalue()


def _as_text(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def damage_safetensors(rng: Random, data: bytes, key: str) -> bytes:
    """A safetensors file with its header, or the JSON text under `key` of its metadata, damaged; at times as bytes."""
    way = rng.randrange(6)
    if way == 0:
        return damage_bytes(rng, data, head=2000)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if way == 1:
        header["__metadata__"][key] = encode_text(rng, damage_text(rng, header["__metadata__"][key])).decode(
            errors="replace"
        )
    elif way in (2, 3):
        header["__metadata__"][key] = json.dumps(damage_json(rng, json.loads(header["__metadata__"][key])))
    else:
        header = damage_json(rng, header)
    text = json.dumps(header).encode()
    said = rng.choice(INTEGERS) & (2**64 - 1) if rng.randrange(12) == 0 else len(text)
    return said.to_bytes(8, "little") + text + data[8 + length :]
