"""Kubernetes' REST API on one SQLite file: a generic store and a table of kinds.

A request passes ``routes`` (what is asked) → ``access`` (who asks, may they) → ``reading``, ``watching`` or
``mutations`` → ``writing`` → ``store``.  What differs between kinds stands in ``registry`` and in
``builtin.types``; no kind has a handler of its own.
"""
