"""Models the camera of a generated scene, and the car around it."""
