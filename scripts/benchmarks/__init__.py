"""The sections of scripts/benchmark.py."""
