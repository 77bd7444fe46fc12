"""External to Service: what makes Services reachable from outside the cluster."""
