"""The node agent: keeps one node's kernel in the state that the cluster asks for; never in a packet's path."""
