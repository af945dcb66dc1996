# ruff: noqa: C408
log_level = "INFO"
load_from = None
resume = False
env_cfg = dict(cudnn_benchmark=False, dist_cfg=dict(backend="nccl"))
default_hooks = dict(logger=dict(type="LoggerHook", interval=100))
