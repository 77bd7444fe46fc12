"""Pod to Pod: every Pod its own address, every Pod reaches every Pod, without NAT (N-01 to N-08)."""
