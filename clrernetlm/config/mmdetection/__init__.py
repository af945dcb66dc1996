"""Translates configs of MMDetection without running them."""
