"""The names of `clrernetlm.models.clrernet.assigner` and of its costs, under the module's name before version 0.2."""

from clrernetlm.models.clrernet.assigner import DynamicTopkAssigner
from clrernetlm.models.clrernet.costs import CLRNetIoUCost, DistanceCost, FocalCost, LaneIoUCost

__all__ = ["CLRNetIoUCost", "DistanceCost", "DynamicTopkAssigner", "FocalCost", "LaneIoUCost"]
