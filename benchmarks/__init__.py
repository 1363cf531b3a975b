"""How fast, how small, and next to what: `make bench` measures, RESULTS.md keeps what it measured."""
