# ruff: noqa: C408
_base_ = "clrernet_culane_dla34.py"

model = dict(test_cfg=dict(conf_threshold=0.43))

custom_hooks = [dict(type="EMAHook", momentum=0.0001, priority=49)]

total_epochs = 50
train_cfg = dict(max_epochs=total_epochs)
param_scheduler = [dict(type="CosineAnnealingLR", eta_min=6e-4, T_max=total_epochs, by_epoch=True)]
