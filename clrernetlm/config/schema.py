"""Defines every setting of the project: typed dataclasses with the published values as defaults.

They have slots: assigning a name that is no setting (`config.training.lr = ...`) is an AttributeError. Names of earlier
versions still work, with a warning (`clrernetlm.config.old_names`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from clrernetlm.config.old_names import accept_old_names
from clrernetlm.core.viewport import Viewport

BackboneName = Literal["dla34", "dla46_c", "resnet18", "resnet34", "resnet50", "efficientnet_lite0"]


@dataclass(slots=True)
class BackboneConfig:
    """The network that computes feature maps of an image."""

    name: BackboneName = "dla34"
    # Start training from ImageNet weights (DLA: the authors' server; EfficientNet-Lite0: the extra `pretrained`).
    # `init_detector` never uses this: building a detector downloads nothing.
    pretrained: bool = False


@dataclass(slots=True)
class HeadConfig:
    """Anchors, and the head that refines them."""

    num_priors: int = 192  # anchors: 1/8 start at the left edge, 3/4 at the bottom, 1/8 at the right edge
    num_points: int = 72  # rows of a lane, bottom first
    sample_points: int = 36  # points pooled along an anchor
    refine_layers: int = 3  # stages, coarse pyramid level first
    feature_channels: int = 64  # pyramid channels, also the width of the head's branches
    fc_layers: int = 2  # hidden layers of the cls and reg branches
    roi_channels: int = 48  # channels per stage inside ROIGather
    attention_size: tuple[int, int] = (10, 25)  # rows, columns the context map is resized to
    attention_dropout: float = 0.1


@dataclass(slots=True)
class AssignerConfig:
    """Assignment of predictions to lanes in training."""

    min_topk: int = 1
    max_topk: int = 4
    cls_weight: float = 1.0
    reg_weight: float = 3.0
    cost_combination: Literal[0, 1] = 1  # 1: CLRerNet (LaneIoU only); 0: CLRNet (distance x start x angle)
    dynamick_lane_width: float = 7.5 / 800  # half width, fraction of the image width
    cost_lane_width: float = 30 / 800
    assign_unmatched: bool = False  # a lane that lost its only anchor in a conflict gets its cheapest free one


@dataclass(slots=True)
class LossConfig:
    """Weights and definitions of the losses."""

    cls_weight: float = 2.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    xytl_weight: float = 0.2
    iou_weight: float = 4.0
    iou_lane_width: float = 7.5 / 800
    iou_frame: Literal["culane", "viewport"] = "culane"  # the proportions in which LaneIoU measures slopes
    seg_weight: float = 1.0  # 0 switches the segmentation branch off; it also needs masks
    seg_background_weight: float = 0.4
    length_target: Literal["corrected", "official"] = "corrected"


@dataclass(slots=True)
class DecodeConfig:
    """Conversion of predictions to lanes."""

    conf_threshold: float = 0.41
    nms_threshold: float = 50.0  # mean distance in network pixels below which two lanes are one
    extend_bottom: bool = True


@dataclass(slots=True)
class ClrernetConfig:
    """The detector, and the part of a frame that is its input."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    assigner: AssignerConfig = field(default_factory=AssignerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    viewport: Viewport = field(default_factory=Viewport)
    # auto: `detect`, `test` and `Predictor` move the crop to where the horizon of each image is; training does not.
    viewport_mode: Literal["fixed", "auto"] = "fixed"
    # The only limit on lanes per frame: target slots, mask classes and lanes kept by NMS.
    max_lanes: int = 4


@dataclass(slots=True)
class AugmentationConfig:
    """Probabilities and strengths of the training augmentations; 0 switches one off."""

    flip: float = 0.5
    channel_shuffle: float = 0.1
    brightness_contrast: float = 0.6
    hsv: float = 0.7
    blur: float = 0.2
    affine: float = 0.7
    affine_scale: tuple[float, float] = (0.8, 1.2)
    affine_rotate: tuple[float, float] = (-10.0, 10.0)  # degrees
    affine_shift: float = 0.1  # fraction of width and height, both directions


@dataclass(slots=True)
class DataConfig:
    """Location of a data set, and how its images are read."""

    root: str = "dataset"
    train_list: str = "list/train_gt.txt"  # relative to root, or absolute
    val_list: str = "list/val.txt"
    test_list: str = "list/test.txt"
    categories: str = "list/test_split"  # folder of test*_NAME.txt lists; "folders": the images' top-level folders
    diff_file: str | None = "list/train_diffs.npz"
    diff_threshold: float = 15.0  # frames that differ less from the previous one are dropped
    use_masks: bool = True
    batch_size: int = 24  # images per step over all processes
    num_workers: int = 4
    # half: training JPEGs twice as wide as the network input are decoded at half size: faster, a little less sharp
    decode: Literal["exact", "half"] = "exact"
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)


@dataclass(slots=True)
class TrainingConfig:
    """Optimisation, devices, and files of a training."""

    epochs: int = 15
    max_steps: int = -1  # stops earlier than `epochs` when positive
    learning_rate: float = 6e-4
    betas: tuple[float, float] = (0.9, 0.999)  # of AdamW
    weight_decay: float = 0.01
    warmup_steps: int = 0
    schedule: Literal["cosine", "constant"] = "cosine"  # after the warm-up: half a cosine down to 0, or no change
    init_from: str | None = None  # checkpoint or model whose weights initialise a new run, as far as they fit
    backbone_lr_scale: float = 1.0  # learning rate of the backbone, relative to `learning_rate`
    freeze_stem: bool = False  # keep the backbone's weights up to stride 4: generic edge filters
    freeze_backbone_norm: bool = False  # keep ImageNet's BatchNorm statistics: small batches estimate them badly
    fit_anchors: bool = False  # first anchors by k-means of training lanes; pays in short trainings
    ema_momentum: float | None = None  # weight of the newest weights in the running average
    clip_norm: float | None = None
    # 64-true is for checks, and ten times slower.
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "64-true"] = "32-true"
    accumulate: int = 1  # batches per optimiser step
    log_every: int = 10  # steps between logged losses
    validate_every: int = 1  # epochs between validations; 0: never
    seed: int = 0
    deterministic: bool = False  # where the device has such kernels, with a warning elsewhere (CUDA: grid_sample)
    device: str = "auto"  # auto, cpu, cuda, cuda:N, mps
    num_devices: int = 1  # processes per machine
    num_nodes: int = 1
    strategy: str = "auto"  # any strategy of Lightning: ddp, fsdp, ...
    sync_batch_norm: bool = False  # BatchNorm statistics over all processes
    keep_checkpoints: int = 3
    work_dir: str | None = None  # default: work_dirs/<config name>


@dataclass(slots=True)
class EvaluationConfig:
    """Comparison of predictions with labels."""

    # clrernet: the Python metric of CLRerNet; official: the C++ tool of CULane. Counts differ slightly.
    implementation: Literal["clrernet", "official"] = "clrernet"
    lane_width: int = 30  # pixels the lanes are drawn wide at `image_size`
    # Width, height the lanes are compared at, in the frame's own pixels. None: frames of any size, each scaled to be
    # 1640 pixels wide.
    image_size: tuple[int, int] | None = (1640, 590)
    thresholds: tuple[float, ...] = (0.1, 0.5, 0.75)


@dataclass(slots=True)
class LaneLMNetworkConfig:
    """The language model. Lengths are fractions of the width of the network input."""

    num_steps: int = 40  # T: rows a lane can have a keypoint on
    nbins_x: int = 800  # bins of x; 0 is the padding
    embed_dim: int = 256
    num_layers: int = 3
    num_heads: int = 8
    ffn_dim: int = 1024
    row_order: Literal["bottom_up", "top_down"] = "bottom_up"
    proposal_stride: int = 2  # every n-th row of a proposal becomes a token
    global_attention: bool = True  # layer i attends to the whole pyramid level i, coarse to fine
    local_sampling: bool = True  # features sampled beside the lane
    strip_points: int = 13  # samples of a strip across the lane
    strip_spacing: float = 5 / 800
    offset_tokens: bool = True  # x of a lane with a proposal is an offset from it, else a bin of the image
    offset_bins: int = 65
    offset_range: float = 64 / 800  # the farthest offset bin
    autoregressive: bool = True  # False: a control that gets the proposal, but not the keypoints decoded before
    # A second network that reads the frame's own pixels beside LaneLM's answers, and moves them onto the paint; it is
    # trained after the rest, on answers of the finished LaneLM.
    fovea: bool = False
    fovea_dim: int = 128
    fovea_layers: int = 3  # of its Transformer over the rows of a lane; 0: every row stands alone
    fovea_heads: int = 4


@dataclass(slots=True)
class LaneLMTrainingRequestsConfig:
    """Requests per training image, and their noise. Lengths are fractions of the width of the network input."""

    proposals: int = 4  # requests with a proposal of the detector
    synthetic_proposals: int = 2  # requests with a label moved a little (a lane) or a lot (no lane)
    prompt_only: int = 3  # requests without a proposal: clicks or a start point on a labelled lane
    proposal_threshold: float = 0.03  # detector's confidence from which its lanes become proposals
    match_iou: float = 0.4  # LaneIoU (half width 30/800) from which a proposal belongs to a label
    proposal_noise: float = 2 / 800  # largest standard deviation of the sideways noise on proposals
    input_noise: float = 12 / 800  # the same for the previous keypoints that the model gets as input
    prompt_noise: float = 8 / 1640  # clicks miss by up to this, and start points by three times as much
    label_sigma: float = 1.0  # bins over which an x label is spread; 0: one bin
    mean_weight: float = 0.1  # weight of the distance between the mean of the offset bins and the truth


@dataclass(slots=True)
class LaneLMDecodeConfig:
    """Which proposals LaneLM decodes, and which of its answers are lanes."""

    proposal_threshold: float = 0.1  # detector's confidence from which its lanes become proposals
    max_proposals: int = 8
    lane_threshold: float = 0.5  # LaneLM's confidence from which an answer is a lane
    detector_score_weight: float = (
        0.5  # exponent of the detector's confidence in a lane's score; LaneLM's is 1 minus it
    )
    refinement_rounds: int = 1  # 2: the answers are decoded once more, as proposals
    hallucination_removal: bool = False  # measured: nothing without prompts, 1 to 5 points lost with clicks
    hallucination_points: int = 10  # lanes with more keypoints than this are cut at a jump
    nms_threshold: float = 25 / 800  # mean distance, fraction of the width, below which two answers are one lane
    fovea_rounds: int = 1  # times that the fovea looks along its own result; only with `network.fovea`
    fovea_score_weight: float = 0.3  # exponent of the fovea's confidence in a lane's score; LaneLM's is 1 minus it
    click_sigma: float = 3 / 1640  # standard deviation of clicks, fraction of the image width


@dataclass(slots=True)
class LaneLMConfig:
    """LaneLM on top of the frozen CLRerNet of `model`."""

    variant: Literal["full", "plain"] = "full"  # plain: the founding prototype; one level, padding start, no proposals
    detector: str | None = None  # CLRerNet checkpoint to start from; LaneLM's own checkpoints hold it
    network: LaneLMNetworkConfig = field(default_factory=LaneLMNetworkConfig)
    training_requests: LaneLMTrainingRequestsConfig = field(default_factory=LaneLMTrainingRequestsConfig)
    decode: LaneLMDecodeConfig = field(default_factory=LaneLMDecodeConfig)
    cached_augmentations: int = 0  # augmentations of an image, used in turn; 0: a new one every epoch
    cache: str | None = None  # folder for the detector's features of all augmentations; None: computed every time
    cache_limit: float | None = None  # GB that the features of a run may take there; None: all that is free


@dataclass(slots=True)
class Config:
    """The settings of one experiment, for `clrernetlm train`, `test` and `detect`."""

    task: Literal["clrernet", "lanelm"] = "clrernet"  # the model to train, score and predict with
    model: ClrernetConfig = field(default_factory=ClrernetConfig)
    lanelm: LaneLMConfig = field(default_factory=LaneLMConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    name: str = ""  # filled with the config file's stem when loaded


accept_old_names(Config)
