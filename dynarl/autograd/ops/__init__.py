"""The operations: each module declares its own, forward and gradient side by side."""
