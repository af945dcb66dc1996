"""The names of `clrernetlm.models.clrernet.losses`, under the module's name before version 0.2."""

from clrernetlm.models.clrernet.losses import CLRNetIoULoss, CLRNetSegLoss, KorniaFocalLoss, LaneIoULoss

__all__ = ["CLRNetIoULoss", "CLRNetSegLoss", "KorniaFocalLoss", "LaneIoULoss"]
