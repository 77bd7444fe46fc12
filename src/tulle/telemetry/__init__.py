"""What Tulle's processes tell of themselves: metrics, and the pages that show them."""
