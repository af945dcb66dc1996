"""Defines the interface of all runtimes: named arrays in, named arrays out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clrernetlm.core.errors import UserError
from clrernetlm.weights.exported_metadata import ModelMetadata

Array = NDArray[Any]
Backend = Literal["torch", "onnxruntime", "openvino"]
BACKENDS: tuple[Backend, ...] = ("torch", "onnxruntime", "openvino")


class Runtime(ABC):
    """Runs the exported graph of the file `path`. `inputs` and `outputs` are tensor names in order."""

    name: Backend
    path: Path
    metadata: ModelMetadata
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @abstractmethod
    def compute(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Run the graph once on inputs of exactly its shapes; results in the order of `outputs`."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph on named arrays; returns named arrays. The first axis of all is the batch.

        A graph for a fixed number of images runs several times for a larger batch. Raises UserError for an input
        that is missing, for a batch that is not a multiple of the graph's, and for a graph that cannot compute it.
        """
        missing = [name for name in self.inputs if name not in inputs]
        if missing:
            raise UserError(f"inputs: {', '.join(missing)} missing; this graph takes {', '.join(self.inputs)}")
        given = {name: np.ascontiguousarray(inputs[name]) for name in self.inputs}
        size, total = self.metadata.batch, len(next(iter(given.values())))
        if size is None or size == total:
            return dict(zip(self.outputs, self._compute_checked(given), strict=True))
        if total % size:
            raise UserError(
                f"images: {total}, but this file takes {size} at a time; export it with `dynamic_batch=True`"
            )
        pieces = [
            self._compute_checked({name: value[at : at + size] for name, value in given.items()})
            for at in range(0, total, size)
        ]
        return {name: np.concatenate(parts) for name, *parts in zip(self.outputs, *pieces, strict=True)}

    def _compute_checked(self, inputs: Mapping[str, Array]) -> list[Array]:
        try:
            return self.compute(inputs)
        except UserError:
            raise
        except Exception as error:  # the runtimes' errors have no common class
            shapes = ", ".join(f"{name} {'x'.join(map(str, value.shape))}" for name, value in inputs.items())
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(
                f"{self.path}: the graph cannot compute {shapes} ({reason}); export the model again"
            ) from None

    def require(self, inputs: Collection[str], outputs: Collection[str]) -> None:
        """Raise UserError unless the graph takes no other inputs than these and has all of these outputs."""
        extra = [name for name in self.inputs if name not in inputs]
        missing = [name for name in outputs if name not in self.outputs]
        if not extra and not missing and self.inputs:
            return
        takes = f"takes {', '.join(extra)}, which it is not given" if extra else "takes no input"
        problem = f"has no output {', '.join(missing)}" if missing else takes
        raise UserError(f"{self.path}: {problem}; export the model again")

    def require_results(
        self, found: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]], used: Array | None = None
    ) -> None:
        """Raise UserError for results of other shapes than these, and for values that are not finite.

        `used`: a bool array of these shapes, which values must be finite; None: all.
        """
        for name, shape in shapes.items():
            value = found[name]
            if value.shape != shape:
                sizes = ["x".join(map(str, size)) for size in (value.shape, shape)]
                raise UserError(f"{self.path}: {name} is {sizes[0]}, not {sizes[1]}; export the model again")
            if not np.isfinite(value if used is None else value[used]).all():
                raise UserError(
                    f"{self.path}: {name} is not finite: the weights are damaged, or their training diverged; export a "
                    "model that works"
                )
