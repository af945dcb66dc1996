"""Version of the package, and the folder it is installed in."""

from pathlib import Path

__version__ = "0.1.0"

PACKAGE_FOLDER = Path(__file__).resolve().parents[1]
