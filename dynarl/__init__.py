"""Reinforcement learning on its own define-by-run autograd engine."""
