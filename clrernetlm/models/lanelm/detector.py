"""Joins a frozen detector and a language model on its features in one module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from clrernetlm.config.schema import Config
from clrernetlm.models.clrernet.detector import CLRerNet, DetectorOutput
from clrernetlm.models.clrernet.head import StageOutput
from clrernetlm.models.lanelm.fovea.network import Fovea, FoveaInput, FoveaOutput
from clrernetlm.models.lanelm.fovea.patches import FrameCrop
from clrernetlm.models.lanelm.fovea.refine import refine
from clrernetlm.models.lanelm.generate import generate
from clrernetlm.models.lanelm.greedy_decoding import Answers
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.postprocess import remove_hallucinations
from clrernetlm.models.lanelm.proposals import Proposals, add_missing, propose
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
    def decode_unprompted(self, output: DetectorOutput, crops: Sequence[FrameCrop] | None = None) -> Answers:
        """Decode the lanes of images without prompts, from the detector's output for them.

        `crops`: the same parts of the frames at their own resolution, for a model with a fovea (`needs_crops`).
        """

    @property
    def needs_crops(self) -> bool:
        """Return whether this model reads the frames' own pixels, besides the detector's features."""
        return False

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
        network = config.lanelm.network
        self.fovea = (
            Fovea(network.num_steps, network.fovea_dim, network.fovea_layers, network.fovea_heads)
            if network.fovea
            else None
        )
        # Replaceable: `CudaGraphDecoder` does the same in one CUDA graph.
        self.generate_answers: Callable[[LaneLM, tuple[Tensor, ...], Requests], Answers] = generate

    def decode_unprompted(
        self,
        output: DetectorOutput,
        crops: Sequence[FrameCrop] | None = None,
        expected: Proposals | None = None,
    ) -> Answers:
        """Decode one answer per proposal of the detector, and per lane of `expected` that it has not found."""
        proposals = self.propose(output.predictions)
        if expected is not None:
            distance = self.config.lanelm.decode.nms_threshold * self.config.model.viewport.width
            proposals = add_missing(proposals, expected, distance)
        return self.answer(output.levels, requests_from_proposals(proposals), crops)

    @property
    def needs_crops(self) -> bool:
        """Return whether the model has a fovea."""
        return self.config.lanelm.network.fovea

    def run_fovea(self, given: FoveaInput) -> FoveaOutput:
        """Run the fovea on patches."""
        assert self.fovea is not None
        output: FoveaOutput = self.fovea(given)
        return output

    def generate(self, levels: tuple[Tensor, ...], requests: Requests) -> Answers:
        """Decode requests as they are, without refinement and rescoring."""
        return self.generate_answers(self.lanelm, levels, requests)

    def answer(
        self,
        levels: tuple[Tensor, ...],
        requests: Requests,
        crops: Sequence[FrameCrop] | None = None,
        click_sigma: float | None = None,
    ) -> Answers:
        """Decode requests, then refine, score and cut the answers as configured in `lanelm.decode`.

        The score of an answer to a proposal is the weighted geometric mean of LaneLM's and the detector's confidence.
        With a fovea the answers then move onto the paint in `crops`, one per image, and through clicks of standard
        deviation `click_sigma` network pixels, by default as configured.
        """
        answers = self.answer_from_features(levels, requests)
        if not self.needs_crops:
            return answers
        assert crops is not None, "a model with a fovea needs the frames; see `needs_crops`"
        decode = self.config.lanelm.decode
        sigma = decode.click_sigma * self.config.model.viewport.width if click_sigma is None else click_sigma
        return refine(self.run_fovea, answers, requests, crops, decode.fovea_rounds, decode.fovea_score_weight, sigma)

    def answer_from_features(self, levels: tuple[Tensor, ...], requests: Requests) -> Answers:
        """Decode requests as `answer`, without the fovea."""
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
