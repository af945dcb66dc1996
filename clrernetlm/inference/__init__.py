"""Images and videos to lanes."""
