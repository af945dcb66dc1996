"""Defines lanes, images, files and errors for all other packages; imports none of them."""
