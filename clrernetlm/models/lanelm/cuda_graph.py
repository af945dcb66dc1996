"""Records LaneLM's decoding as one CUDA graph, so that its hundreds of small kernels per keypoint need one launch."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from clrernetlm.models.lanelm.generate import generate
from clrernetlm.models.lanelm.greedy_decoding import Answers
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.requests import Requests

MAX_GRAPHS = 8  # kept; one per number of images, requests and prompts
WARM_UPS = 3


class CudaGraphDecoder:
    """Runs `generate` for one model on CUDA: recorded once per shape of its arguments, replayed afterwards.

    Always decodes all rows: a check whether every lane has ended would force a device sync. Not run on a GPU yet;
    `tests/test_gpu.py` checks the conditions of recording. The weights must not move in memory, and all other
    tensors that decoding reads must be arguments or permanent. Threads run one after another.
    """

    def __init__(self) -> None:
        self._recorded: OrderedDict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, list[Tensor], Answers]]
        self._recorded = OrderedDict()
        self._lock = threading.Lock()
        self._stream: torch.cuda.Stream | None = None  # on which the last answers were copied

    def __deepcopy__(self, memo: object) -> CudaGraphDecoder:
        return CudaGraphDecoder()  # a graph holds the addresses of one model's weights

    @torch.inference_mode()  # always: tensors made in that mode cannot be written to outside of it
    def __call__(self, model: LaneLM, levels: Sequence[Tensor], requests: Requests) -> Answers:
        given = [*levels, *(getattr(requests, item.name) for item in fields(Requests))]
        shapes = tuple(tensor.shape for tensor in given)
        # Streams and recordings belong to the current GPU, not to that of the tensors.
        with self._lock, torch.cuda.device(levels[0].device):
            stream = torch.cuda.current_stream()
            if self._stream is not None and stream != self._stream:
                stream.wait_stream(self._stream)
            self._stream = stream
            if shapes in self._recorded:
                self._recorded.move_to_end(shapes)
            else:
                self._recorded[shapes] = self._record(model, given, len(levels))
                if len(self._recorded) > MAX_GRAPHS:
                    self._recorded.popitem(last=False)
            graph, inputs, answers = self._recorded[shapes]
            for target, tensor in zip(inputs, given, strict=True):
                target.copy_(tensor, non_blocking=True)
            graph.replay()
            return Answers(answers.xs.clone(), answers.visible.clone(), answers.score.clone())

    def _record(
        self, model: LaneLM, given: Sequence[Tensor], levels: int
    ) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Answers]:
        inputs = [tensor.clone() for tensor in given]
        requests = Requests(*inputs[levels:])
        side_stream = torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):  # libraries initialise themselves before the recording
            for _ in range(WARM_UPS):
                generate(model, inputs[:levels], requests)
        torch.cuda.current_stream().wait_stream(side_stream)
        graph = torch.cuda.CUDAGraph()
        # PyTorch's default stream for this belongs to whichever GPU was used first.
        with torch.cuda.graph(graph, stream=side_stream):
            answers = generate(model, inputs[:levels], requests)
        return graph, inputs, answers
