"""The names of `clrernetlm.models.clrernet.criterion`, under its former name."""

from clrernetlm.models.clrernet.criterion import CLRerNetCriterion, build_assigner

__all__ = ["CLRerNetCriterion", "build_assigner"]
