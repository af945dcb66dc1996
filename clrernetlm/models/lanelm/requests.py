"""What LaneLM is asked about an image: questions (lanes of the detector) and prompts (points somebody clicked)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

FAR = 1e9  # rows to a prompt that is not there; not infinity, which OpenVINO replaces by the largest float


@dataclass
class Requests:
    """L requests for each of B images; rows run from the top, x and y are network pixels.

    A request without question and without prompt is not `asked` for.
    """

    question: Tensor  # (B, L, T) x on every row, going on straight where the question is not shown
    shown: Tensor  # (B, L, T) bool: rows the question covers; none where there is no question
    score: Tensor  # (B, L) the detector's confidence; NaN: unknown
    prompts: Tensor  # (B, L, K, 2) x, y
    prompted: Tensor  # (B, L, K) bool: which of the K prompts there are
    is_start: Tensor  # (B, L) bool: the prompts are a detector's start point, not clicks
    asked: Tensor  # (B, L) bool: which requests there are

    def to(self, device: torch.device) -> Requests:
        """The same requests on another device."""
        return Requests(*(getattr(self, item.name).to(device) for item in fields(self)))

    def __getitem__(self, index: Any) -> Requests:
        """Requests picked by an index of the first dimensions."""
        return Requests(*(getattr(self, item.name)[index] for item in fields(self)))


@dataclass
class Guides:
    """What a request says about every row, (B, L, T) each: where the reference runs, and the prompts next to the row.

    The reference is the question, bent so that it passes through the prompts; between two prompts without a question it
    is the straight line from one to the other.
    """

    reference: Tensor  # x
    referred: Tensor  # bool: there is a reference on this row
    before_x: Tensor  # the nearest prompt at or above the row
    before_rows: Tensor  # rows to it; negative: there is none
    after_x: Tensor  # the nearest prompt below the row
    after_rows: Tensor


def guides(requests: Requests, rows: Tensor) -> Guides:
    """Requests and `rows` (T,), y in pixels from the top -> their guides."""
    spacing = rows[1] - rows[0]
    has_question = requests.shown.any(-1, keepdim=True)
    if not requests.prompts.shape[2]:
        none = torch.full_like(requests.question, -1.0)
        referred = has_question.expand_as(requests.shown)
        return Guides(requests.question, referred, none, none, none, none)
    x, y = requests.prompts.unbind(-1)  # (B, L, K)
    below = (y[..., None] - rows) / spacing  # (B, L, K, T) rows from a row down to a prompt
    there = requests.prompted[..., None]
    before_rows, before = (-below).masked_fill(~(there & (below <= 0)), FAR).min(2)
    after_rows, after = below.masked_fill(~(there & (below > 0)), FAR).min(2)
    has_before, has_after = before_rows < FAR, after_rows < FAR
    before_x, after_x = x.gather(2, before), x.gather(2, after)

    share = before_rows / (before_rows + after_rows).clamp(min=1e-6)  # from the prompt above to the one below
    share = torch.where(has_before & has_after, share, has_after.to(share))
    residual = x - interpolate_rows(requests.question, y / spacing)
    bend = residual.gather(2, before) * (1 - share) + residual.gather(2, after) * share
    bent = requests.question + bend.masked_fill(~(has_before | has_after), 0.0)
    straight = before_x * (1 - share) + after_x * share
    return Guides(
        torch.where(has_question, bent, straight),
        has_question | (has_before & has_after),
        before_x.masked_fill(~has_before, 0.0),
        before_rows.masked_fill(~has_before, -1.0),
        after_x.masked_fill(~has_after, 0.0),
        after_rows.masked_fill(~has_after, -1.0),
    )


def extend_question(xs: Tensor, shown: Tensor) -> Tensor:
    """(..., T) x of questions, (..., T) rows where they are shown -> finite x on every row.

    Beyond its ends a question goes on straight in the direction of its last rows; in a gap, such as that of a lane
    that leaves the image and comes back, from one end of it to the other. 0 everywhere where nothing is shown.
    """
    steps = xs.shape[-1]
    index = torch.arange(steps, device=xs.device)
    first = shown.float().argmax(-1, keepdim=True)
    last = steps - 1 - shown.flip(-1).float().argmax(-1, keepdim=True)
    before = torch.where(shown, index, 0).cummax(-1).values  # of every row, the nearest that is shown
    after = torch.where(shown, index, steps - 1).flip(-1).cummin(-1).values.flip(-1)
    share = (index - before) / (after - before).clamp(min=1)
    x_before, x_after = xs.gather(-1, before), xs.gather(-1, after)
    inside = x_before + (x_after - x_before) * share
    near_first, near_last = (first + 2).clamp(max=last), (last - 2).clamp(min=first)
    x_first, x_last = inside.gather(-1, first), inside.gather(-1, last)
    up = (inside.gather(-1, near_first) - x_first) / (near_first - first).clamp(min=1)
    down = (x_last - inside.gather(-1, near_last)) / (last - near_last).clamp(min=1)
    filled = torch.where(index < first, x_first + up * (index - first), inside)
    filled = torch.where(index > last, x_last + down * (index - last), filled)
    return torch.where(shown.any(-1, keepdim=True), filled, 0.0)


def interpolate_rows(values: Tensor, places: Tensor) -> Tensor:
    """(..., T) values on rows, (..., K) places in rows -> (..., K), straight between two rows, constant outside."""
    last = values.shape[-1] - 1
    places = places.clamp(0, last)
    low = places.floor().clamp(max=last - 1).long()
    share = places - low
    return values.gather(-1, low) * (1 - share) + values.gather(-1, low + 1) * share
