"""The only code that talks to the Kubernetes API.

``config`` reads where the API is and who we are, ``client`` makes single requests, ``informer`` keeps a
local copy of a collection. Errors of aiohttp become :class:`~tulle.errors.ApiError` and
:class:`~tulle.errors.ApiUnreachable` in ``client``, and nowhere else.
"""
