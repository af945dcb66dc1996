"""Samples and draws a generated road: geometry, lanes, cross section, markings and pavement."""
