"""CLRerNet and LaneLM: networks, losses, assignment and decoding. Imports nothing of data, training or command line."""
