"""One upstream feed of a market, however many clients ask: numbered messages, gaps, each client's pace."""
