"""The names of `clrernetlm.models.clrernet.criterion`, under the module's name before version 0.2."""

from clrernetlm.models.clrernet.criterion import CLRerNetCriterion, build_assigner

__all__ = ["CLRerNetCriterion", "build_assigner"]
