"""CLRerNet, DLA-34, CULane: 15 epochs. Published F1@50 on the test set: 81.12 +- 0.04."""

from clrernetlm.config import TrainingConfig, load_config

config = load_config("dataset_culane_clrernet.py")

config.model.decode.conf_threshold = 0.41  # by cross-validation on the training set

config.training = TrainingConfig(epochs=15, learning_rate=6e-4, weight_decay=0.01, validate_every=3)
