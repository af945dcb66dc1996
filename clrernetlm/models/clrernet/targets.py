"""Layout of the detector's training targets: a lane is a row of 6 + R numbers, in these columns.

[1 - valid, valid, y0, x0, theta, length, x per row]: y0 is 1 at the bottom edge and 0 at the top, x0 and the x's are
network pixels, theta is the mean direction / pi, length counts rows. Made by `datasets.lane_formatting`, used by
assignment and losses. Source: CLRNet, arXiv 2203.10350, with the official code's layout.
"""

from __future__ import annotations

VALID, Y0, X0, THETA, LENGTH = 1, 2, 3, 4, 5
ROWS = 6  # the first column of x; the lane's lowest row
EMPTY = -1e5  # x of rows on which a lane does not exist, and of unused slots
IGNORED_LABEL = 255  # value of mask pixels that the segmentation loss ignores
