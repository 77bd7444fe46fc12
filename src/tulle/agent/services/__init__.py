"""From the Services of the API to the kernel, and back to who looks."""
