"""Trains both models with Lightning."""
