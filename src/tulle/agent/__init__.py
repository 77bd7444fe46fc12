"""The node agent: keeps one node's kernel as the cluster asks for; never in a packet's path."""
