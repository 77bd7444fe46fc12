"""Every error that Tulle raises on purpose.

::

    TulleError                 one sentence for the user; the command line prints it, no traceback
    ├─ PrerequisiteError       this machine lacks something (root, kernel, BTF, a tool); exit code 2
    ├─ ConfigError             a flag, a file or a field that cannot be right; exit code 2
    ├─ ApiError                the Kubernetes API answered with a Status that is not a success
    │  ├─ NotFound             404
    │  ├─ Conflict             409: stale resourceVersion, or the object exists
    │  ├─ Gone                 410: the resourceVersion is too old, list again
    │  └─ Forbidden            401 or 403
    ├─ ApiUnreachable          no answer at all from the Kubernetes API
    ├─ KernelError             a system call, a netlink request or libbpf failed
    ├─ AddressError            an address cannot be given: CIDR exhausted, overlapping, mixed up
    ├─ CniError                what a CNI call answers with: code, msg, details
    └─ LabError                the lab cannot do what was asked

Errors of libraries are mapped to these at one place each: ``kube.client``, ``kernel``, ``agent.cni``.
"""

from __future__ import annotations

import os


class TulleError(Exception):
    """Base of the tree; ``str(error)`` is one sentence that a user can act on."""

    exit_code = 1


class PrerequisiteError(TulleError):
    """Says what is missing, what it is for, and how to get it."""

    exit_code = 2

    def __init__(self, missing: str, needed_for: str, remedy: str) -> None:
        super().__init__(f"{missing}: needed for {needed_for}; {remedy}")


class ConfigError(TulleError):
    """Names the field, what stands there, and what would be right."""

    exit_code = 2


class ApiError(TulleError):
    """The API's own answer.

    ``code`` is the HTTP status, ``reason`` the machine-readable reason of the Status object.
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message or f"{code} {reason}")
        self.code = code
        self.reason = reason


class NotFound(ApiError):
    """404: no such object or resource."""


class Conflict(ApiError):
    """409: ``reason`` is ``Conflict`` (stale resourceVersion) or ``AlreadyExists``."""


class Gone(ApiError):
    """410: the resourceVersion or the continue token has expired."""


class Forbidden(ApiError):
    """401 or 403: no credentials, or too few rights."""


class ApiUnreachable(TulleError):
    """The connection failed, timed out, or ended before an answer came."""


class KernelError(TulleError):
    """``errno`` as the kernel gave it; ``what`` is the operation in words."""

    def __init__(self, errno: int, what: str) -> None:
        super().__init__(f"{what}: {os.strerror(errno)}")
        self.errno = errno


class AddressError(TulleError):
    """No address can be given, or one that was asked for cannot be right."""


class CniError(TulleError):
    """An error result of CNI (specification 1.1.0, section 5).

    ``code`` is one of the specification's: 1 incompatible version, 2 unsupported field, 3 unknown
    container, 4 bad environment, 5 I/O, 6 decoding, 7 invalid network config, 11 try again later,
    50 not available, 51 not available and existing containers may be cut off; 100 and up are Tulle's.
    """

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.details = details


class LabError(TulleError):
    """The lab cannot do what was asked; the sentence says what to do instead."""
