"""Exported models: writing them, and running them without PyTorch."""
