"""Kubernetes' REST API on one SQLite file: a generic store and a table of kinds.

A request passes ``server`` (TLS, who) → ``access`` (may they) → ``routes`` (what) → ``reading``, ``watching``,
``writing`` or ``subresources`` → ``store``.  What differs between kinds stands in ``registry`` and
``builtin.types``; no kind has a handler of its own.
"""
