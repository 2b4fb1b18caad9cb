"""The metrics adapter: serves what engines measure to the Kubernetes metrics APIs."""

from typing import Final

__version__: Final = "0.1.0"
