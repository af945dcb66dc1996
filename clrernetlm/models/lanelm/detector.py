"""The frozen detector and the language model that reads its features, in one module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from clrernetlm.config.schema import Config
from clrernetlm.models.clrernet.detector import CLRerNet
from clrernetlm.models.clrernet.head import Stage
from clrernetlm.models.lanelm.asking import ask_about_lanes
from clrernetlm.models.lanelm.generate import Answers, cut_hallucinations, generate
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.proposals import Proposals, propose
from clrernetlm.models.lanelm.requests import Requests, extend_question


@dataclass
class Observation:
    """What the detector saw in B images."""

    levels: tuple[Tensor, ...]  # pyramid (B, C, h, w), finest first
    stage: Stage  # the detector's own predictions


class DetectorReader(nn.Module, ABC):
    """CLRerNet, `detector`, frozen and always in evaluation mode, and a language model on its pyramid, `lanelm`."""

    lanelm: nn.Module

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.detector = CLRerNet(config.model).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> DetectorReader:
        """Training or evaluation mode of the language model; the detector stays in evaluation mode."""
        super().train(mode)
        self.detector.eval()
        return self

    @torch.no_grad()
    def observe(self, images: Tensor) -> Observation:
        """(B, 3, H, W) float images in [0, 1] -> the detector's pyramid and predictions.

        In float32 also where LaneLM trains in mixed precision: it reads what it will read when it is used.
        """
        with torch.autocast(images.device.type, enabled=False):
            levels = self.detector.extract_feat(images)
            return Observation(levels, self.detector.bbox_head(levels)[-1])

    @abstractmethod
    def read(self, observation: Observation) -> Answers:
        """The lanes of the observed images as the language model sees them, without any prompt."""

    def propose(self, stage: Stage, threshold: float | None = None) -> Proposals:
        """The detector's lanes on LaneLM's rows, from a confidence on that is lower than for its own results."""
        decode = self.config.lanelm.decode
        return propose(
            stage,
            self.config.lanelm.network.num_steps,
            self.config.model.viewport.width,
            self.config.model.decode.nms_threshold,
            decode.proposal_threshold if threshold is None else threshold,
            decode.max_proposals,
        )


class PromptableDetector(DetectorReader):
    """CLRerNet and LaneLM: `observe` looks at images once; `propose` and `answer` ask about them as often as needed."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.lanelm: LaneLM = LaneLM(
            config.lanelm.network, config.model.head.feature_channels, config.model.viewport.size
        )
        self.write: Callable[[LaneLM, tuple[Tensor, ...], Requests], Answers] = generate

    def read(self, observation: Observation) -> Answers:
        """Answers about the detector's lanes."""
        return self.answer(observation.levels, ask_about_lanes(self.propose(observation.stage)))

    def generate(self, levels: tuple[Tensor, ...], requests: Requests) -> Answers:
        """Answers as the language model writes them."""
        return self.write(self.lanelm, levels, requests)

    def answer(self, levels: tuple[Tensor, ...], requests: Requests) -> Answers:
        """Lanes for all requests, asked again, scored and cut as the settings say.

        The score of an answer about a lane of the detector is the weighted geometric mean of both models' confidence.
        """
        decode = self.config.lanelm.decode
        answers = self.generate(levels, requests)
        share = decode.detector_share * requests.score.isfinite()
        confidence = requests.score.nan_to_num(1.0).clamp(min=1e-6)
        answers = replace(answers, score=answers.score ** (1 - share) * confidence**share)
        for _ in range(decode.rounds - 1):
            again = replace(
                requests,
                question=extend_question(answers.xs, answers.shown),
                shown=answers.shown & requests.asked[..., None],
            )
            second = self.generate(levels, again)
            answers = Answers(second.xs, second.shown, answers.score)
        if decode.hallucination_removal:
            bottom_up = self.lanelm.config.row_order == "bottom_up"
            answers = cut_hallucinations(answers, bottom_up, decode.hallucination_points)
        return answers
