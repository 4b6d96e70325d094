"""How rows are stored in the lists: what to train, how to encode, what the scan needs."""
