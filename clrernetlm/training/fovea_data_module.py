"""Training data of the fovea: patches of augmented frames along lanes of the detector, of LaneLM, and beside labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clrernetlm.config import Config
from clrernetlm.core.viewport import Viewport
from clrernetlm.datasets.alaug import Alaug
from clrernetlm.datasets.culane import CulaneDataset
from clrernetlm.datasets.lanelm_formatting import PackLaneLMInputs
from clrernetlm.datasets.loaders import (
    ImageLoader,
    collate_shard,
    limit_worker_threads,
    loader_workers,
    worker_start_method,
)
from clrernetlm.datasets.samplers import ShardBatches
from clrernetlm.datasets.transforms import Compose, CropResize, Sample
from clrernetlm.distributed.sharding import Shard
from clrernetlm.models.fusing import fuse
from clrernetlm.models.lanelm.detector import LaneLMDetectorBase, PromptableDetector
from clrernetlm.models.lanelm.fovea.network import fovea_features
from clrernetlm.models.lanelm.fovea.patches import ROWS_PER_STEP, FrameCrop, cut_patches, row_reach
from clrernetlm.models.lanelm.fovea.reference import clicks_of_requests, through_clicks
from clrernetlm.models.lanelm.proposals import Proposals
from clrernetlm.models.lanelm.requests import extrapolate_rows, requests_from_proposals
from clrernetlm.models.lanelm.training_requests import (
    DRAWS,
    MAX_PROMPTS,
    NO_LANE,
    TrainingRequests,
    build_training_requests,
    jitter_ends,
    num_candidates,
)
from clrernetlm.training.data_module import LaneDataModule
from clrernetlm.training.feature_cache import CachedValues, FeatureCache, feature_cache

FINE = 2.5  # pixels of a training crop per network pixel: 1280 wide for a network of 512
ANSWER_FILES = (
    "proposal_xs",
    "proposal_shown",
    "proposal_scores",
    "answer_xs",
    "answer_shown",
    "answer_scores",
)
OF_ANSWERS, WITHOUT_BASE, CLICKED_NOTHING = 0.5, 0.25, 0.3  # of images; of clicked lanes; of proposals of no lane


def fine_viewport(viewport: Viewport) -> Viewport:
    """Return the viewport with the resolution of training crops."""
    return replace(viewport, width=round(FINE * viewport.width), height=round(FINE * viewport.height))


def crop_of(image: Tensor, viewport: Viewport) -> FrameCrop:
    """Convert an image (h, w, 3) uint8 of the fine viewport to a crop for the network of `viewport`."""
    return FrameCrop(image.numpy(), viewport.size)


@dataclass(frozen=True)
class PackFineInputs:
    """Packs fine crops with lanes on half rows, in network pixels: the last step of a pipeline."""

    packing: PackLaneLMInputs  # on half rows, of the network's size
    scale: float = FINE

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample | None:
        """Pack one sample as `PackLaneLMInputs`, but for `inputs`, which are pixels (h, w, 3) uint8."""
        image = sample["image"]
        # A copy: the next item may overwrite the memory. Planes are merged, which is faster than copying with strides.
        copied = image.copy() if image.flags.c_contiguous else cv2.merge([image[..., i] for i in range(3)])
        pixels = torch.from_numpy(copied)
        if "lanes" not in sample:
            return {"inputs": pixels, "metainfo": sample["metainfo"]}
        # One row of the image is enough for the packing, whose planes are not used.
        lanes = [points / self.scale for points in sample["lanes"]]
        packed = self.packing(sample | {"image": image[:1], "lanes": lanes}, rng)
        return None if packed is None else packed | {"inputs": pixels}


def fine_images(config: Config, training: bool) -> CulaneDataset:
    """Build the training or validation images as fine crops; validation images without labels."""
    data, viewport = config.data, config.model.viewport
    packing = PackLaneLMInputs(
        max_lanes=config.model.max_lanes,
        num_points=ROWS_PER_STEP * config.lanelm.network.num_steps,
        img_w=viewport.width,
        img_h=viewport.height,
        nbins_x=config.lanelm.network.nbins_x,
        as_bytes=True,
    )
    pack, fine = PackFineInputs(packing), fine_viewport(viewport)
    if not training:
        return CulaneDataset(data.root, data.val_list, Compose([CropResize(fine), pack]), test_mode=True)
    return CulaneDataset(
        data.root,
        data.train_list,
        Compose([Alaug(data.augmentation, fine), pack]),
        diff_file=data.diff_file,
        diff_threshold=data.diff_threshold,
        use_masks=False,
        seed=config.training.seed,
    )


def to_network_size(images: Tensor, viewport: Viewport) -> Tensor:
    """Resize fine crops (B, h, w, 3) uint8 to the network's input (B, 3, H, W) uint8."""
    size = (viewport.height, viewport.width)
    return (
        F.interpolate(images.permute(0, 3, 1, 2).float(), size, mode="bilinear", align_corners=False)
        .round()
        .to(torch.uint8)
    )


@torch.no_grad()
def proposals_and_answers(model: LaneLMDetectorBase, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Compute the detector's proposals and LaneLM's answers to them, before the fovea, as the cache stores them."""
    assert isinstance(model, PromptableDetector)
    device = next(model.parameters()).device
    inputs = to_network_size(batch["inputs"].to(device), model.config.model.viewport)
    output = model.run_detector(inputs)
    found = model.propose(output.predictions, model.config.lanelm.training_requests.proposal_threshold)
    answers = model.answer_from_features(output.levels, requests_from_proposals(found))
    tensors = (found.xs, found.visible, found.scores, answers.xs, answers.visible, answers.score)
    return dict(zip(ANSWER_FILES, tensors, strict=True))


def answer_facts(config: Config, model: LaneLMDetectorBase) -> list[Any]:
    """List what the cached answers depend on besides the detector."""
    total = [
        [name, float(value.double().sum()), float(value.double().square().sum())]
        for name, value in model.lanelm.state_dict().items()
    ]
    decode = config.lanelm.decode
    return ["fovea", FINE, decode.detector_score_weight, decode.refinement_rounds, total]


def for_inference(model: LaneLMDetectorBase) -> LaneLMDetectorBase:
    """Copy the model for fast inference; in bfloat16 where it trains in that, since answers get noise anyway."""
    return fuse(model, "bf16" if model.config.training.precision == "bf16-mixed" else "fp32")


ANSWERS = CachedValues(ANSWER_FILES, proposals_and_answers, answer_facts, for_inference)


class FoveaTrainingDataset(Dataset[Sample]):
    """Training samples of the fovea: the patches, features and targets of the requests about one image.

    Every image has `lanelm.cached_augmentations` augmentations, used in turn, at least one. The requests are new every
    epoch; item i of epoch e is a function of (seed, e, i).
    """

    def __init__(self, config: Config, cache: FeatureCache | None = None) -> None:
        self.config, self.cache = config, cache
        self.images = fine_images(config, training=True)
        candidates = num_candidates(config.lanelm.decode.max_proposals, config.model.max_lanes)
        self.draws_shape = candidates, DRAWS + config.lanelm.network.num_steps
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.images)

    def set_epoch(self, epoch: int) -> None:
        """Choose the augmentation and the random numbers of the next items."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> Sample:
        assert self.cache is not None
        augmentation = self.epoch % self.config.lanelm.cached_augmentations
        self.images.set_epoch(augmentation)
        image, cached = self.images[index], self.cache.read(augmentation, index)
        rng = np.random.default_rng((self.config.training.seed, self.epoch, index, 1))
        draws = torch.from_numpy(rng.random(self.draws_shape, np.float32))
        source = "answer" if rng.random() < OF_ANSWERS else "proposal"
        found = Proposals(*(cached[f"{source}_{part}"][None] for part in ("xs", "shown", "scores")))
        settings = self.config.lanelm.training_requests
        labels = image["lane_xs"][:, ::ROWS_PER_STEP]
        size = self.config.model.viewport.size
        training = build_training_requests(settings, size, found, labels[None], draws[None])
        return fovea_sample(self.config, training, image, rng)


def fovea_sample(config: Config, training: TrainingRequests, image: Sample, rng: np.random.Generator) -> Sample:
    """Cut the patches of the requests about one image, and compute their features and targets."""
    requests, viewport = training.requests, config.model.viewport
    steps = requests.proposal_x.shape[-1]
    reach = row_reach(steps, viewport.width)
    base, has_base = base_curves(training, rng)
    click_nothing(training, base, rng, viewport)
    clicks = clicks_of_requests(requests, viewport.height / steps)
    drop = torch.from_numpy(rng.random(has_base.shape) < WITHOUT_BASE) & (clicks.exists.sum(-1) > 1)
    curve, _ = through_clicks(base, has_base & ~drop, clicks, reach)
    visible = visible_rows(training, rng) & (has_base & ~drop)[..., None]
    rows, lane = fovea_features(curve, visible, clicks, requests.score, viewport.size)
    labels = image["lane_xs"]  # (M, 2 T)
    slot = training.label[0].clamp(min=0)
    targets = training.targets[0]
    return {
        "patches": torch.from_numpy(cut_patches(crop_of(image["inputs"], viewport), curve[0].numpy())),
        "rows": rows[0],
        "lane": lane[0],
        "offset": (targets - curve[0]) / reach,
        "on_lane": labels[slot].isfinite(),
        "seen": image["lane_visible"][slot, ::ROWS_PER_STEP],
        "exists": training.label[0] >= 0,
        "type": image["lane_type"][slot],
        "colour": image["lane_colour"][slot],
        "usable": requests.request_mask[0],
        "metainfo": image["metainfo"],
    }


def base_curves(training: TrainingRequests, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return the curves (1, L, T) that stand for LaneLM's answers: proposals, and else targets with noise."""
    requests = training.requests
    has_proposal = requests.proposal_mask.any(-1)
    exists = training.inputs.isfinite()
    noisy = extrapolate_rows(training.inputs.nan_to_num(0.0), exists)
    return torch.where(has_proposal[..., None], requests.proposal_x, noisy), has_proposal | exists.any(-1)


def visible_rows(training: TrainingRequests, rng: np.random.Generator) -> Tensor:
    """Return the rows (1, L, T) that LaneLM would see: those of the proposal, else of the target with jittered ends."""
    requests = training.requests
    exists = training.inputs.isfinite()
    draws = torch.from_numpy(rng.random((*exists.shape[:2], 2), np.float32))
    has_proposal = requests.proposal_mask.any(-1, keepdim=True)
    return torch.where(has_proposal, requests.proposal_mask, jitter_ends(exists, draws))


def click_nothing(training: TrainingRequests, base: Tensor, rng: np.random.Generator, viewport: Viewport) -> None:
    """Add clicks, in place, to some requests whose proposal is no lane: clicks beside all paint."""
    requests = training.requests
    steps = base.shape[-1]
    chosen = torch.from_numpy(rng.random(base.shape[:2]) < CLICKED_NOTHING) & (training.label == NO_LANE)
    number = torch.from_numpy(rng.integers(1, 3, base.shape[:2]))
    first = requests.proposal_mask.float().argmax(-1, keepdim=True)
    last = steps - 1 - requests.proposal_mask.flip(-1).float().argmax(-1, keepdim=True)
    share = torch.from_numpy(rng.random((*base.shape[:2], MAX_PROMPTS), np.float32))
    row = (first + share * (last - first)).round().long()
    points = torch.stack([base.gather(-1, row), row * (viewport.height / steps)], dim=-1)
    exists = chosen[..., None] & (torch.arange(MAX_PROMPTS) < number[..., None])
    requests.prompts = torch.where(exists[..., None], points, requests.prompts)
    requests.prompt_mask = requests.prompt_mask | exists


class FoveaDataModule(LaneDataModule):
    """Loads the fovea's training data and, as fine crops, the validation images; `model` computes the cached answers.

    Raises UserError as `LaneDataModule` and `feature_cache` do, and without a cache.
    """

    def __init__(self, config: Config, model: LaneLMDetectorBase) -> None:
        self.training_data, self.model = FoveaTrainingDataset(config), model
        super().__init__(config, self.training_data.images, self.training_data)

    def prepare_data(self) -> None:
        """Compute the answers, in one process of each machine; the others wait."""
        assert self.trainer is not None
        feature_cache(self.config, self.images, self.model, self.trainer.strategy.root_device, ANSWERS)

    def setup(self, stage: str) -> None:
        """Open the cache of answers in every process."""
        self.training_data.cache = feature_cache(self.config, self.images, self.model, values=ANSWERS)

    def val_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        rank, world = self.trainer.global_rank, self.trainer.world_size
        shard = Shard(rank, world, chunk_size=max(1, self.config.data.batch_size // world))
        dataset, workers = fine_images(self.config, training=False), loader_workers(self.config.data.num_workers)
        return ImageLoader(
            dataset,
            batch_sampler=ShardBatches(len(dataset), shard, equal=True),
            collate_fn=collate_shard,
            num_workers=workers,
            multiprocessing_context=worker_start_method(workers, world),
            worker_init_fn=limit_worker_threads,
        )
