"""Measurements of a running broker; each module is one, run by ``python -m bench.NAME``."""
