"""Models by name, downloads, checkpoints, packed files; nothing in the files of strangers is run."""
