"""Environments with known answers: diagnostics, puzzles, memory, non-stationary tasks, observations of varying size."""
