"""Exports the names of `clrernetlm.models.clrernet.criterion` under the module's former name."""

from clrernetlm.models.clrernet.criterion import CLRerNetCriterion, build_assigner

__all__ = ["CLRerNetCriterion", "build_assigner"]
