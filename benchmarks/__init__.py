"""Whet and TRL at the same work on one machine, side by side: `python -m benchmarks [name…]`."""
