"""Defines CLRerNet and LaneLM: networks, losses, assignment and decoding; without data, training and command line."""
