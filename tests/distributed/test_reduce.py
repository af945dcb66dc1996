"""The loss over several processes: the mean that DDP takes of the gradients is the gradient of the whole batch."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from clrernetlm.distributed.reduce import mean_over_processes
from clrernetlm.models.clrernet.criterion import CLRerNetCriterion
from tests.helpers.processes import START

LANES = (0, 4)  # of the two images
SHAPES = {"cls_logits": 2, "anchor_params": 3, "lengths": 1, "xs": 72}


class Network(nn.Module):
    """Returns predictions and segmentation computed from the images directly; every loss reaches a parameter."""

    def __init__(self):
        super().__init__()
        self.shift = nn.ParameterDict({name: nn.Parameter(torch.full((size,), 0.01)) for name, size in SHAPES.items()})
        self.segment = nn.Conv2d(3, 5, 1)
        nn.init.constant_(self.segment.weight, 0.1)
        nn.init.zeros_(self.segment.bias)

    def forward(self, stage, picture):
        return [{name: value + self.shift[name] for name, value in stage.items()}], self.segment(picture)


def batch():
    """Return two images that differ in every divisor: no lane and a partly ignored mask; four lanes and wide marks."""
    generator = torch.Generator().manual_seed(0)
    stage = {name: torch.rand(2, 48, size, generator=generator) for name, size in SHAPES.items()}
    targets = torch.full((2, 4, 78), -1e5)
    targets[..., :2] = torch.tensor([1.0, 0.0])
    for image, lanes in enumerate(LANES):
        targets[image, :lanes, 1] = 1
        targets[image, :lanes, 2:6] = torch.rand(lanes, 4, generator=generator)
        targets[image, :lanes, 6:] = 800 * torch.rand(lanes, 72, generator=generator)
    masks = torch.zeros(2, 16, 20, dtype=torch.uint8)
    masks[0, 2:] = 255
    masks[1, :, ::2] = 3
    return stage, torch.randn(2, 3, 16, 20, generator=generator), targets, masks


def losses_and_gradients(images, wrap=lambda network: network):
    stage, picture, targets, masks = batch()
    network = wrap(Network())
    stages, logits = network({name: value[images] for name, value in stage.items()}, picture[images])
    losses = CLRerNetCriterion()(stages, targets[images], logits, masks[images])
    sum(losses.values()).backward()
    gradients = {name.removeprefix("module."): value.grad for name, value in network.named_parameters()}
    return {name: value.detach() for name, value in losses.items()}, gradients


def one_of_two(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(losses_and_gradients(slice(rank, rank + 1), DistributedDataParallel), f"{folder}/{rank}.pt")
    dist.barrier()  # a process that ends early closes the connection
    dist.destroy_process_group()


def test_two_processes_have_the_losses_and_gradients_of_one(tmp_path):
    torch.multiprocessing.start_processes(one_of_two, args=(str(tmp_path),), nprocs=2, start_method=START)
    (first, gradients), (second, same) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    losses, expected = losses_and_gradients(slice(0, 2))
    assert set(losses) == {"loss_cls", "loss_reg_xytl", "loss_iou", "loss_seg"}
    for name, value in losses.items():
        assert (first[name] + second[name]).item() / 2 == pytest.approx(value.item(), rel=1e-6), name
    for name, value in expected.items():
        assert value.abs().max() > 0, name
        torch.testing.assert_close(gradients[name], value, rtol=1e-5, atol=1e-8)
        torch.testing.assert_close(same[name], value, rtol=1e-5, atol=1e-8)


def test_one_process_needs_no_group():
    value = torch.tensor([1.0, 2.0], requires_grad=True)
    mean = mean_over_processes(value)
    assert mean.tolist() == [1, 2]
    assert not mean.requires_grad
