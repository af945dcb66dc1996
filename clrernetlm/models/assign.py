"""Exports the names of `clrernetlm.models.clrernet.assigner` and of the costs under the module's former name."""

from clrernetlm.models.clrernet.assigner import DynamicTopkAssigner
from clrernetlm.models.clrernet.costs import CLRNetIoUCost, DistanceCost, FocalCost, LaneIoUCost

__all__ = ["CLRNetIoUCost", "DistanceCost", "DynamicTopkAssigner", "FocalCost", "LaneIoUCost"]
