"""The operations; each is declared with its forward and its gradient together."""
