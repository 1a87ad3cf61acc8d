"""The guard: what exists before a call stays as it is, and random numbers belong to each sample."""
