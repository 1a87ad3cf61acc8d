"""Networks that turn observations of any space into features."""
