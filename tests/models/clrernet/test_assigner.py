"""Assignment: the published matches and costs; images, stages and empty slots do not influence each other."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clrernetlm.models.clrernet.assigner import CLRNetIoUCost, DistanceCost, DynamicTopkAssigner, FocalCost, LaneIoUCost
from tests.helpers.golden_weights import GOLDEN

C = np.load(GOLDEN / "c_losses_costs.npz")
D = np.load(GOLDEN / "d_assigner.npz")
FIELDS = ("cls_logits", "anchor_params", "lengths", "xs")
ASSIGNERS = {"": DynamicTopkAssigner(), "clrnet_": DynamicTopkAssigner(cost_combination=0)}


def golden_case(name):
    predictions = {field: torch.from_numpy(D[f"{name}_{field}"]) for field in FIELDS}
    return predictions, torch.from_numpy(D[f"{name}_targets"])


def stack(cases, slots):
    """Cases of one image each -> predictions (N, ...) and targets (N, slots, 78), filled up with invalid lanes."""
    predictions = {field: torch.stack([case[0][field] for case in cases]) for field in FIELDS}
    targets = torch.full((len(cases), slots, 78), -1e5)
    targets[..., 0], targets[..., 1] = 1, 0
    for row, (_, lanes) in zip(targets, cases, strict=True):
        row[: len(lanes)] = lanes
    return predictions, targets


def random_case(seed, lanes, anchors=192):
    """Draw predictions scattered around `lanes` straight lanes."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator)

    height = torch.linspace(0, 1, 72)
    start, end = uniform(2, lanes, 1)
    xs = start + (end - start) * height
    targets = torch.cat([torch.tensor([0.0, 1.0]).expand(lanes, 2), uniform(lanes, 4), xs * 799], dim=1)
    near = torch.randint(max(lanes, 1), (anchors,), generator=generator)
    spread = 0.2 * uniform(anchors, 1) * torch.randn(anchors, 1, generator=generator)
    predictions = {
        "cls_logits": torch.randn(anchors, 2, generator=generator),
        "anchor_params": uniform(anchors, 3),
        "lengths": uniform(anchors, 1),
        "xs": (xs[near] if lanes else uniform(anchors, 72)) + spread,
    }
    return predictions, targets


@pytest.mark.parametrize("case", ["four", "one", "two", "invalidgt"])
def test_cost_matrices_are_the_published_ones(case):
    fields = ("pred", "target", "start", "end", "logits", "labels")
    pred, target, start, end, logits, labels = (torch.from_numpy(C[f"cost_{case}_{name}"]) for name in fields)
    costs = {
        "LaneIoUCost_dynk": LaneIoUCost(lane_width=7.5 / 800)(pred, target),
        "LaneIoUCost_cost": LaneIoUCost(lane_width=30 / 800)(pred, target, start, end),
        "CLRNetIoUCost_def": CLRNetIoUCost()(pred, target),
        "FocalCost": FocalCost()(logits, labels),
        "DistanceCost": DistanceCost()(pred, target),
    }
    for name, cost in costs.items():
        expected = torch.from_numpy(C[f"cost_{case}_{name}"])
        torch.testing.assert_close(cost, expected, rtol=1e-5, atol=2e-6, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("name", D["names"])
@pytest.mark.parametrize("kind", ASSIGNERS)
def test_matches_are_the_published_ones(name, kind):
    assigner = ASSIGNERS[kind]
    predictions, targets = golden_case(name)
    rows, cols = assigner.assign(predictions, targets)
    assert rows.tolist() == D[f"{name}_{kind}rows"].tolist()
    assert cols.tolist() == D[f"{name}_{kind}cols"].tolist()

    batch = {field: value[None] for field, value in predictions.items()}
    overlaps = assigner.overlaps(batch, targets[None])
    np.testing.assert_allclose(overlaps[0], D[f"{name}_{kind}iou"], rtol=1e-5, atol=2e-6)
    assert assigner.dynamic_k(overlaps.mT)[0].tolist() == D[f"{name}_{kind}ks"].tolist()
    # CLRNet's published cost takes distances from a matrix product; its last digits are noise.
    tolerance = 2e-4 if kind else 3e-6
    np.testing.assert_allclose(assigner.costs(batch, targets[None])[0], D[f"{name}_{kind}cost"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", ASSIGNERS)
def test_a_batch_equals_its_images(kind):
    names = list(D["names"])
    predictions, targets = stack([golden_case(name) for name in names], slots=6)
    matched = ASSIGNERS[kind].assign_batch(predictions, targets)
    for name, row in zip(names, matched, strict=True):
        rows = (row >= 0).nonzero().flatten()
        assert rows.tolist() == D[f"{name}_{kind}rows"].tolist(), name
        assert row[rows].tolist() == D[f"{name}_{kind}cols"].tolist(), name


def test_empty_slots_are_never_matched_wherever_they_are():
    predictions, lanes = golden_case("near4")
    targets = torch.full((9, 78), -1e5)
    targets[:, 1] = 0
    slots = [1, 2, 5, 8]
    targets[slots] = lanes
    rows, cols = DynamicTopkAssigner().assign(predictions, targets)
    assert rows.tolist() == D["near4_rows"].tolist()
    assert cols.tolist() == [slots[lane] for lane in D["near4_cols"]]


def test_a_leading_batch_axis_of_one_is_accepted():
    predictions, targets = golden_case("near3")
    batch = {field: value[None] for field, value in predictions.items()}
    rows, _ = DynamicTopkAssigner().assign(batch, targets[None])
    assert rows.tolist() == D["near3_rows"].tolist()


@pytest.mark.parametrize("targets", [torch.zeros(0, 78), torch.zeros(4, 78)])  # no slots, four empty slots
@pytest.mark.parametrize("kind", ASSIGNERS)
def test_no_lanes_match_nothing(targets, kind):
    rows, cols = ASSIGNERS[kind].assign(random_case(0, 0)[0], targets)
    assert rows.shape == cols.shape == (0,)


@given(seed=st.integers(0, 2**32), lanes=st.integers(1, 16), anchors=st.sampled_from([1, 3, 40, 192]))
@settings(deadline=None, max_examples=40)
def test_each_lane_gets_at_most_four_anchors_and_each_anchor_one_lane(seed, lanes, anchors):
    rows, cols = DynamicTopkAssigner().assign(*random_case(seed, lanes, anchors))
    assert 1 <= len(rows) <= 4 * lanes
    assert (rows.diff() > 0).all()
    assert cols.min() >= 0
    assert cols.max() < lanes


@given(seed=st.integers(0, 2**32), lanes=st.integers(1, 8))
@settings(deadline=None, max_examples=40)
def test_of_equal_lanes_the_first_is_kept(seed, lanes):
    predictions, targets = random_case(seed, lanes)
    rows, cols = DynamicTopkAssigner().assign(predictions, targets.repeat(2, 1))
    assert (cols < lanes).all()
    assert rows.tolist() == DynamicTopkAssigner().assign(predictions, targets)[0].tolist()


@given(seed=st.integers(0, 2**32), lanes=st.integers(1, 16))
@settings(deadline=None, max_examples=40)
def test_assign_unmatched_gives_every_lane_an_anchor_and_keeps_other_matches(seed, lanes):
    predictions, targets = random_case(seed, lanes)
    plain = dict(zip(*(t.tolist() for t in DynamicTopkAssigner().assign(predictions, targets)), strict=True))
    rescued = dict(
        zip(*(t.tolist() for t in DynamicTopkAssigner(assign_unmatched=True).assign(predictions, targets)), strict=True)
    )
    assert set(rescued.values()) == set(range(lanes))
    assert plain.items() <= rescued.items()
    assert len(rescued) == len(plain) + lanes - len(set(plain.values()))


def test_assign_unmatched_uses_the_cheapest_free_anchor():
    predictions, targets = golden_case("conflict4")  # anchor 5 is the cheapest of four lanes; the second gets it
    rows, cols = DynamicTopkAssigner(assign_unmatched=True).assign(predictions, targets)
    matches = dict(zip(cols.tolist(), rows.tolist(), strict=True))
    taken = {5}
    for lane in (0, 2, 3):
        expected = next(a for a in D["conflict4_cost"][:, lane].argsort(kind="stable") if a not in taken)
        assert matches[lane] == expected
        taken.add(int(expected))


@pytest.mark.parametrize("kind", ASSIGNERS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_broken_predictions_do_not_break_the_assignment(kind, value):
    predictions, targets = golden_case("near4")
    broken = {field: tensor.clone() for field, tensor in predictions.items()}
    broken["cls_logits"][::3] = value
    broken["xs"][1::3] = value
    rows, cols = ASSIGNERS[kind].assign(broken, targets)
    assert rows.shape == cols.shape
    assert cols.max() < 4


@pytest.mark.parametrize("rescue", [False, True])
@pytest.mark.parametrize("combination", [0, 1])
def test_assignment_needs_no_device_synchronisation(rescue, combination):
    """Uses tensors without data: reading a value or a data-dependent size would fail."""
    predictions, targets = stack([random_case(i, 4) for i in range(3)], slots=4)
    matched = DynamicTopkAssigner(cost_combination=combination, assign_unmatched=rescue).assign_batch(
        {field: value.to("meta") for field, value in predictions.items()}, targets.to("meta")
    )
    assert matched.shape == (3, 192)
