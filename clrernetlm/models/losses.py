"""Exports the names of `clrernetlm.models.clrernet.losses` under the module's former name."""

from clrernetlm.models.clrernet.losses import CLRNetIoULoss, CLRNetSegLoss, KorniaFocalLoss, LaneIoULoss

__all__ = ["CLRNetIoULoss", "CLRNetSegLoss", "KorniaFocalLoss", "LaneIoULoss"]
