"""CLRerNet as published: architecture, assignment, losses and decoding. Data sets and schedules build on it."""

from clrernetlm.config import (
    AssignerConfig,
    BackboneConfig,
    ClrernetConfig,
    Config,
    DecodeConfig,
    HeadConfig,
    LossConfig,
)

config = Config(
    model=ClrernetConfig(
        backbone=BackboneConfig(name="dla34", pretrained=True),
        head=HeadConfig(
            num_priors=192,
            num_points=72,
            sample_points=36,
            refine_layers=3,
            feature_channels=64,
            fc_layers=2,
        ),
        assigner=AssignerConfig(
            min_topk=1,
            max_topk=4,
            cls_weight=1.0,
            reg_weight=3.0,
            cost_combination=1,
            dynamick_lane_width=7.5 / 800,
            cost_lane_width=30 / 800,
        ),
        loss=LossConfig(
            cls_weight=2.0,
            focal_alpha=0.25,
            focal_gamma=2.0,
            xytl_weight=0.2,
            iou_weight=4.0,
            iou_lane_width=7.5 / 800,
            seg_weight=1.0,
            seg_background_weight=0.4,
        ),
        decode=DecodeConfig(conf_threshold=0.41, nms_threshold=50.0, extend_bottom=True),
        max_lanes=4,
    )
)
