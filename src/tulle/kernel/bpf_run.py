"""Runs a program by itself, on no packet or on one of ours (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import ctypes

from tulle.kernel.libbpf import call


class RunOptions(ctypes.Structure):
    """``struct bpf_test_run_opts`` of libbpf."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("data_in", ctypes.c_char_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_char_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


def run(program: int) -> int:
    """What a program for no packet (``SEC("syscall")``) returns. Raises ``KernelError``."""
    options = RunOptions(size=ctypes.sizeof(RunOptions))
    call("run a program", "bpf_prog_test_run_opts", program, ctypes.byref(options))
    return int(options.retval)
