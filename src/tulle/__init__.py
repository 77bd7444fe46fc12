"""Tulle: a Kubernetes network that is small, fast and see-through."""

__version__ = "0.1.0"
