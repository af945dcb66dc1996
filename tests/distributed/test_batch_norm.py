"""Two processes with half a batch each compute what one process computes with the whole batch."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from clrernetlm.distributed.batch_norm import SyncedBatchNorm2d, synchronise_batch_norm


def step(network, batch, weight):
    """Forward, a loss that is a mean over images, backward."""
    output = network(batch)
    (output.sin() * weight).mean().backward()
    return output


def network_and_batch():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.ReLU(), nn.Conv2d(4, 2, 1)).double()
    return network, torch.randn(4, 3, 6, 7, dtype=torch.double), torch.randn(4, 2, 4, 5, dtype=torch.double)


def run_half(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    network, batch, weight = network_and_batch()
    synchronise_batch_norm(network)
    half = slice(2 * rank, 2 * rank + 2)
    output = step(network, batch[half], weight[half])
    gradients = [parameter.grad for parameter in network.parameters()]
    for gradient in gradients:  # as DistributedDataParallel averages them
        dist.all_reduce(gradient)
        gradient /= 2
    results = {"output": output.detach(), "gradients": gradients, "buffers": list(network.buffers())}
    torch.save(results, f"{folder}/{rank}")
    dist.destroy_process_group()


def test_two_processes_with_half_a_batch_equal_one_with_the_whole_batch(tmp_path):
    network, batch, weight = network_and_batch()
    expected = step(network, batch, weight)
    mp.start_processes(run_half, args=(str(tmp_path),), nprocs=2, start_method="fork")
    halves = [torch.load(tmp_path / str(rank)) for rank in range(2)]
    torch.testing.assert_close(torch.cat([half["output"] for half in halves]), expected.detach())
    for rank in range(2):
        for got, parameter in zip(halves[rank]["gradients"], network.parameters(), strict=True):
            torch.testing.assert_close(got, parameter.grad)
        for got, buffer in zip(halves[rank]["buffers"], network.buffers(), strict=True):
            torch.testing.assert_close(got, buffer)


def test_in_one_process_it_equals_batch_norm():
    network, batch, _ = network_and_batch()
    expected = network(batch)
    assert [type(m) for m in synchronise_batch_norm(network)][1] is SyncedBatchNorm2d
    network[1].reset_running_stats()
    torch.testing.assert_close(network(batch), expected)
