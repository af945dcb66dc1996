"""Defines CLRerNet, which detects lanes by refining anchors on backbone features. Names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clrernetlm.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from clrernetlm.models.clrernet.detector import CLRerNet

__all__ = ["CLRerNet"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "CLRerNet": "clrernetlm.models.clrernet.detector",
    },
)
