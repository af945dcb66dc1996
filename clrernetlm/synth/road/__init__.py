"""A generated road: course, cross section, markings, surface."""
