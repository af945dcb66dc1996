"""What every runtime can do: arrays in, arrays out, by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clrernetlm.errors import UserError
from clrernetlm.runtimes.about import About

Array = NDArray[Any]
Backend = Literal["torch", "onnxruntime", "openvino"]
BACKENDS: tuple[Backend, ...] = ("torch", "onnxruntime", "openvino")


class Runtime(ABC):
    """One exported graph, loaded. `about` is what its file says; `inputs` and `outputs` are names in order."""

    name: Backend
    about: About
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @abstractmethod
    def compute(self, inputs: Mapping[str, Array]) -> list[Array]:
        """One pass over inputs of exactly the shapes the graph takes; results in the order of `outputs`."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Named arrays -> named arrays; the first axis of every one is the batch.

        A graph made for a fixed number of images goes over a larger batch in pieces. Raises UserError for an input
        that is missing, and for a batch that is not a multiple of the graph's.
        """
        missing = [name for name in self.inputs if name not in inputs]
        if missing:
            raise UserError(f"inputs: {', '.join(missing)} missing; this graph takes {', '.join(self.inputs)}")
        given = {name: np.ascontiguousarray(inputs[name]) for name in self.inputs}
        size, total = self.about.batch, len(next(iter(given.values())))
        if size is None or size == total:
            return dict(zip(self.outputs, self.compute(given), strict=True))
        if total % size:
            raise UserError(f"images: {total}, but this file takes {size} at a time; export it with --dynamic-batch")
        pieces = [
            self.compute({name: value[at : at + size] for name, value in given.items()}) for at in range(0, total, size)
        ]
        return {name: np.concatenate(parts) for name, *parts in zip(self.outputs, *pieces, strict=True)}
