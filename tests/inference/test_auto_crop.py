"""Automatic crops for any camera, with a detector that finds drawn lanes exactly."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clrernetlm.config import ClrernetConfig, DecodeConfig
from clrernetlm.core.viewport import FrameSize, Viewport
from clrernetlm.inference.auto_crop import DetectorBatch, camera_viewport, run_detector
from clrernetlm.inference.horizon import TARGET_HORIZON, horizon_in_crop
from clrernetlm.models.clrernet.decode import decode_lanes
from clrernetlm.models.clrernet.detector import CLRerNet

AUTO = ClrernetConfig(
    viewport=Viewport(width=512, height=192, top=0.36), viewport_mode="auto", decode=DecodeConfig(0.4, 20.0)
)
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
ROWS = 72


class SeesColours(CLRerNet):
    """Replaces a network: finds a lane per colour channel, on the rows where it is drawn."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.anything, self.runs = nn.Parameter(torch.zeros(1)), 0

    def extract_feat(self, images: Tensor) -> tuple[Tensor, ...]:
        self.runs += len(images)
        return (images, images[:, :, ::2, ::2])

    def bbox_head(self, features: tuple[Tensor, ...]) -> list[dict[str, Tensor]]:  # type: ignore[override]
        images = features[0]
        at = torch.linspace(images.shape[2] - 1, 0, ROWS).round().long()
        rows = images[:, :, at]  # (B, 3, 72, W), bottom first
        lit = rows > 0.5
        place = torch.linspace(0, 1, images.shape[3])
        seen = lit.any(-1)
        xs = (lit * place).sum(-1) / lit.sum(-1).clamp(min=1)
        length = seen.sum(-1, keepdim=True).float()
        start = seen.float().argmax(-1)
        params = torch.stack([1 - start / (ROWS - 1), xs[..., 0], xs[..., 0]], -1)
        score = torch.where(length > 3, 0.9, 0.001)
        logits = torch.cat([torch.zeros_like(score), score.logit()], -1)
        return [{"cls_logits": logits, "anchor_params": params, "lengths": length / (ROWS - 1), "xs": xs}]


def road(frame: FrameSize, share: float) -> np.ndarray:
    """Draw three coloured lanes that meet at a row, a fraction of the frame's height, and end a little below it."""
    width, height = frame
    image = np.zeros((height, width, 3), np.uint8)
    for colour, x in zip(COLOURS, (-0.1, 0.35, 0.8), strict=True):
        meet = np.array([0.5 * width, share * height])
        near = np.array([x * width, float(height)])
        far = meet + 0.12 * (near - meet)
        ends = [tuple(int(v) for v in point.round()) for point in (near, far)]
        cv2.line(image, *ends, colour, max(2, width // 200))
    return image


def lanes_of(config: ClrernetConfig, seen: DetectorBatch) -> list:
    return decode_lanes(seen.output.predictions, config.decode, seen.viewports, seen.frames)


@pytest.mark.parametrize("frame", [(1280, 720), (960, 540), (2560, 1440), (512, 288), (1640, 590), (720, 1280)])
@pytest.mark.parametrize("share", [0.22, 0.42, 0.7])
def test_the_crop_of_every_camera_puts_the_horizon_in_place(frame: FrameSize, share: float) -> None:
    detector = SeesColours()
    seen = run_detector(AUTO, detector, [road(frame, share)])
    (view,) = seen.viewports
    placed = horizon_in_crop(share * frame[1], view, frame)
    assert -0.07 <= placed <= 0.31
    if view not in (AUTO.viewport,) and frame != (720, 1280):
        assert placed == pytest.approx(TARGET_HORIZON, abs=0.04)
    assert detector.runs <= 2
    (lanes,) = lanes_of(AUTO, seen)
    assert len(lanes) == 3
    drawn, reach = road(frame, share), frame[0] // 100
    for lane in lanes:  # points are in the frame's pixels for any crop
        x, y = lane.points[len(lane.points) // 2].round().astype(int)
        assert drawn[y, max(0, x - reach) : x + reach].any()


def test_the_second_pass_changes_only_the_image_that_needs_it() -> None:
    images = [road((1280, 720), 0.45), road((1280, 720), 0.15), road((640, 360), 0.5)]
    detector = SeesColours()
    seen = run_detector(AUTO, detector, images)
    assert detector.runs == 4
    assert [view == AUTO.viewport for view in seen.viewports] == [True, False, True]
    for place, image in enumerate(images):
        alone = run_detector(AUTO, SeesColours(), [image])
        assert alone.viewports == [seen.viewports[place]]
        for name, tensor in alone.output.predictions.items():
            torch.testing.assert_close(seen.output.predictions[name][place], tensor[0])
        for level, one in zip(seen.output.levels, alone.output.levels, strict=True):
            torch.testing.assert_close(level[place], one[0])


def test_a_fixed_or_a_given_crop_is_used_as_it_is() -> None:
    image, given = road((1280, 720), 0.15), Viewport(width=512, height=192, top=0.05, bottom=0.9)
    for config, viewport in ((replace(AUTO, viewport_mode="fixed"), None), (AUTO, given)):
        detector = SeesColours()
        assert run_detector(config, detector, [image], viewport).viewports == [viewport or AUTO.viewport]
        assert detector.runs == 1


def test_a_second_pass_with_lower_confidence_is_discarded() -> None:
    detector = SeesColours()
    detector.bbox_head = lambda levels: worse(SeesColours.bbox_head(SeesColours(), levels), detector.runs)  # type: ignore
    assert run_detector(AUTO, detector, [road((1280, 720), 0.15)]).viewports == [AUTO.viewport]
    assert detector.runs == 2


def worse(stages: list[dict[str, Tensor]], runs: int) -> list[dict[str, Tensor]]:
    """Return the head's outputs with low confidence from the second run on."""
    if runs > 1:
        stages[0]["cls_logits"][..., 1] = -9.0
    return stages


def test_an_image_without_lanes_uses_the_configured_crop_once() -> None:
    detector = SeesColours()
    assert run_detector(AUTO, detector, [np.zeros((720, 1280, 3), np.uint8)]).viewports == [AUTO.viewport]
    assert detector.runs == 1


def test_a_camera_gets_the_median_of_its_images() -> None:
    images = [road((1280, 720), share) for share in (0.14, 0.15, 0.16, 0.6)] + [np.zeros((720, 1280, 3), np.uint8)]
    view = camera_viewport(AUTO, SeesColours(), images)
    assert horizon_in_crop(0.155 * 720, view, (1280, 720)) == pytest.approx(TARGET_HORIZON, abs=0.03)
    assert camera_viewport(AUTO, SeesColours(), images[-1:]) == AUTO.viewport
