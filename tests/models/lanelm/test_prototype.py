"""The plain variant: shapes of the prototype, several lanes per image, decoding that agrees with teacher forcing."""

import pytest
import torch

from clrernetlm.models.lanelm.greedy_decoding import decode_greedily
from clrernetlm.models.lanelm.losses import lane_lm_loss
from clrernetlm.models.lanelm.prototype import (
    LaneLMModel,
    PlainLaneLMDetector,
    PlainStepDecoder,
    build_lanelm_model,
    extract_visual_tokens,
    shift_right,
)
from clrernetlm.weights.build_models import build_frozen_clrernet
from clrernetlm.weights.checkpoint import save_official
from tests.helpers.small_lanelm import config_of, images

STEPS, BINS = 12, 64


@pytest.fixture(scope="module")
def reader():
    torch.manual_seed(0)
    reader = PlainLaneLMDetector(config_of("plain")).eval()
    with torch.no_grad():  # answers that depend on the image
        reader.lanelm.head.proj_x.weight.mul_(20)
        reader.lanelm.head.proj_y.weight.mul_(5)
    return reader


def tokens(batch, lanes, seed=0):
    """Tokens of random lanes; the last lane of every image is padding."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(1, BINS, (batch, lanes, STEPS), generator=generator)
    y = torch.arange(STEPS).expand(x.shape).clone()
    x[:, -1], y[:, -1] = 0, STEPS
    x[0, 0, :3], y[0, 0, :3] = 0, STEPS
    return x, y


@torch.no_grad()
def decode_tokens(model: LaneLMModel, visual_tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x and y tokens (B, STEPS) of the lane that is decoded of every image; padding after its end."""
    decoder = PlainStepDecoder(model, visual_tokens, STEPS)
    decode_greedily(decoder, STEPS, stop_early=False)
    x, y = decoder.x_tokens[:, 1:], decoder.y_tokens[:, 1:]
    ended = ((x == 0) | (y == STEPS)).cummax(dim=1).values
    return x.masked_fill(ended, 0), y.masked_fill(ended, STEPS)


def test_the_frozen_detector_has_no_gradient(reader, tmp_path):
    save_official(reader.detector, tmp_path / "clrernet.pth")
    detector = build_frozen_clrernet(config_of(), tmp_path / "clrernet.pth")
    assert not any(layer.training for layer in detector.modules())
    assert not any(parameter.requires_grad for parameter in detector.parameters())
    assert torch.equal(detector.neck.fpn_convs[0].conv.bias, reader.detector.neck.fpn_convs[0].conv.bias)


def test_visual_tokens_are_the_cells_of_the_finest_level_row_by_row(reader):
    visual = extract_visual_tokens(reader.detector, images(2))
    level = reader.detector.extract_feat(images(2))[0]
    assert visual.shape == (2, 8 * 16, 64)
    assert not visual.requires_grad
    torch.testing.assert_close(visual[1, 3 * 16 + 5], level[1, :, 3, 5])


def test_the_model_uses_earlier_keypoints():
    x, _ = tokens(1, 2)
    read = shift_right(x, 0)
    assert (read[..., 0] == 0).all()
    assert torch.equal(read[..., 1:], x[..., :-1])


def test_shared_image_features_give_the_loss_of_separate_copies(reader):
    x, y = tokens(2, 3)
    level = reader.detector.extract_feat(images(2))[0]
    got = reader.loss(level, x, y)
    copied = level.flatten(2).transpose(1, 2).repeat_interleave(3, dim=0)
    flat_x, flat_y = x.flatten(0, 1), y.flatten(0, 1)
    valid = (flat_x > 0).any(-1)  # the prototype left out lanes that are nothing but padding
    logits = reader.lanelm(copied[valid], shift_right(flat_x[valid], 0), shift_right(flat_y[valid], STEPS))
    expected = lane_lm_loss(*logits, flat_x[valid], flat_y[valid], 0, STEPS)
    torch.testing.assert_close(got, expected)


def test_padding_does_not_count_in_the_loss():
    logits_x, logits_y = torch.randn(1, 4, BINS), torch.randn(1, 4, STEPS + 1)
    x, y = torch.tensor([[5, 9, 0, 0]]), torch.tensor([[0, 1, STEPS, STEPS]])
    loss = lane_lm_loss(logits_x, logits_y, x, y, 0, STEPS)
    changed = lane_lm_loss(
        torch.cat([logits_x[:, :2], torch.randn(1, 2, BINS)], 1),
        torch.cat([logits_y[:, :2], torch.randn(1, 2, STEPS + 1)], 1),
        x,
        y,
        0,
        STEPS,
    )
    torch.testing.assert_close(loss, changed)
    mean = 0.5 * (
        torch.nn.functional.cross_entropy(logits_x[0, :2], x[0, :2])
        + torch.nn.functional.cross_entropy(logits_y[0, :2], y[0, :2])
    )
    torch.testing.assert_close(loss, mean)
    nothing = lane_lm_loss(logits_x, logits_y, torch.zeros_like(x), torch.full_like(y, STEPS), 0, STEPS)
    assert nothing == 0


def test_greedy_decoding_agrees_with_teacher_forcing_on_its_own_answer(reader):
    visual = extract_visual_tokens(reader.detector, images(3))
    x, y = decode_tokens(reader.lanelm, visual)
    logits_x, logits_y = reader.lanelm(visual, shift_right(x, 0), shift_right(y, STEPS))
    going = x > 0
    assert going.any()
    assert torch.equal(logits_x.argmax(-1)[going], x[going])
    assert torch.equal(logits_y.argmax(-1)[going], y[going])


def test_answers_are_at_the_positions_of_their_tokens(reader):
    output = reader.run_detector(images(3))
    answers = reader.decode_unprompted(output)
    x, y = decode_tokens(reader.lanelm, output.levels[0].flatten(2).transpose(1, 2))
    assert answers.xs.shape == answers.visible.shape == (3, 1, STEPS)
    assert answers.score.shape == (3, 1)
    for image in range(3):
        last = dict(zip(y[image].tolist(), x[image].tolist(), strict=True))  # of several on one row any
        last.pop(STEPS, None)
        assert answers.visible[image, 0].nonzero().flatten().tolist() == sorted(last)


def test_lanes_are_learned_one_per_image():
    torch.manual_seed(0)
    model = build_lanelm_model(config_of("plain").lanelm.network, channels=16)
    visual = torch.randn(2, 6, 16)
    x = torch.stack([torch.arange(3, 3 + STEPS), torch.arange(60, 60 - 4 * STEPS, -4)])
    y = torch.arange(STEPS).expand(2, -1)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(60):
        loss = lane_lm_loss(*model(visual, shift_right(x, 0), shift_right(y, STEPS)), x, y, 0, STEPS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    written_x, written_y = decode_tokens(model, visual)
    assert torch.equal(written_x, x)
    assert torch.equal(written_y, y)
