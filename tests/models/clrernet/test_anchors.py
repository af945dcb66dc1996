import numpy as np
import pytest
import torch

from clrernetlm.core.errors import UserError
from clrernetlm.models.clrernet.anchors import CLRerNetAnchorGenerator, row_heights, sample_heights, sample_rows
from tests.helpers.golden_weights import GOLDEN


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "a_anchors.npz")


def test_initial_anchors_and_their_lines_are_the_published_ones(golden):
    generator = CLRerNetAnchorGenerator(192, 72, (800, 320))
    anchors = generator.prior_embeddings.weight
    np.testing.assert_allclose(anchors.detach(), golden["prior_embeddings"], atol=1e-7)
    lines = generator.lines(anchors, row_heights(72)).detach()
    np.testing.assert_allclose(lines, golden["anchor_xs"], atol=1e-6)
    np.testing.assert_allclose(lines[:, sample_rows(72, 36)], golden["sampled_xs"], atol=1e-6)


def test_rows_and_sampling_heights_are_the_published_ones(golden):
    np.testing.assert_array_equal(row_heights(72), golden["prior_ys"])
    np.testing.assert_array_equal(sample_rows(72, 36), golden["sample_x_indices"])
    np.testing.assert_array_equal(sample_heights(72, 36), golden["prior_feat_ys"])


@pytest.mark.parametrize(("anchors", "rows", "size"), [(8, 2, (64, 64)), (30, 10, (320, 128)), (240, 144, (1280, 736))])
def test_other_numbers_and_sizes_start_inside_the_image(anchors, rows, size):
    generator = CLRerNetAnchorGenerator(anchors, rows, size)
    start = generator.prior_embeddings.weight.detach()
    assert start.shape == (anchors, 3)
    assert ((start >= 0) & (start <= 1)).all()
    assert len(torch.unique(start, dim=0)) == anchors
    assert generator.lines(start, row_heights(rows)).isfinite().all()


def test_a_line_passes_through_its_start_at_its_angle():
    generator = CLRerNetAnchorGenerator(192, 72, (800, 320))
    start = torch.tensor([[[0.75, 0.5, 0.25]]])  # 45 degrees
    low, high = generator.lines(start, torch.tensor([0.75, 0.25]))[0, 0]
    assert low == 0.5
    # 45 degrees: as many pixels to the right as upwards, half of 320
    assert (high - low) * 799 == pytest.approx(160, abs=0.1)


def test_a_batch_of_anchors_draws_the_lines_of_each():
    generator = CLRerNetAnchorGenerator(192, 72, (800, 320))
    batch = generator.prior_embeddings.weight.detach() + torch.rand(3, 192, 3) * 0.01
    lines = generator.lines(batch, row_heights(72))
    for image in range(3):
        assert torch.equal(lines[image], generator.lines(batch[image], row_heights(72)))


@pytest.mark.parametrize(("anchors", "rows", "field"), [(7, 72, "num_priors"), (192, 1, "num_points")])
def test_too_few_anchors_or_rows_are_refused(anchors, rows, field):
    with pytest.raises(UserError, match=rf"model\.head\.{field}"):
        CLRerNetAnchorGenerator(anchors, rows, (800, 320))
