"""Training, testing and timing of configured models."""
