"""Batches of worker processes are complete, also with little shared memory."""

import os
import warnings
from types import SimpleNamespace

import pytest
import torch

from clrernetlm.datasets.loaders import ImageLoader, build_culane_lanelm_dataloader, build_loader, collate_shard
from clrernetlm.distributed.sharding import Shard
from tests.helpers.drawn_roads import write_drawn_roads
from tests.helpers.small_detector import small_config


@pytest.fixture(scope="module")
def roads(tmp_path_factory):
    return write_drawn_roads(tmp_path_factory.mktemp("roads"), 5)


def loader_of(roads, workers):
    config = small_config(roads, roads / "run")
    config.data.num_workers = workers
    return build_loader(config, "val", Shard(chunk_size=2))


@pytest.mark.parametrize(("free", "warns"), [(1e5, True), (1e9, False)])
def test_batches_are_the_same_with_little_shared_memory(free, warns, roads, monkeypatch):
    plain = list(loader_of(roads, 0))
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=int(free) // 4096, f_frsize=4096))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        slow = list(loader_of(roads, 1))
    said = [str(warning.message) for warning in heard if "/dev/shm" in str(warning.message)]
    assert bool(said) == warns
    if warns:
        # Bytes of an image; 2 in a batch; 4 batches: two wait, one is loaded and one is used.
        assert loader_of(roads, 1).shared_memory_needed() == 3 * 64 * 160 * 2 * 4
        assert "/dev/shm has 0.0983 MB free, and loader processes would need 0.246 MB" in said[0]
    assert len(slow) == len(plain) == 3
    for one, other in zip(plain, slow, strict=True):
        assert one.keys() == other.keys()
        assert torch.equal(one["inputs"], other["inputs"])
        assert other["inputs"].is_shared() != warns
        assert one["metainfo"] == other["metainfo"]


def test_ample_shared_memory_is_not_measured_with_an_image(monkeypatch):
    class Unread(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            raise AssertionError("read")

    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=2**40, f_frsize=4096))
    assert ImageLoader(Unread(), num_workers=1, collate_fn=collate_shard).shared_memory_needed() == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_of_lanelm_gives_images_and_tokens(workers, roads):
    config = small_config(roads, roads / "run")
    config.data.num_workers, config.data.batch_size, config.model.max_lanes = workers, 2, 3
    config.lanelm.network.num_steps = 20
    batches = list(build_culane_lanelm_dataloader(config))
    assert len(batches) == 2  # of 5 images
    for batch in batches:
        assert batch["inputs"].shape == (2, 3, 64, 160)
        assert batch["inputs"].dtype == torch.uint8
        assert batch["lane_tokens_x"].shape == batch["lane_tokens_y"].shape == (2, 3, 20)
        assert torch.equal(batch["lane_valid_mask"], (batch["lane_tokens_x"] > 0).any(-1))
    images = [meta["path"] for batch in batches for meta in batch["metainfo"]]
    assert len(set(images)) == 4
