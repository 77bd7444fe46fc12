"""What others may ask of this node's health, and the metrics."""
