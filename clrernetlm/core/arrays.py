"""Defines type aliases of arrays, images and colours; comments give the shape if it is fixed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]  # of any precision
Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int16Array = NDArray[np.int16]
Int32Array = NDArray[np.int32]
Int64Array = NDArray[np.int64]
ByteArray = NDArray[np.uint8]
SignedByteArray = NDArray[np.int8]
BoolArray = NDArray[np.bool_]

Points = NDArray[np.float64]  # (N, 2): x, y

BgrImage = NDArray[np.uint8]  # (H, W, 3): blue, green, red display values
BgraImage = NDArray[np.uint8]  # (H, W, 4): the same and opacity
ByteMask = NDArray[np.uint8]  # (H, W): 0..255
LinearImage = NDArray[np.float32]  # (H, W, 3): blue, green, red linear light, 1 = white

BgrColour = tuple[float, float, float]  # blue, green, red: display values 0..255, or linear light where that is stated
BgrPixel = tuple[int, int, int]  # blue, green, red: display values 0..255
