# ruff: noqa: C408
width, height = 800, 320
lane_cost = {"type": "LaneIoUCost", "use_giou": True}

model = dict(
    type="CLRerNet",
    data_preprocessor=dict(type="DetDataPreprocessor", mean=[0, 0, 0], std=[255.0] * 3, bgr_to_rgb=False),
    backbone=dict(type="DLANet", dla="dla34", pretrained=True),
    neck=dict(type="CLRerNetFPN", in_channels=[128, 256, 512], out_channels=64, num_outs=3),
    bbox_head=dict(
        type="CLRerHead",
        anchor_generator=dict(type="CLRerNetAnchorGenerator", num_priors=192, num_points=72),
        img_w=width,
        img_h=height,
        prior_feat_channels=64,
        fc_hidden_dim=64,
        num_fc=2,
        refine_layers=3,
        sample_points=36,
        attention=dict(type="ROIGather"),
        loss_cls=dict(type="KorniaFocalLoss", alpha=0.25, gamma=2, loss_weight=2.0),
        loss_bbox=dict(type="SmoothL1Loss", reduction="none", loss_weight=0.2),
        loss_iou=dict(type="LaneIoULoss", lane_width=7.5 / width, loss_weight=4.0),
        loss_seg=dict(type="CLRNetSegLoss", loss_weight=1.0, num_classes=5, ignore_label=255, bg_weight=0.4),
    ),
    train_cfg=dict(
        assigner=dict(
            type="DynamicTopkAssigner",
            min_topk=1,
            max_topk=4,
            cost_combination=1,
            cls_cost=dict(type="FocalCost", weight=1.0),
            reg_cost=dict(type="DistanceCost", weight=0.0),
            iou_dynamick=dict(lane_width=7.5 / width, use_pred_start_end=False, **lane_cost),
            iou_cost=dict(lane_width=30 / width, use_pred_start_end=True, **lane_cost),
        )
    ),
    test_cfg=dict(
        conf_threshold=0.41,
        use_nms=True,
        nms_thres=50,
        nms_topk=4,
        as_lanes=True,
        extend_bottom=True,
        ori_img_w=1640,
        ori_img_h=590,
        cut_height=270,
    ),
)
