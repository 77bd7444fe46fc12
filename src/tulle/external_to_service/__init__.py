"""From outside the cluster to Services: what is not done in eBPF."""
