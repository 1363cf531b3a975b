"""Measure speed and memory, also against alternatives: `make bench` prints tables, RESULTS.md keeps them."""
