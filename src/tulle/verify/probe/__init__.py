"""The program in verify's Pods: ``python3 -m tulle.verify.probe serve|check``.

``serve`` answers on TCP, UDP and (through the kernel) ICMP with what it saw of whoever asked; ``check`` asks.
It imports nothing beyond the standard library and the siblings here, so that any Python 3.11 can run it.
"""
