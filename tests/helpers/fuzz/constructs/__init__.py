"""The constructs of random programs, by subject; importing a module adds its features."""
