"""One image is learned exactly: greedy decoding gives the tokens of its lanes."""

from pathlib import Path

import cv2
import numpy as np
import torch

from clrernetlm.config import LaneLMTrainingRequestsConfig
from clrernetlm.datasets.lanelm_formatting import PackLaneLMInputs
from clrernetlm.models.lanelm.detector import PromptableDetector
from clrernetlm.models.lanelm.generate import generate
from clrernetlm.models.lanelm.losses import keypoint_sequences, training_request_losses
from clrernetlm.models.lanelm.proposals import Proposals
from clrernetlm.models.lanelm.requests import requests_from_clicks, requests_from_proposals, requests_from_start_points
from clrernetlm.models.lanelm.training_requests import DRAWS, build_training_requests, num_candidates
from tests.helpers.drawn_roads import drawn_lanes, write_drawn_roads
from tests.helpers.small_lanelm import small_lanelm_config

STEPS = 200
COPIES = 6  # copies of the image in a batch, each with its own training requests


def test_one_image_is_learned_exactly(tmp_path: Path) -> None:
    root = write_drawn_roads(tmp_path, 1)
    image = cv2.imread(str(root / "driver_1/clip.MP4/00000.jpg"))
    config = small_lanelm_config(root, tmp_path, tmp_path / "none")
    config.lanelm.network.num_steps = 12
    torch.manual_seed(0)
    model = PromptableDetector(config).eval()  # random weights: features still differ between positions
    lanelm, view = model.lanelm, config.model.viewport

    lanes = [view.to_network(lane, (410, 148)) for lane in drawn_lanes(np.random.default_rng([0, 0]))]
    packing = PackLaneLMInputs(max_lanes=4, num_points=12, img_w=160, img_h=64, nbins_x=80)
    sample = packing({"image": view.apply(image), "metainfo": {}, "lanes": lanes}, np.random.default_rng(0))
    assert sample is not None
    tokens = sample["lane_tokens_x"][sample["lane_valid_mask"]]
    count = len(tokens)
    # Lanes are at the centres of bins: near a border between two, the right token would be a matter of rounding.
    labels = torch.from_numpy(packing.tokenizer.dequantise(sample["lane_tokens_x"])).float()[None]
    levels = model.run_detector(sample["inputs"][None]).levels
    here = labels[:, :count].nan_to_num(0)
    proposals = Proposals(here, labels[:, :count].isfinite(), torch.full((1, count), 0.9))

    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(lanelm.parameters(), lr=8e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, total_steps=STEPS)
    batch_levels = tuple(level.expand(COPIES, -1, -1, -1) for level in levels)
    lesson_settings = LaneLMTrainingRequestsConfig()
    for _ in range(STEPS):
        off = torch.from_numpy(rng.uniform(-4, 4, (COPIES, count, 1)).astype(np.float32))  # as a real detector is
        asked = Proposals(here + off, proposals.visible.expand(COPIES, -1, -1), proposals.scores.expand(COPIES, -1))
        draws = torch.from_numpy(rng.random((COPIES, num_candidates(count, 4), DRAWS + 12), np.float32))
        lessons = build_training_requests(lesson_settings, view.size, asked, labels.expand(COPIES, -1, -1), draws)
        inputs, first, _ = keypoint_sequences(lanelm, lessons.inputs)
        logits, order = lanelm(batch_levels, lessons.requests, inputs, first)
        losses = training_request_losses(lanelm, lessons, logits, order, lesson_settings)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        schedule.step()

    middle = torch.full((1, count, 1), 8)  # every lane is on this row
    clicks = torch.stack([here.gather(-1, middle), lanelm.rows[middle]], dim=-1)
    there = torch.ones_like(middle, dtype=torch.bool)
    for requests in (
        requests_from_proposals(proposals),
        requests_from_start_points(proposals, lanelm.rows),
        requests_from_clicks(proposals, clicks, there, lanelm.rows, max_distance=0.0),
    ):
        answers = generate(lanelm, levels, requests)
        written = torch.where(answers.visible, lanelm.x_tokens(answers.xs), 0)[0]
        assert written.tolist() == tokens.tolist()

    # More than half of an error of three pixels in the proposal is corrected.
    beside = Proposals(here + 3, proposals.visible, proposals.scores)
    answers = generate(lanelm, levels, requests_from_proposals(beside))
    error = (answers.xs - here).abs()[answers.visible & proposals.visible]
    assert error.mean() < 1.5
    assert (answers.visible & proposals.visible).sum() > 0.8 * proposals.visible.sum()
