"""Exports models for other runtimes, and runs exported models."""
