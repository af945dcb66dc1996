"""The names of `clrernetlm.models.clrernet.assigner` and of its costs, under its former name."""

from clrernetlm.models.clrernet.assigner import DynamicTopkAssigner
from clrernetlm.models.clrernet.costs import CLRNetIoUCost, DistanceCost, FocalCost, LaneIoUCost

__all__ = ["CLRNetIoUCost", "DistanceCost", "DynamicTopkAssigner", "FocalCost", "LaneIoUCost"]
