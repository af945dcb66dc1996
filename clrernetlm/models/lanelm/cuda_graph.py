"""LaneLM's decoding as one CUDA graph: hundreds of small kernels a keypoint, launched with one call for all of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from clrernetlm.models.lanelm.generate import Answers, generate
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.requests import Requests

KEPT = 8  # graphs; one per number of images, requests and prompts
WARM_UPS = 3


class GraphedWriter:
    """`generate` for one model on CUDA, recorded once per shape of its arguments and replayed from then on.

    Always writes all rows: looking whether every lane has ended would make the host wait. Not run on a GPU yet; what
    recording needs of the code is checked in `tests/test_gpu.py`. The weights must stay where they are in memory, and
    whatever else the writing reads must either be among the arguments or be kept for good. Threads take turns.
    """

    def __init__(self) -> None:
        self._recorded: OrderedDict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, list[Tensor], Answers]]
        self._recorded = OrderedDict()
        self._lock = threading.Lock()
        self._stream: torch.cuda.Stream | None = None  # where the last answers were copied

    def __deepcopy__(self, memo: object) -> GraphedWriter:
        return GraphedWriter()  # a graph knows the addresses of one model's weights

    @torch.inference_mode()  # always: tensors made in that mode cannot be written to outside of it
    def __call__(self, model: LaneLM, levels: Sequence[Tensor], requests: Requests) -> Answers:
        given = [*levels, *(getattr(requests, item.name) for item in fields(Requests))]
        shapes = tuple(tensor.shape for tensor in given)
        # Streams and recordings are of the current GPU, not of the tensors'.
        with self._lock, torch.cuda.device(levels[0].device):
            stream = torch.cuda.current_stream()
            if self._stream is not None and stream != self._stream:
                stream.wait_stream(self._stream)
            self._stream = stream
            if shapes in self._recorded:
                self._recorded.move_to_end(shapes)
            else:
                self._recorded[shapes] = self._record(model, given, len(levels))
                if len(self._recorded) > KEPT:
                    self._recorded.popitem(last=False)
            graph, inputs, answers = self._recorded[shapes]
            for place, tensor in zip(inputs, given, strict=True):
                place.copy_(tensor, non_blocking=True)
            graph.replay()
            return Answers(answers.xs.clone(), answers.shown.clone(), answers.score.clone())

    def _record(
        self, model: LaneLM, given: Sequence[Tensor], levels: int
    ) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Answers]:
        inputs = [tensor.clone() for tensor in given]
        requests = Requests(*inputs[levels:])
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries set themselves up before anything is recorded
            for _ in range(WARM_UPS):
                generate(model, inputs[:levels], requests)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=aside):  # PyTorch's own stream for this is of whichever GPU was first
            answers = generate(model, inputs[:levels], requests)
        return graph, inputs, answers
