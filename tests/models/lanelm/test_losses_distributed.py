"""LaneLM's losses over several processes: the mean of their gradients is the gradient of the whole batch."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from clrernetlm.models.lanelm.losses import lane_lm_loss, masked_means

BINS, STEPS = 30, 8


def batch():
    """Two lanes: one of a single keypoint, one on every row; so each has divisors of its own."""
    torch.manual_seed(0)
    logits = torch.randn(2, STEPS, BINS + STEPS + 1, dtype=torch.double)
    y = torch.arange(STEPS).repeat(2, 1)
    x = torch.randint(1, BINS, (2, STEPS))
    x[0, 1:], y[0, 1:] = 0, STEPS
    return logits, x, y


def losses_and_gradient(lanes):
    logits, x, y = (tensor[lanes] for tensor in batch())
    logits.requires_grad_()
    plain = lane_lm_loss(*logits.split([BINS, STEPS + 1], -1), x, y, 0, STEPS)
    values = logits.square()
    # The second of these counts nothing in one of the two processes, the third in none.
    counted = [values > 1, (values > 1) & (x > 0).all(-1)[:, None, None], torch.zeros_like(values, dtype=torch.bool)]
    of_parts = masked_means([values] * 3, counted)
    losses = torch.cat([plain[None], of_parts])
    (losses * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    return losses.detach(), logits.grad


def half(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(losses_and_gradient(slice(rank, rank + 1)), f"{folder}/{rank}")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_with_half_a_batch_equal_one_with_the_whole_batch(tmp_path):
    losses, gradient = losses_and_gradient(slice(0, 2))
    mp.start_processes(half, args=(str(tmp_path),), nprocs=2, start_method="fork")
    halves = [torch.load(tmp_path / str(rank)) for rank in range(2)]
    torch.testing.assert_close(sum(found for found, _ in halves) / 2, losses)
    torch.testing.assert_close(torch.cat([part for _, part in halves]) / 2, gradient)
    assert losses[3] == 0
    assert (losses[:3] > 0).all()
