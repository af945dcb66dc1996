"""The names of `clrernetlm.models.clrernet.losses`, under its former name."""

from clrernetlm.models.clrernet.losses import CLRNetIoULoss, CLRNetSegLoss, KorniaFocalLoss, LaneIoULoss

__all__ = ["CLRNetIoULoss", "CLRNetSegLoss", "KorniaFocalLoss", "LaneIoULoss"]
