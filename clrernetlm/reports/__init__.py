"""Writes HTML reports, charts and tables of scores."""
