"""Builds the data set of a split from the settings."""

from __future__ import annotations

from clrernetlm.config.schema import Config
from clrernetlm.core.argument_checks import check_arguments
from clrernetlm.core.viewport import Viewport
from clrernetlm.datasets.alaug import Alaug
from clrernetlm.datasets.culane import CulaneDataset, Split
from clrernetlm.datasets.lane_formatting import OffImage, PackCLRNetInputs
from clrernetlm.datasets.transforms import Compose, CropResize, Transform


@check_arguments
def build_dataset(
    config: Config, split: Split, *, off_image: OffImage = "geometry", pack: Transform | None = None
) -> CulaneDataset:
    """Build the data set of one split of an experiment's config.

    `off_image` chooses the targets of lanes that leave the image at the top or re-enter it: "geometry" keeps their rows
    in place, "official" reproduces the published ones (see `PackCLRNetInputs`). `pack` replaces `PackCLRNetInputs` as
    the last step of the pipeline, for example by `PackLaneLMInputs`; images and augmentations stay the same, and masks
    are not read.
    """
    data, model = config.data, config.model
    use_masks = data.use_masks and model.loss.seg_weight > 0 and pack is None
    if pack is None:
        pack = PackCLRNetInputs(
            max_lanes=model.max_lanes,
            width=model.viewport.width,
            height=model.viewport.height,
            num_points=model.head.num_points,
            off_image=off_image,
        )
    if split == "train":
        return CulaneDataset(
            data.root,
            data.train_list,
            Compose([Alaug(data.augmentation, model.viewport), pack]),
            diff_file=data.diff_file,
            diff_threshold=data.diff_threshold,
            use_masks=use_masks,
            half_above=_half_above(model.viewport) if data.decode == "half" else None,
            seed=config.training.seed,
        )
    list_file = data.val_list if split == "val" else data.test_list
    return CulaneDataset(data.root, list_file, Compose([CropResize(model.viewport), pack]), test_mode=True)


def _half_above(viewport: Viewport) -> float:
    """Compute the width from which on the crop of a frame at half size is as wide as the network input."""
    return 2 * viewport.width / (viewport.right - viewport.left)
