"""Reads data sets in CULane's layout: images, lanes and masks."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, default_collate

from clrernetlm.core.argument_checks import check_arguments, require_sequence, short_repr
from clrernetlm.core.arrays import ByteArray, Float64Array, Int64Array
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike
from clrernetlm.core.image_list import ImageList, read_image_list
from clrernetlm.core.images import ThreadLocalBuffers, read_frame
from clrernetlm.core.lane_attribute_files import attributes_path, read_attributes_of
from clrernetlm.core.lane_files import label_path, monotone_label
from clrernetlm.core.viewport import FrameSize
from clrernetlm.datasets.alaug import Alaug
from clrernetlm.datasets.frame_difference import load_differences
from clrernetlm.datasets.label_attributes import LabelAttributes
from clrernetlm.datasets.masks import read_mask
from clrernetlm.datasets.transforms import Compose, CropResize, Sample, Transform

_ATTEMPTS = 20  # images tried before a training item is given up

Split = Literal["train", "val", "test"]


class CulaneDataset(Dataset[Sample]):
    """Images of `list_file` under `root`, passed through `pipeline(sample, rng)`.

    Training items (`test_mode=False`) hold lanes and, with `use_masks` and masks in the list, a mask. With `diff_file`,
    images whose mean absolute difference (0..255) from the previous frame is below `diff_threshold` are left out. An
    item whose pipeline returns None, because no lane of it is usable after augmentation, is replaced by another image;
    so is a training image that cannot be decoded, with a warning naming it. Test items hold the image only, and label
    files are not read.

    Training images at least `half_above` pixels wide are decoded at half size (JPEG only; the pipeline must support
    such samples, like `Alaug`): about 20 % faster, and a little less sharp.

    Item i of epoch e is a function of (seed, e, i), independent of the number of workers and of resuming.

    Raises UserError naming the file, and line, of a list, label, mask or image that is missing or broken.
    """

    @check_arguments
    def __init__(
        self,
        root: PathLike,
        list_file: PathLike,
        pipeline: Transform,
        *,
        diff_file: PathLike | None = None,
        diff_threshold: float = 15.0,
        test_mode: bool = False,
        use_masks: bool = True,
        half_above: float | None = None,
        seed: int = 0,
    ) -> None:
        if not callable(pipeline):
            raise UserError(
                f"pipeline: {short_repr(pipeline)} is not a function (sample, rng) -> sample; use a Compose"
            )
        self.root = Path(root)
        self.pipeline = pipeline
        self.test_mode = test_mode
        self.half_above = math.inf if test_mode or half_above is None else half_above
        self.seed = seed
        self.epoch = 0
        list_path = self.root / list_file
        listed = read_image_list(list_path, root=self.root)
        if diff_file is not None and not test_mode:
            differences = load_differences(self.root / diff_file, expected=len(listed), list_file=list_path)
            listed = listed.select(differences >= diff_threshold)
        self.listed = listed
        self.has_masks = use_masks and not test_mode and listed.masks is not None
        self._scratch = ThreadLocalBuffers()
        self._broken: set[str] = set()

    def __len__(self) -> int:
        return len(self.listed)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which selects the augmentations of the next items."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        index %= len(self)
        rng = np.random.default_rng((self.seed, self.epoch, index))
        if self.test_mode:
            packed = self.pipeline(self._load(index), rng)
            assert packed is not None, "a test pipeline keeps every image"
            return packed
        candidate = index
        for _ in range(_ATTEMPTS):
            packed = self._prepare(candidate, rng)
            if packed is not None:
                return packed
            candidate = int(rng.integers(len(self)))
        raise UserError(
            f"{self.root / self.image_path(index).lstrip('/')}: no usable lane in it nor in {_ATTEMPTS - 1} others "
            f"tried instead; {self._why_unusable(index)}"
        )

    def _why_unusable(self, index: int) -> str:
        """Explain why the pipeline left a training image out, and name the fix."""
        try:
            sample = self._load(index)
        except UnreadableImage:
            return "they cannot be decoded: run `clrernetlm check-data` and restore them"
        steps = self.pipeline.transforms if isinstance(self.pipeline, Compose) else [self.pipeline]
        viewport = next((step.viewport for step in steps if isinstance(step, Alaug | CropResize)), None)
        if viewport is None or not sample["lanes"]:
            return "the pipeline leaves them all out: check its steps"
        width, height = sample["metainfo"]["frame_size"]
        left, top, right, bottom = viewport.crop_box((width, height))
        points = np.concatenate(sample["lanes"])
        (x_min, y_min), (x_max, y_max) = points.min(0), points.max(0)
        return (
            f"its labels are at x {x_min:.0f} to {x_max:.0f}, y {y_min:.0f} to {y_max:.0f}, and the network sees "
            f"x {left} to {right}, y {top} to {bottom} of the {width}x{height} frame, where a lane needs two rows: set "
            "model.viewport to where the lanes are, or correct the labels"
        )

    def image_path(self, index: int) -> str:
        """Return the path of an image as in the list (`/driver_.../00000.jpg`)."""
        return os.fsdecode(self.listed.images[index])

    def _prepare(self, index: int, rng: np.random.Generator) -> Sample | None:
        try:
            sample = self._load(index)
        except UnreadableImage as error:
            if error.path not in self._broken:
                self._broken.add(error.path)
                warnings.warn(f"{error}; another image takes its place", stacklevel=2)
            return None
        return self.pipeline(sample, rng)

    def _load(self, index: int) -> Sample:
        listed = self.image_path(index)
        path = os.path.join(self.root, listed.lstrip("/"))
        if not os.path.isfile(path):
            raise UserError(f"{path}: no such image; check data.root ({self.root}) or remove the line from the list")
        try:
            image, size = read_frame(path, self._scratch, self.half_above)
        except UserError as error:
            raise (error if self.test_mode else UnreadableImage(path, str(error))) from None
        metainfo = {"path": listed, "frame_size": size, "index": index}
        sample: Sample = {"image": image, "metainfo": metainfo}
        if size != (image.shape[1], image.shape[0]):
            sample["frame_size"] = size
        if not self.test_mode:
            sample["lanes"], attributes = read_described_labels(path, size)
            if attributes is not None:
                sample["attributes"] = attributes
        if self.has_masks:
            sample["mask"] = self._load_mask(index, size, labelled=bool(sample["lanes"]))
        return sample

    def _load_mask(self, index: int, size: FrameSize, labelled: bool) -> ByteArray:
        assert self.listed.masks is not None
        path = os.path.join(self.root, os.fsdecode(self.listed.masks[index]).lstrip("/"))
        mask = read_mask(path, labelled)
        if mask.shape != (size[1], size[0]):
            sizes = f"{mask.shape[1]}x{mask.shape[0]}, but its image is {size[0]}x{size[1]}"
            raise UserError(f"{path}: the mask is {sizes}; masks and images need the same size")
        return mask


class UnreadableImage(UserError):
    """Raised for an image that exists and cannot be decoded; training continues without it."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


def read_labels(image_path: str) -> list[Float64Array]:
    """Read the lanes of an image as (N, 2) frame pixels, bottom first; lines of fewer than two points are left out.

    Of a lane that turns back only the longest part is kept, with a warning (`monotone_label`).

    Raises UserError naming the label file if it is missing (an image without lanes has an empty one) or malformed.
    """
    path = label_path(image_path)
    points, stops = _read_points(path)
    lanes = enumerate(pairwise(stops.tolist()), start=1)
    return [monotone_label(points[start:end], path, line) for line, (start, end) in lanes if end - start > 1]


def read_described_labels(image_path: str, size: FrameSize) -> tuple[list[Float64Array], list[LabelAttributes] | None]:
    """Read the lanes of an image as `read_labels`, and their attributes; None without a `.lanes.json` file.

    `size` is (width, height) of the image. Raises UserError also for a `.lanes.json` file that is wrong or does not
    fit.
    """
    path = label_path(image_path)
    if not os.path.exists(attributes_path(path)):
        return read_labels(image_path), None
    points, stops = _read_points(path)
    described = read_attributes_of(path, np.diff(stops).tolist(), size) or ()
    lanes, attributes = [], []
    for line, (start, end) in enumerate(pairwise(stops.tolist()), start=1):
        if end - start > 1:
            given = points[start:end]
            used = monotone_label(given, path, line)
            one = LabelAttributes.of(described[line - 1])
            lanes.append(used)
            attributes.append(one if used is given else one.select_points(_places(used, given)))
    return lanes, attributes


def _read_points(path: str) -> tuple[Float64Array, Int64Array]:
    """Read the points of a label file as `read_lane_points`, with the fix for a file that is missing."""
    from clrernetlm.core.fast_lane_reader import read_lane_points  # numba is slow to import

    try:
        return read_lane_points(path)
    except UserError:
        if os.path.exists(path):
            raise
        message = "no label file; write one, empty if the image shows no lane, or use a test list"
        raise UserError(f"{path}: {message}") from None


def _places(used: Float64Array, given: Float64Array) -> NDArray[np.intp]:
    """Return the index in `given` (N, 2) of each of the points `used` (M, 2), which are some of them."""
    places: NDArray[np.intp] = (used[:, None] == given).all(axis=2).argmax(axis=1)
    return places


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """Collate samples with the same keys: tensors are stacked along a new first axis, `metainfo` becomes a list."""
    require_sequence(samples, "samples", "items of a data set")
    if not len(samples) or not all(isinstance(sample, dict) and "metainfo" in sample for sample in samples):
        raise UserError(f"samples: {short_repr(samples)} is not a list of items of a data set; give one or more")
    batch: dict[str, Any] = {"metainfo": [sample["metainfo"] for sample in samples]}
    for key, value in samples[0].items():
        if isinstance(value, torch.Tensor):
            batch[key] = default_collate([sample[key] for sample in samples])
    return batch


__all__ = ["CulaneDataset", "ImageList", "collate", "label_path", "read_labels"]
