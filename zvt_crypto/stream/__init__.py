"""Live data: over few connections into the tables, without a seam, and out to clients."""
