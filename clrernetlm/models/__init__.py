"""CLRerNet and LaneLM: networks, losses, matching and decoding. Imports nothing of data, engine or command line."""
