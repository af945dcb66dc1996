"""Lane detection to train, trust, deploy and talk to."""

__version__ = "0.1.0"
