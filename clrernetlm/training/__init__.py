"""Training of both models with Lightning."""
