"""The LaneLM that ships, on the detector that ships: generated roads for any real camera.

Its roads are not those of the detector, so that its proposals are those of a detector on new images:

clrernetlm synth roads/lanelm --train 5000 --val 300 --test 400 --seed 8 --size 820x295 --randomization all
clrernetlm train roads_lanelm --lanelm.detector work_dirs/roads_efficientnet_lite0/checkpoints/best.ckpt
"""

from clrernetlm.config import LaneLMConfig, LaneLMNetworkConfig, TrainingConfig, load_config

config = load_config("../../clrernet/roads/roads_efficientnet_lite0.py")
config.task = "lanelm"

config.lanelm = LaneLMConfig(
    network=LaneLMNetworkConfig(
        num_steps=32,
        nbins_x=512,
        embed_dim=128,
        num_heads=4,
        ffn_dim=512,
        global_attention=False,  # measured: it adds nothing to the features beside the lane, and costs time
    ),
    cached_augmentations=1,
    cache="roads/features",
)
config.lanelm.decode.lane_threshold = 0.48  # best on generated validation images

config.data.root = "roads/lanelm"
config.data.batch_size = 16

config.training = TrainingConfig(
    epochs=14,
    learning_rate=1e-3,
    betas=(0.9, 0.98),
    weight_decay=0.05,
    warmup_steps=100,
    clip_norm=1,
    precision="bf16-mixed",
    validate_every=7,
)
