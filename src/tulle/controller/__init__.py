"""``tulle controller``: what has to be done once for the whole cluster, not on each node."""
