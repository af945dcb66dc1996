"""LaneLM on the bench detector: 3,000 generated roads, one CPU core, minutes.

clrernetlm train bench_efficientnet_lite0
clrernetlm train bench_lanelm --lanelm.detector work_dirs/bench_efficientnet_lite0/checkpoints/best.ckpt
"""

from clrernetlm.config import LaneLMConfig, LaneLMNetworkConfig, TrainingConfig, load_config

config = load_config("../../clrernet/bench/bench_efficientnet_lite0.py")
config.task = "lanelm"

config.lanelm = LaneLMConfig(
    network=LaneLMNetworkConfig(num_steps=24, nbins_x=256, embed_dim=128, num_heads=4, ffn_dim=512),
    cached_augmentations=2,
    cache="bench/features",
)
config.lanelm.decode.lane_threshold = 0.45  # of the two bench runs 0.40 and 0.47 were best on validation images
config.data.batch_size = 16

config.training = TrainingConfig(
    epochs=8,
    learning_rate=1e-3,
    betas=(0.9, 0.98),
    weight_decay=0.05,
    warmup_steps=100,
    clip_norm=1,
    precision="bf16-mixed",
    validate_every=2,
)
