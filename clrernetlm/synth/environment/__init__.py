"""Samples and draws the surroundings of a generated road: sky, light, weather, roadside, traffic."""
