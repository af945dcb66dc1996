"""Reads configs of MMDetection without running them."""
