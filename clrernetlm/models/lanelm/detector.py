"""Joins a frozen detector and a language model on its features in one module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from clrernetlm.config.schema import Config
from clrernetlm.models.clrernet.detector import CLRerNet, DetectorOutput
from clrernetlm.models.clrernet.head import StageOutput
from clrernetlm.models.lanelm.generate import generate
from clrernetlm.models.lanelm.greedy_decoding import Answers
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.postprocess import remove_hallucinations
from clrernetlm.models.lanelm.proposals import Proposals, propose
from clrernetlm.models.lanelm.requests import Requests, extrapolate_rows, requests_from_proposals


class LaneLMDetectorBase(nn.Module, ABC):
    """CLRerNet, `detector`, frozen and always in evaluation mode, and a language model on its pyramid, `lanelm`."""

    lanelm: nn.Module

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.detector = CLRerNet(config.model).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> LaneLMDetectorBase:
        """Set training or evaluation mode of the language model; the detector stays in evaluation mode."""
        super().train(mode)
        self.detector.eval()
        return self

    @torch.no_grad()
    def run_detector(self, images: Tensor) -> DetectorOutput:
        """Run the detector on images (B, 3, H, W), uint8 or float in [0, 1], as `CLRerNet.run`.

        In float32 even where LaneLM trains in mixed precision: the features are those it will get in use.
        """
        with torch.autocast(images.device.type, enabled=False):
            return self.detector.run(images)

    @abstractmethod
    def decode_unprompted(self, output: DetectorOutput) -> Answers:
        """Decode the lanes of images without prompts, from the detector's output for them."""

    def propose(self, predictions: StageOutput, threshold: float | None = None) -> Proposals:
        """Select the detector's lanes on LaneLM's rows, by default from `lanelm.decode.proposal_threshold` on.

        That is a lower confidence than the detector's own results need.
        """
        decode = self.config.lanelm.decode
        return propose(
            predictions,
            self.config.lanelm.network.num_steps,
            self.config.model.viewport.width,
            self.config.model.decode.nms_threshold,
            decode.proposal_threshold if threshold is None else threshold,
            decode.max_proposals,
        )


class PromptableDetector(LaneLMDetectorBase):
    """CLRerNet and LaneLM: `run_detector` once per image, then `propose` and `answer` as often as needed."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.lanelm: LaneLM = LaneLM(
            config.lanelm.network, config.model.head.feature_channels, config.model.viewport.size
        )
        # Replaceable: `CudaGraphDecoder` does the same in one CUDA graph.
        self.generate_answers: Callable[[LaneLM, tuple[Tensor, ...], Requests], Answers] = generate

    def decode_unprompted(self, output: DetectorOutput) -> Answers:
        """Decode one answer per proposal of the detector."""
        return self.answer(output.levels, requests_from_proposals(self.propose(output.predictions)))

    def generate(self, levels: tuple[Tensor, ...], requests: Requests) -> Answers:
        """Decode requests as they are, without refinement and rescoring."""
        return self.generate_answers(self.lanelm, levels, requests)

    def answer(self, levels: tuple[Tensor, ...], requests: Requests) -> Answers:
        """Decode requests, then refine, score and cut the answers as configured in `lanelm.decode`.

        The score of an answer to a proposal is the weighted geometric mean of LaneLM's and the detector's confidence.
        """
        decode = self.config.lanelm.decode
        answers = self.generate(levels, requests)
        weight = decode.detector_score_weight * requests.score.isfinite()
        confidence = requests.score.nan_to_num(1.0).clamp(min=1e-6)
        answers = replace(answers, score=answers.score ** (1 - weight) * confidence**weight)
        for _ in range(decode.refinement_rounds - 1):
            refined = replace(
                requests,
                proposal_x=extrapolate_rows(answers.xs, answers.visible),
                proposal_mask=answers.visible & requests.request_mask[..., None],
            )
            second = self.generate(levels, refined)
            answers = Answers(second.xs, second.visible, answers.score)
        if decode.hallucination_removal:
            bottom_up = self.lanelm.config.row_order == "bottom_up"
            answers = remove_hallucinations(answers, bottom_up, decode.hallucination_points)
        return answers
