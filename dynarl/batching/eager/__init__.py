"""Eager execution: operations run at once, paths one after the other, parts replay from a log."""
