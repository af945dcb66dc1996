"""Reads `.lines.txt` files fast, with the same numbers and errors as `clrernetlm.core.lane_files.read_lines`."""

from __future__ import annotations

import os

import numpy as np

from clrernetlm.core.arrays import ByteArray, Float64Array, Int64Array
from clrernetlm.core.files import PathLike
from clrernetlm.core.lane_files import MAX_LANE_FILE_BYTES, read_lines, require_few_lanes
from clrernetlm.core.numba_jit import kernel
from clrernetlm.core.text_encoding import open_without_waiting

POWERS_OF_TEN = np.asarray(10.0 ** np.arange(23), np.float64)  # all exact in float64
MANTISSA_LIMIT = 1 << 53  # integers up to here divided by a power of ten give the float64 nearest to the decimal


@kernel
def _parse_decimals(text: ByteArray, powers: Float64Array) -> tuple[bool, Float64Array, Int64Array]:
    """Parse (bytes,) uint8 -> (whether parsed, values (n,), number of values up to each line's end (lines + 1,)).

    Parses plain decimals, blanks and line ends only. All other files, valid or not, are left to `read_lines`.
    """
    values = np.empty(len(text) // 2 + 1)
    stops = np.zeros(np.count_nonzero(text == 10) + 2, np.int64)
    count, lines, at = 0, 0, 0
    while at < len(text):
        byte = text[at]
        if byte == 32 or byte == 9 or (byte == 13 and at + 1 < len(text) and text[at + 1] == 10):
            at += 1
            continue
        if byte == 10:
            lines += 1
            stops[lines] = count
            at += 1
            continue
        negative = byte == 45
        if negative or byte == 43:
            at += 1
        mantissa, digits, decimals, fraction = 0, 0, 0, False
        while at < len(text):
            byte = text[at]
            if 48 <= byte <= 57:
                mantissa = mantissa * 10 + (byte - 48)
                digits += 1
                decimals += fraction
                if mantissa > MANTISSA_LIMIT or decimals > 22:
                    return False, values[:0], stops[:0]
            elif byte == 46 and not fraction:
                fraction = True
            else:
                break
            at += 1
        if digits == 0 or (at < len(text) and byte != 32 and byte != 9 and byte != 10 and byte != 13):
            return False, values[:0], stops[:0]
        value = mantissa / powers[decimals]
        values[count] = -value if negative else value
        count += 1
    if len(text) and text[-1] != 10:
        lines += 1
        stops[lines] = count
    return True, values[:count], stops[: lines + 1]


def read_lane_points(path: PathLike, missing_is_empty: bool = False) -> tuple[Float64Array, Int64Array]:
    """Read the lanes of a file as points (n, 2) x, y and stops (lanes + 1,): lane i is points[stops[i]:stops[i + 1]].

    `missing_is_empty`: return no lanes for a file that does not exist. Raises UserError naming file and line, as
    `read_lines`.
    """
    try:
        with open(path, "rb", buffering=0, opener=open_without_waiting) as file:
            data = file.read() if os.fstat(file.fileno()).st_size <= MAX_LANE_FILE_BYTES else None
    except FileNotFoundError:
        if missing_is_empty:
            return np.zeros((0, 2)), np.zeros(1, np.int64)
        data = None
    except (OSError, ValueError):  # a NUL byte in the name
        data = None
    if data is not None:
        parsed, values, stops = _parse_decimals(np.frombuffer(data, np.uint8), POWERS_OF_TEN)
        if parsed and not (stops & 1).any():
            require_few_lanes(path, len(stops) - 1)
            return values.reshape(-1, 2), stops >> 1
    lanes = read_lines(path)
    stops = np.cumsum([0, *(len(lane) for lane in lanes)])
    return (np.concatenate(lanes) if lanes else np.zeros((0, 2))), stops
