"""What surrounds a generated road: sky, light, weather, roadside, traffic."""
