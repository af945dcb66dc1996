"""The demo's language model: LaneLM on the features of the demo's detector, in two minutes on a plain CPU."""

from clrernetlm.config import LaneLMConfig, LaneLMNetworkConfig, TrainingConfig, load_config

config = load_config("../../clrernet/demo/demo_efficientnet_lite0.py")
config.task = "lanelm"

config.lanelm = LaneLMConfig(
    detector="demo/run/checkpoints/best.ckpt",
    network=LaneLMNetworkConfig(num_steps=24, nbins_x=256, embed_dim=128, num_heads=4, ffn_dim=512),
    views=2,
    cache="demo/features",
)
config.lanelm.decode.lane_threshold = 0.45
config.data.batch_size = 16

config.training = TrainingConfig(
    epochs=6,
    learning_rate=1e-3,
    betas=(0.9, 0.98),
    weight_decay=0.05,
    warmup_steps=30,
    clip_norm=1,
    validate_every=6,
    work_dir="demo/lanelm",
)
