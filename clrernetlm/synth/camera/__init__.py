"""The camera that sees a generated road, and the car around it."""
