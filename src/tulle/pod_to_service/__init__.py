"""Pod to Service: a virtual address that always leads to a live endpoint (S-01 to S-17, S-30 to S-74)."""
