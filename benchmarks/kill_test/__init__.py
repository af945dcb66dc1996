"""The parts of `benchmarks/kills.py`: commands and their inputs, processes, the killer, checks of files."""
