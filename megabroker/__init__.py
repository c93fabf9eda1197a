"""megabroker: one partitioned, durable log served over several wire protocols at once."""

__version__ = "0.1.0"
__all__ = ["__version__"]
