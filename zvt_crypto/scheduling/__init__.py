"""Recording on time: what is due when, one run at a time per table, and what became of each run."""
