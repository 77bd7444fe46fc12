"""Names of the cluster: from the API's objects to the zone, and what is kept of it on disk."""
