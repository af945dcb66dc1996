"""Tables that translate the names of MMDetection's CLRerNet configs to settings of this project."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Convert = Callable[[Any], Any]

_TRAIN = "train_dataloader.dataset"
_AUGMENTATION = f"{_TRAIN}.pipeline.albumentation"
_BLUR = "OneOf(MedianBlur|MotionBlur)"
_HEAD = "model.bbox_head"
_ASSIGNER = "model.train_cfg.assigner"


def _same(value: Any) -> Any:
    return value


def _pair(value: Any) -> tuple[float, float]:
    low, high = value
    return low, high


def _symmetric(value: Any) -> float:
    """Reduce a symmetric range such as (-0.1, 0.1) to 0.1. Raises ValueError for others."""
    if isinstance(value, int | float):
        return value
    low, high = value
    if low != -high:
        raise ValueError("not symmetric")
    shift: float = high
    return shift


def _without_background(classes: int) -> int:
    return classes - 1


def _resnet(depth: int) -> str:
    return f"resnet{depth:d}"


def _precision(kind: str) -> str:
    return {"OptimWrapper": "32-true", "AmpOptimWrapper": "16-mixed"}[kind]


# MMDetection's dotted name -> (dotted name of a setting, conversion). Of two names for one setting the first counts.
MAPPED: dict[str, tuple[str, Convert]] = {
    "model.backbone.dla": ("model.backbone.name", _same),
    "model.backbone.depth": ("model.backbone.name", _resnet),
    "model.backbone.pretrained": ("model.backbone.pretrained", bool),
    f"{_HEAD}.anchor_generator.num_priors": ("model.head.num_priors", _same),
    f"{_HEAD}.anchor_generator.num_points": ("model.head.num_points", _same),
    f"{_HEAD}.sample_points": ("model.head.sample_points", _same),
    f"{_HEAD}.refine_layers": ("model.head.refine_layers", _same),
    f"{_HEAD}.prior_feat_channels": ("model.head.feature_channels", _same),
    f"{_HEAD}.fc_hidden_dim": ("model.head.feature_channels", _same),
    "model.neck.out_channels": ("model.head.feature_channels", _same),
    f"{_HEAD}.num_fc": ("model.head.fc_layers", _same),
    f"{_HEAD}.attention.mid_channels": ("model.head.roi_channels", _same),
    f"{_HEAD}.loss_cls.alpha": ("model.loss.focal_alpha", _same),
    f"{_HEAD}.loss_cls.gamma": ("model.loss.focal_gamma", _same),
    f"{_HEAD}.loss_cls.loss_weight": ("model.loss.cls_weight", _same),
    f"{_HEAD}.loss_bbox.loss_weight": ("model.loss.xytl_weight", _same),
    f"{_HEAD}.loss_iou.lane_width": ("model.loss.iou_lane_width", _same),
    f"{_HEAD}.loss_iou.loss_weight": ("model.loss.iou_weight", _same),
    f"{_HEAD}.loss_seg.loss_weight": ("model.loss.seg_weight", _same),
    f"{_HEAD}.loss_seg.bg_weight": ("model.loss.seg_background_weight", _same),
    f"{_TRAIN}.pipeline.PackCLRNetInputs.max_lanes": ("model.max_lanes", _same),
    f"{_TRAIN}.pipeline.CollectCLRNet.max_lanes": ("model.max_lanes", _same),
    "model.test_cfg.nms_topk": ("model.max_lanes", _same),
    f"{_HEAD}.loss_seg.num_classes": ("model.max_lanes", _without_background),
    f"{_ASSIGNER}.min_topk": ("model.assigner.min_topk", _same),
    f"{_ASSIGNER}.max_topk": ("model.assigner.max_topk", _same),
    f"{_ASSIGNER}.cost_combination": ("model.assigner.cost_combination", _same),
    f"{_ASSIGNER}.cls_cost.weight": ("model.assigner.cls_weight", _same),
    f"{_ASSIGNER}.reg_weight": ("model.assigner.reg_weight", _same),
    f"{_ASSIGNER}.iou_dynamick.lane_width": ("model.assigner.dynamick_lane_width", _same),
    f"{_ASSIGNER}.iou_cost.lane_width": ("model.assigner.cost_lane_width", _same),
    "model.test_cfg.conf_threshold": ("model.decode.conf_threshold", _same),
    "model.test_cfg.nms_thres": ("model.decode.nms_threshold", _same),
    "model.test_cfg.extend_bottom": ("model.decode.extend_bottom", _same),
    f"{_HEAD}.img_w": ("model.viewport.width", _same),
    f"{_HEAD}.img_h": ("model.viewport.height", _same),
    f"{_AUGMENTATION}.Resize.width": ("model.viewport.width", _same),
    f"{_AUGMENTATION}.Resize.height": ("model.viewport.height", _same),
    f"{_AUGMENTATION}.Resize#2.width": ("model.viewport.width", _same),
    f"{_AUGMENTATION}.Resize#2.height": ("model.viewport.height", _same),
    f"{_AUGMENTATION}.Compose.params.masks": ("data.use_masks", _same),
    f"{_AUGMENTATION}.HorizontalFlip.p": ("data.augmentation.flip", _same),
    f"{_AUGMENTATION}.ChannelShuffle.p": ("data.augmentation.channel_shuffle", _same),
    f"{_AUGMENTATION}.RandomBrightnessContrast.p": ("data.augmentation.brightness_contrast", _same),
    f"{_AUGMENTATION}.HueSaturationValue.p": ("data.augmentation.hsv", _same),
    f"{_AUGMENTATION}.{_BLUR}.p": ("data.augmentation.blur", _same),
    f"{_AUGMENTATION}.IAAAffine.p": ("data.augmentation.affine", _same),
    f"{_AUGMENTATION}.IAAAffine.scale": ("data.augmentation.affine_scale", _pair),
    f"{_AUGMENTATION}.IAAAffine.rotate": ("data.augmentation.affine_rotate", _pair),
    f"{_AUGMENTATION}.IAAAffine.translate_percent": ("data.augmentation.affine_shift", _symmetric),
    f"{_TRAIN}.diff_thr": ("data.diff_threshold", _same),
    "train_dataloader.batch_size": ("data.batch_size", _same),
    "train_dataloader.num_workers": ("data.num_workers", _same),
    "train_cfg.max_epochs": ("training.epochs", _same),
    "total_epochs": ("training.epochs", _same),
    "train_cfg.max_iters": ("training.max_steps", _same),
    "train_cfg.val_interval": ("training.validate_every", _same),
    "optim_wrapper.type": ("training.precision", _precision),
    "optim_wrapper.optimizer.lr": ("training.learning_rate", _same),
    "optim_wrapper.optimizer.weight_decay": ("training.weight_decay", _same),
    "optim_wrapper.clip_grad.max_norm": ("training.clip_norm", _same),
    "optim_wrapper.accumulative_counts": ("training.accumulate", _same),
    "param_scheduler.LinearLR.end": ("training.warmup_steps", _same),
    "lr_config.warmup_iters": ("training.warmup_steps", _same),
    "custom_hooks.EMAHook.momentum": ("training.ema_momentum", _same),
    "custom_hooks.ExpMomentumEMAHook.momentum": ("training.ema_momentum", _same),
    "default_hooks.checkpoint.max_keep_ckpts": ("training.keep_checkpoints", _same),
    "randomness.seed": ("training.seed", _same),
    "randomness.deterministic": ("training.deterministic", _same),
    "work_dir": ("training.work_dir", _same),
}

# Paths that become relative to `data.root`.
PATHS = {
    f"{_TRAIN}.data_list": "data.train_list",
    f"{_TRAIN}.diff_file": "data.diff_file",
    "val_dataloader.dataset.data_list": "data.val_list",
    "test_dataloader.dataset.data_list": "data.test_list",
}

# Sides of MMDetection's crop -> setting, and its value without a crop.
CROP_SIDES = {
    "x_min": ("model.viewport.left", 0.0),
    "y_min": ("model.viewport.top", 0.0),
    "x_max": ("model.viewport.right", 1.0),
    "y_max": ("model.viewport.bottom", 1.0),
}

# Augmentations, which are off if MMDetection's pipeline omits them.
AUGMENTATIONS = {
    "HorizontalFlip": "data.augmentation.flip",
    "ChannelShuffle": "data.augmentation.channel_shuffle",
    "RandomBrightnessContrast": "data.augmentation.brightness_contrast",
    "HueSaturationValue": "data.augmentation.hsv",
    _BLUR: "data.augmentation.blur",
    "IAAAffine": "data.augmentation.affine",
}

# Names of the lowest rate of a cosine. A cosine down to the learning rate itself is a constant rate.
LOWEST_RATES = ("param_scheduler.CosineAnnealingLR.eta_min", "lr_config.min_lr")

SCHEDULE_ENDS = ("param_scheduler.CosineAnnealingLR.T_max", "param_scheduler.CosineAnnealingLR.end")

# Names of MMDetection 2.x -> 3.x, and of newer albumentations -> older; the first match counts.
RENAMED = {
    "data.samples_per_gpu": "train_dataloader.batch_size",
    "data.workers_per_gpu": "train_dataloader.num_workers",
    "data.train": _TRAIN,
    "data.val": "val_dataloader.dataset",
    "data.test": "test_dataloader.dataset",
    "optimizer": "optim_wrapper.optimizer",
    "optimizer_config.grad_clip": "optim_wrapper.clip_grad",
    "runner": "train_cfg",
    "evaluation.interval": "train_cfg.val_interval",
    "seed": "randomness.seed",
    "deterministic": "randomness.deterministic",
    f"{_AUGMENTATION}.Affine": f"{_AUGMENTATION}.IAAAffine",
}

# Settings that are fixed in this project: accepted if equal to one of the values, reported otherwise.
FIXED: dict[str, tuple[Any, ...]] = {
    "model.type": ("CLRerNet",),
    "model.backbone.type": ("DLANet", "ResNet"),
    "model.neck.type": ("CLRerNetFPN",),
    "model.neck.num_outs": (3,),
    "model.neck.attention": (False,),
    "model.data_preprocessor.type": ("DetDataPreprocessor",),
    "model.data_preprocessor.mean": ([0, 0, 0], (0, 0, 0)),
    "model.data_preprocessor.std": ([255, 255, 255], (255, 255, 255)),
    "model.data_preprocessor.bgr_to_rgb": (False,),
    "model.data_preprocessor.batch_augments": (None,),
    f"{_HEAD}.type": ("CLRerHead",),
    f"{_HEAD}.anchor_generator.type": ("CLRerNetAnchorGenerator",),
    f"{_HEAD}.attention.type": ("ROIGather",),
    f"{_HEAD}.loss_cls.type": ("KorniaFocalLoss",),
    f"{_HEAD}.loss_bbox.type": ("SmoothL1Loss",),
    f"{_HEAD}.loss_bbox.reduction": ("none",),
    f"{_HEAD}.loss_iou.type": ("LaneIoULoss",),
    f"{_HEAD}.loss_seg.type": ("CLRNetSegLoss",),
    f"{_HEAD}.loss_seg.ignore_label": (255,),
    f"{_ASSIGNER}.type": ("DynamicTopkAssigner",),
    f"{_ASSIGNER}.cls_cost.type": ("FocalCost",),
    f"{_ASSIGNER}.reg_cost.type": ("DistanceCost",),
    f"{_ASSIGNER}.iou_dynamick.type": ("LaneIoUCost",),
    f"{_ASSIGNER}.iou_dynamick.use_pred_start_end": (False,),
    f"{_ASSIGNER}.iou_dynamick.use_giou": (True,),
    f"{_ASSIGNER}.iou_cost.type": ("LaneIoUCost",),
    f"{_ASSIGNER}.iou_cost.use_pred_start_end": (True,),
    f"{_ASSIGNER}.iou_cost.use_giou": (True,),
    "model.test_cfg.use_nms": (True,),
    "model.test_cfg.as_lanes": (True,),
    f"{_TRAIN}.type": ("CulaneDataset",),
    "val_dataloader.dataset.type": ("CulaneDataset",),
    "test_dataloader.dataset.type": ("CulaneDataset",),
    f"{_AUGMENTATION}.Compose.params.keypoints": (True,),
    f"{_AUGMENTATION}.Compose.params.bboxes": (False,),
    f"{_AUGMENTATION}.Crop.p": (1,),
    f"{_AUGMENTATION}.Resize.p": (1,),
    f"{_AUGMENTATION}.Resize#2.p": (1,),
    f"{_AUGMENTATION}.RandomBrightnessContrast.brightness_limit": (0.04, (-0.04, 0.04)),
    f"{_AUGMENTATION}.RandomBrightnessContrast.contrast_limit": (0.15, (-0.15, 0.15)),
    f"{_AUGMENTATION}.HueSaturationValue.hue_shift_limit": ((-10, 10), 10),
    f"{_AUGMENTATION}.HueSaturationValue.sat_shift_limit": ((-10, 10), 10),
    f"{_AUGMENTATION}.HueSaturationValue.val_shift_limit": ((-10, 10), 10),
    f"{_AUGMENTATION}.{_BLUR}.MotionBlur.blur_limit": (5,),
    f"{_AUGMENTATION}.{_BLUR}.MotionBlur.p": (1,),
    f"{_AUGMENTATION}.{_BLUR}.MedianBlur.blur_limit": (5,),
    f"{_AUGMENTATION}.{_BLUR}.MedianBlur.p": (1,),
    "train_cfg.type": ("EpochBasedTrainLoop", "EpochBasedRunner", "IterBasedTrainLoop", "IterBasedRunner"),
    "optim_wrapper.optimizer.type": ("AdamW",),
    "optim_wrapper.optimizer.betas": ((0.9, 0.999), [0.9, 0.999]),
    "optim_wrapper.optimizer.eps": (1e-8,),
    "optim_wrapper.dtype": ("float16",),
    "optim_wrapper.clip_grad.norm_type": (2,),
    "param_scheduler.CosineAnnealingLR.eta_min": (0,),
    "param_scheduler.CosineAnnealingLR.eta_min_ratio": (0,),
    "param_scheduler.CosineAnnealingLR.begin": (0,),
    "param_scheduler.LinearLR.begin": (0,),
    "param_scheduler.LinearLR.by_epoch": (False,),
    "lr_config.policy": ("CosineAnnealing",),
    "lr_config.min_lr": (0,),
    "lr_config.min_lr_ratio": (0,),
    "lr_config.warmup": ("linear", None),
    "lr_config.warmup_by_epoch": (False,),
    "custom_hooks.EMAHook.interval": (1,),
    "custom_hooks.EMAHook.begin_iter": (0,),
    "custom_hooks.EMAHook.begin_epoch": (0,),
    "custom_hooks.ExpMomentumEMAHook.interval": (1,),
    "custom_hooks.ExpMomentumEMAHook.skip_buffers": (False,),
    "custom_hooks.ExpMomentumEMAHook.resume_from": (None,),
    "load_from": (None,),
    "resume_from": (None,),
    "resume": (False,),
    "auto_scale_lr.enable": (False,),
}

# Names without a counterpart that are ignored: registries, logging, samplers, metadata. Patterns of the dotted name.
IGNORED = (
    r"(custom_imports|default_scope|cfg_name|launcher|log_level|log_config|log_processor|checkpoint_config)(\..*)?",
    r"(visualizer|vis_backends|env_cfg|dist_params|device_ids|workflow|find_unused_parameters)(\..*)?",
    r"(val_cfg|test_cfg|val_evaluator|test_evaluator|evaluation|auto_scale_lr\.base_batch_size)(\..*)?",
    r"default_hooks\..*",
    r"custom_hooks\.\w+\.(priority|ema_type|update_buffers|strict_load)",
    r"(train|val|test)_dataloader\.(sampler|batch_sampler|persistent_workers|drop_last|pin_memory|collate_fn)(\..*)?",
    r"(val|test)_dataloader\.(batch_size|num_workers)",
    r"(train|val|test)_dataloader\.dataset\.test_mode",
    r"(train|val|test)_dataloader\.dataset\.pipeline\.(PackCLRNetInputs|CollectCLRNet)(\.(meta_keys|keys))?",
    r"(train|val|test)_dataloader\.dataset\.pipeline\.DefaultFormatBundle",
    r"model\.neck\.in_channels",  # follows from the backbone
    r"model\.test_cfg\.ori_img_[wh]",  # used for the crop
    rf"{_ASSIGNER}\.reg_cost\.weight",  # no cost combination depends on it: unused, or normalised away
    r"optim_wrapper\.loss_scale",
    r"param_scheduler\.CosineAnnealingLR\.(by_epoch|convert_to_iter_based)",
    r"lr_config\.by_epoch",
    r"optimizer_config|param_scheduler|custom_hooks|default_hooks|auto_scale_lr",
)

# Helper variables of the original data set file.
HELPER_VARIABLES = {
    "dataset_type", "data_root", "crop_bbox", "img_scale", "img_norm_cfg", "compose_cfg",
    "train_al_pipeline", "val_al_pipeline", "train_pipeline", "val_pipeline", "test_pipeline",
}  # fmt: skip

# Top-level names that MMDetection reads; others to which the file refers are its variables.
KEYS = {name.partition(".")[0] for name in (*MAPPED, *PATHS, *FIXED, *RENAMED)} | {
    "val_dataloader", "test_dataloader", "custom_hooks", "default_hooks", "param_scheduler",
}  # fmt: skip
