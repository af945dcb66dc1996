"""Simulates a GPU: tensors that report CUDA as their device, and checks for errors and waits of a real GPU.

Needs only PyTorch's public overriding of functions, no build with CUDA. Values are computed on the CPU, or, with
`without_values`, not at all: then there are only shapes, which is fast at any size, and reading a value fails, also
deep inside PyTorch.

It cannot find kernels that do not exist on a GPU or give other results there, and measures neither memory nor speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class DeviceMix(RuntimeError):
    """One operation was given tensors of the GPU and of the host."""


READS = (
    "item tolist __bool__ __int__ __float__ __index__ __contains__ is_nonzero equal allclose nonzero argwhere unique "
    "unique_consecutive masked_select masked_scatter masked_scatter_ bincount histc"
)
WAITS = {getattr(owner, name) for owner in (Tensor, torch) for name in READS.split() if hasattr(owner, name)}
UPLOADS = {torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor}
MOVES = {Tensor.to, Tensor.cpu, Tensor.cuda}
HOST_ONLY = {Tensor.numpy, Tensor.__array__}
INDEXING = {Tensor.__getitem__, Tensor.__setitem__}
OF_MODULES = {torch._has_compatible_shallow_copy_type, Tensor.data.__set__}  # type: ignore[attr-defined]
GETTERS: dict[Any, Callable[[torch.device], Any]] = {
    Tensor.device.__get__: lambda device: device,  # type: ignore[attr-defined]
    Tensor.is_cuda.__get__: lambda device: True,  # type: ignore[attr-defined]
    Tensor.is_cpu.__get__: lambda device: False,  # type: ignore[attr-defined]
    Tensor.is_meta.__get__: lambda device: False,  # type: ignore[attr-defined]
    Tensor.get_device: lambda device: device.index,
}


class SimulatedGpu(TorchFunctionMode):
    """A context in which a GPU of that name exists.

    `waits` names the calls so far that make the host wait for the GPU: reading values, sizes that depend on values, and
    copies in both directions that are not `non_blocking`. Raises DeviceMix if one operation gets tensors of both
    devices; a real GPU allows some of these, single numbers and indices, at the price of a copy.
    """

    def __init__(self, name: str = "cuda:0", without_values: bool = False) -> None:
        super().__init__()
        self.device = torch.device(name)
        self.memory = torch.device("meta" if without_values else "cpu")
        self.waits: list[str] = []
        self.operations = 0  # on its tensors

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor is in this GPU's memory."""
        return getattr(tensor.untyped_storage(), "lies_on", None) == self.device

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # deepcopy of a module passes all objects that are copied already.
        given = args[0] if func is Tensor.__deepcopy__ else (args, kwargs)
        ours = [self.holds(tensor) for tensor in _tensors(given)]
        if func in GETTERS and ours[0]:
            return GETTERS[func](self.device)
        if func in GETTERS or func in OF_MODULES:
            return func(*args, **kwargs)
        self.operations += any(ours)
        name = getattr(func, "__name__", str(func))
        if func in MOVES:
            return self._move(func, *args, **kwargs)
        if func is Tensor.copy_ and ours[0] != ours[1]:
            self._cross(name, kwargs.get("non_blocking", False))
            return func(*args, **kwargs)
        if any(ours) and not all(ours):
            raise DeviceMix(f"{name}: {[(*t.shape,) for t in _tensors((args, kwargs))]}, of the GPU: {ours}")
        if any(ours) and func in HOST_ONLY:
            raise TypeError(f"{name}: of a tensor on the GPU; use cpu() first")
        by_mask = func in INDEXING and any(t.dtype in (torch.bool, torch.uint8) for t in _tensors(args[1]))
        if any(ours) and (func in WAITS or by_mask):
            self.waits.append(name)
        wanted = kwargs.get("device")
        here = any(ours) if wanted is None else self._is_here(wanted)
        if here and wanted is not None:
            kwargs = kwargs | {"device": self.memory}
            if func in UPLOADS:
                self._cross(name, False)
        results = func(*args, **kwargs)
        return self._kept(results) if here else results

    def _move(self, func: Callable[..., Any], source: Tensor, *rest: Any, **named: Any) -> Tensor:
        """Run `Tensor.to` in all its forms, `cpu` and `cuda`."""
        words = [*rest, *named.values()]
        places = [word for word in words if isinstance(word, str | torch.device)]
        like = [word for word in words if isinstance(word, Tensor)]
        kinds = [word for word in words if isinstance(word, torch.dtype)] + [tensor.dtype for tensor in like]
        before = self.holds(source)
        after = self._is_here(places[0]) if places else self.holds(like[0]) if like else before
        if func is not Tensor.to:
            after = func is Tensor.cuda
        kind = kinds[0] if kinds else source.dtype
        if before == after:
            kept = {key: value for key, value in named.items() if key in ("memory_format", "copy")}
            moved = source.to(dtype=kind, **kept)
        else:
            self._cross(func.__name__, named.get("non_blocking", False) or any(word is True for word in rest))
            moved = source.to(device=self.memory if after else "cpu", dtype=kind, copy=True)
        return self._kept(moved) if after else moved

    def _is_here(self, place: Any) -> bool:
        device = torch.device(place)
        if device.type == "cuda" and device.index not in (None, self.device.index):
            raise RuntimeError(f"{device}: there is {self.device} alone")
        return device.type == "cuda"

    def _kept(self, results: Any) -> Any:
        for tensor in _tensors(results):
            tensor.untyped_storage().lies_on = self.device  # type: ignore[attr-defined]
        return results

    def _cross(self, name: str, non_blocking: bool) -> None:
        if not non_blocking:
            self.waits.append(name)


def _tensors(values: Any) -> Iterator[Tensor]:
    """All tensors in lists, tuples and dicts."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))


class SimulatedCudaGraph(TorchDispatchMode):
    """Replaces torch.cuda.CUDAGraph: records operations with their memory, and repeats them there."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        self.noted.append((func, args, kwargs or {}, results))
        return results

    @torch.inference_mode()
    def replay(self) -> None:
        with torch._C.DisableTorchFunction():  # all operations have been checked once
            self._repeat()

    def _repeat(self) -> None:
        for func, args, kwargs, results in self.noted:
            for before, now in zip(_tensors(results), _tensors(func(*args, **kwargs)), strict=True):
                if before.untyped_storage().data_ptr() != now.untyped_storage().data_ptr():  # neither view nor in place
                    before.copy_(now)


class SimulatedStream:
    """Replaces torch.cuda.Stream: operations run at once, so there is nothing to wait for."""

    def __init__(self, device: int | None = None) -> None:
        self.device = device

    def wait_stream(self, other: SimulatedStream) -> None:
        assert self.device == other.device, "streams of two GPUs"


def simulate_cuda_graphs(monkeypatch: pytest.MonkeyPatch, gpu: SimulatedGpu) -> None:
    """Let this process record CUDA graphs on a simulated GPU. As at the start of a process, cuda:0 is the current one.

    As with real graphs, only operations on the recording's own stream, with its GPU the current one, are recorded,
    and waiting for the GPU during a recording fails.
    """
    current, streams = [0], [SimulatedStream(0)]

    @contextmanager
    def device(place: torch.device) -> Iterator[None]:
        assert place.index is not None
        current.append(place.index)
        streams.append(SimulatedStream(place.index))
        yield
        current.pop()
        streams.pop()

    @contextmanager
    def stream(inner: SimulatedStream) -> Iterator[None]:
        streams.append(inner)
        yield
        streams.pop()

    @contextmanager
    def graph(recorded: SimulatedCudaGraph, stream: SimulatedStream | None = None) -> Iterator[None]:
        aside = stream or SimulatedStream(0)  # PyTorch makes one for all graphs, on the GPU current at the first
        assert aside.device == current[-1] == gpu.device.index, "recorded on another GPU than the tensors are on"
        before = len(gpu.waits)
        with recorded:
            yield
        assert len(gpu.waits) == before, f"{gpu.waits[before:]} while a graph was recorded"

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", SimulatedCudaGraph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: SimulatedStream(current[-1]))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: streams[-1])
