"""The fovea: a network that reads the frame's own pixels beside a lane, and moves the lane onto its paint."""
