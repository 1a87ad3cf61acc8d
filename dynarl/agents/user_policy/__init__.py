"""Policies that users write: how an agent calls them, with their state and their feedback."""
