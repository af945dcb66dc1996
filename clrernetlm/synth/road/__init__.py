"""A generated road: geometry, lanes, cross section, markings and pavement."""
