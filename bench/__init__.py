"""Measures what Tulle promises in figures: ``python -m bench``. See docs/benchmarks.md."""
