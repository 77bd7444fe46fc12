"""From outside the cluster to Services and Pods: the fourth of the networking problems."""
