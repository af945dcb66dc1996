"""Lanes, images, files and errors: what every other package uses, and what uses none of them."""
