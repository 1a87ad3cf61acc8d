"""How each operation acts under the hidden batch axis."""
