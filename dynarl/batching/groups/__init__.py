"""Groups of samples that share one execution: who they are, and how rows move between groups."""
