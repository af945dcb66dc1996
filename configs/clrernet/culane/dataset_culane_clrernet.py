"""CLRerNet on CULane: where the frames are, which part of them the network sees, how they are augmented.

The comments give the names these settings have in the original data set file.
"""

from clrernetlm.config import AugmentationConfig, DataConfig, EvaluationConfig, load_config
from clrernetlm.core.viewport import Viewport

config = load_config("../base_clrernet.py")

config.model.viewport = Viewport(
    width=800,  # img_scale = (800, 320)
    height=320,
    left=0 / 1640,  # crop_bbox = [0, 270, 1640, 590] of a 1640x590 frame
    top=270 / 590,
    right=1640 / 1640,
    bottom=590 / 590,
)

config.data = DataConfig(
    root="dataset",  # data_root
    train_list="list/train_gt.txt",
    val_list="list/val.txt",
    test_list="list/test.txt",
    categories="list/test_split",
    diff_file="list/train_diffs.npz",
    diff_threshold=15,
    use_masks=True,  # compose_cfg = dict(masks=True)
    batch_size=24,
    num_workers=4,
    augmentation=AugmentationConfig(  # train_al_pipeline
        flip=0.5,
        channel_shuffle=0.1,
        brightness_contrast=0.6,
        hsv=0.7,
        blur=0.2,
        affine=0.7,
        affine_scale=(0.8, 1.2),
        affine_rotate=(-10, 10),
        affine_shift=0.1,
    ),
)

config.evaluation = EvaluationConfig(implementation="clrernet", lane_width=30, image_size=(1640, 590))
