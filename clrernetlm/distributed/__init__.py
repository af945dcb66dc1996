"""Processes that train or score together."""
