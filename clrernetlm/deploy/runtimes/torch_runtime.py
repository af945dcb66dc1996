"""Runs torch.export programs in PyTorch on the CPU. Loading one can run any code in its file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from clrernetlm.core.errors import UserError
from clrernetlm.deploy.runtimes.base import Array, Runtime
from clrernetlm.weights.exported_metadata import ModelMetadata, unreadable_error


class TorchRuntime(Runtime):
    """Runs a .pt2 file in PyTorch on the CPU.

    torch.export's loader evaluates expressions in the file and unpickles parts of it, so that opening a file can run
    the code of its author. Raises UserError without `trust_code`, and for a file that it cannot load.
    """

    def __init__(self, path: Path, metadata: ModelMetadata, trust_code: bool = False) -> None:
        if not trust_code:
            raise UserError(
                f"{path}: a torch.export program, which can run code of its author; if you trust the author, say so "
                "(`trust_code=True`), else use an .onnx, .xml or .safetensors file"
            )
        from clrernetlm.deploy.export.torch_file import NAMES, load_program

        try:
            program, extra = load_program(path)
            self.inputs, self.outputs = (tuple(names.split()) for names in extra[NAMES].split("|"))
            self._module = program.module()
        except Exception:  # broken bytes can make the loader raise anything
            raise unreadable_error(path, "a torch.export program") from None
        self.name = "torch"
        self.path = path
        self.metadata = metadata

    @torch.inference_mode()
    def compute(self, inputs: Mapping[str, Array]) -> list[Array]:
        results = self._module(*(torch.from_numpy(inputs[name]) for name in self.inputs))
        return [value.float().numpy() if value.is_floating_point() else value.numpy() for value in results]
