"""Batches are a function of (seed, epoch) alone; N processes share exactly the batches of one."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clrernetlm.datasets.samplers import EpochSampler, ShardBatches
from clrernetlm.distributed.sharding import Shard


def batches(length, batch_size, epoch=0, **settings):
    sampler = EpochSampler(length, batch_size, **settings)
    sampler.set_epoch(epoch)
    return list(sampler)


@given(length=st.integers(8, 200), share=st.integers(1, 4), world=st.sampled_from([1, 2, 4]), epoch=st.integers(0, 3))
def test_processes_share_the_batches_of_one_process(length, share, world, epoch):
    batch_size = min(share * world, length // world * world)
    whole = batches(length, batch_size, epoch, seed=3)
    parts = [batches(length, batch_size, epoch, seed=3, rank=rank, world=world) for rank in range(world)]
    assert [list(chain(*rows)) for rows in zip(*parts, strict=True)] == whole


def test_an_epoch_visits_every_image_once():
    indices = [index for batch in batches(24, 4) for _, index in batch]
    assert sorted(indices) == list(range(24))


def test_epochs_and_seeds_differ_and_repeat():
    assert batches(50, 5, epoch=1) == batches(50, 5, epoch=1)
    assert [i for b in batches(50, 5, epoch=1) for _, i in b] != [i for b in batches(50, 5, epoch=2) for _, i in b]
    assert batches(50, 5, seed=1) != batches(50, 5, seed=2)


@pytest.mark.parametrize("world", [1, 2])
def test_fewer_images_than_a_batch_still_make_one_equal_batch_per_process(world):
    parts = [batches(3, 8, rank=rank, world=world) for rank in range(world)]
    assert [len(part) for part in parts] == [1] * world
    assert len({len(part[0]) for part in parts}) == 1
    assert {index for part in parts for _, index in part[0]} == {0, 1, 2}


@given(
    length=st.integers(0, 100),
    world=st.integers(1, 5),
    run=st.integers(1, 7),
    equal=st.booleans(),
    rank=st.integers(0, 4),
)
def test_shards_hold_each_image_exactly_once(length, world, run, equal, rank):
    samplers = [ShardBatches(length, Shard(rank, world, run), equal) for rank in range(world)]
    shards = [list(sampler) for sampler in samplers]
    assert sorted(chain(*chain(*shards))) == list(range(length))
    assert [len(sampler) for sampler in samplers] == [len(shard) for shard in shards]
    whole = list(ShardBatches(length, Shard(chunk_size=run)))
    assert sorted(batch for batch in chain(*shards) if batch) == whole, "the batches of one process"
    if equal:
        assert len({len(shard) for shard in shards}) == 1
    shard = Shard(rank % world, world, run)
    assert list(shard.pick(range(length))) == list(chain(*shards[shard.rank]))
