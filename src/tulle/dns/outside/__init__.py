"""Names outside the cluster: a cache, and upstreams that are asked and not trusted."""
