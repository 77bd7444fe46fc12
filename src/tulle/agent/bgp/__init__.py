"""This node as a BGP speaker, through BIRD."""
