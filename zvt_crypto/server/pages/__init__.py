"""What the pages load; ``pageviews`` serves it."""
