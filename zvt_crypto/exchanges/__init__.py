"""Where data comes from: one file per venue, found by discovery."""
