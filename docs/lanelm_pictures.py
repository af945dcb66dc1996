"""The pictures of LANELM.md, from a trained LaneLM and one image with labels.

python docs/lanelm_pictures.py bench_lanelm CHECKPOINT bench/data/driver_03/00000.MP4/00240.jpg --lane 1
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clrernetlm import Predictor
from clrernetlm.core.arrays import BgrImage
from clrernetlm.core.drawing import BLUE, GREEN, PALETTE, RED, draw_lanes
from clrernetlm.core.images import read_image
from clrernetlm.core.lane import Lane
from clrernetlm.datasets.culane import read_labels
from clrernetlm.models.lanelm.attention import Attention
from clrernetlm.models.lanelm.detector import PromptableDetector
from clrernetlm.models.lanelm.tokenizer import LaneTokenizer, LaneTokenizerConfig

SCALE = 2  # pictures are drawn at twice the frame's size, so that lines are fine
BRIGHTEST = 4.0  # times the share of attention that every place would get if all were equal
OUT = Path(__file__).parent / "images"


def enlarged(image: BgrImage) -> BgrImage:
    """A frame at `SCALE` times its size."""
    return cv2.resize(image, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def caption(image: BgrImage, text: str) -> BgrImage:
    """The picture with a line of text above it."""
    bar = np.full((44, image.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, text, (12, 30), cv2.FONT_HERSHEY_DUPLEX, 0.8, (40, 40, 40), 1, cv2.LINE_AA)
    return np.vstack([bar, image])


def below_horizon(predictor: Predictor, image: BgrImage) -> BgrImage:
    """The part of a drawn frame that the network sees, and a little above."""
    top = predictor.config.model.viewport.crop_box((image.shape[1], image.shape[0]))[1]
    return image[max(0, top - 40) :]


def tokens_picture(predictor: Predictor, image: BgrImage, labels: list[NDArray[np.float64]]) -> BgrImage:
    """Labelled lanes as keypoints on their rows, each with its pair of tokens."""
    network, viewport = predictor.config.lanelm.network, predictor.config.model.viewport
    frame = (image.shape[1], image.shape[0])
    tokenizer = LaneTokenizer(LaneTokenizerConfig(*viewport.size, network.num_steps, network.nbins_x))
    canvas = enlarged(image)
    for y in tokenizer.rows:
        row = viewport.to_frame(np.array([[0.0, y], [viewport.width, y]]), frame) * SCALE
        start, end = np.rint(row).astype(int).tolist()
        cv2.line(canvas, start, end, (225, 225, 225), 1, cv2.LINE_AA)
    for number, label in enumerate(labels):
        x_tokens, y_tokens = tokenizer.encode_single_lane(viewport.to_network(label, frame))
        points = viewport.to_frame(tokenizer.decode_single_lane(x_tokens, y_tokens), frame) * SCALE
        written = [(x, y) for x, y in zip(x_tokens, y_tokens, strict=True) if x]
        for (x, y), point in zip(written, np.rint(points).astype(int).tolist(), strict=True):
            cv2.circle(canvas, point, 6, PALETTE[number % len(PALETTE)], -1, cv2.LINE_AA)
            if y % 4 == 0:
                place = (point[0] + 12, point[1] + 5)
                cv2.putText(canvas, f"({x}, {y})", place, cv2.FONT_HERSHEY_DUPLEX, 0.55, (0, 0, 0), 3, cv2.LINE_AA)
                cv2.putText(
                    canvas, f"({x}, {y})", place, cv2.FONT_HERSHEY_DUPLEX, 0.55, (255, 255, 255), 1, cv2.LINE_AA
                )
    return caption(below_horizon(predictor, canvas), "a lane is a sequence of tokens (x bin, row)")


def attention_pictures(predictor: Predictor, image: BgrImage, click: NDArray[np.float64]) -> BgrImage:
    """Where three keypoints of one answer look in the image, on the finest level."""
    model = predictor.model
    assert isinstance(model, PromptableDetector)
    seen: list[Tensor] = []

    def keep(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        attention = module
        assert isinstance(attention, Attention)
        queries = attention.query(inputs[0]).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        weights = (queries @ inputs[1].transpose(-2, -1) / queries.shape[-1] ** 0.5).softmax(-1)
        seen.append(weights.mean(1)[0, -1])  # mean over heads, newest token

    finest = model.lanelm.decoder.stack[-1].cross_attn
    assert finest is not None
    handle = finest.register_forward_pre_hook(keep)
    predictor.set_image(image)
    lane = predictor.complete(click)
    handle.remove()
    viewport, frame = predictor.config.model.viewport, (image.shape[1], image.shape[0])
    left, top, right, bottom = viewport.crop_box(frame)
    panels = []
    for share in (0.15, 0.5, 0.85):
        step = min(int(share * len(lane)), len(seen) - 2)
        weights = seen[step + 1].view(viewport.height // 8, viewport.width // 8).numpy()
        spread = -(weights * np.log(weights)).sum() / np.log(weights.size)
        largest = weights.max() * weights.size
        print(f"keypoint {step + 2}: normalised entropy {spread:.3f}, largest share {largest:.1f}x equal")
        shares = weights * weights.size / BRIGHTEST
        heat = cv2.resize(shares, (right - left, bottom - top), interpolation=cv2.INTER_CUBIC)
        canvas = image.astype(np.float32) * 0.55
        canvas[top:bottom, left:right] += 200 * np.clip(heat, 0, 1)[..., None] * np.array([0.1, 0.6, 1.0])
        drawn = enlarged(np.clip(canvas, 0, 255).astype(np.uint8))
        drawn = draw_lanes(drawn, [SCALE * lane.points[: step + 1]], GREEN)
        panels.append(below_horizon(predictor, caption(drawn, f"after {step + 1} keypoints")[44:]))
    return caption(np.vstack(panels), "what the next keypoint looks at (finest level, mean over heads)")


def completion_picture(predictor: Predictor, image: BgrImage, click: NDArray[np.float64]) -> BgrImage:
    """One click, and the lane as it is written."""
    predictor.set_image(image)
    lane = predictor.complete(click, use_detector=False)
    panels = []
    for count in (1, len(lane) // 3, 2 * len(lane) // 3, len(lane)):
        canvas = draw_lanes(enlarged(image), [Lane(SCALE * lane.points[: max(count, 1)])], BLUE)
        for x, y in np.rint(SCALE * lane.points[:count]).astype(int).tolist():
            cv2.circle(canvas, (x, y), 5, BLUE, -1, cv2.LINE_AA)
        cv2.circle(canvas, np.rint(SCALE * click[0]).astype(int).tolist(), 10, RED, 3, cv2.LINE_AA)
        panels.append(below_horizon(predictor, canvas))
    half = panels[0].shape[1] // 2, panels[0].shape[0] // 2
    small = [cv2.resize(panel, half, interpolation=cv2.INTER_AREA) for panel in panels]
    grid = np.vstack([np.hstack(small[:2]), np.hstack(small[2:])]).astype(np.uint8)
    return caption(grid, "one click (red), and the lane written from it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("image", type=Path)
    parser.add_argument("--lane", type=int, default=0, help="which labelled lane is clicked")
    args = parser.parse_args()
    predictor = Predictor(args.config, args.checkpoint)
    image = read_image(str(args.image))
    labels = read_labels(str(args.image))
    clicked = labels[args.lane]
    click = clicked[len(clicked) // 2][None]
    for name, picture in (
        ("lanelm_tokens", tokens_picture(predictor, image, labels)),
        ("lanelm_attention", attention_pictures(predictor, image, click)),
        ("lanelm_completion", completion_picture(predictor, image, click)),
    ):
        encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
        (OUT / f"{name}.jpg").write_bytes(encoded.tobytes())
        print(OUT / f"{name}.jpg")


if __name__ == "__main__":
    main()
