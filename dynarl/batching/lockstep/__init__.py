"""Lock-step execution: paths run side by side, and equal calls of all of them as one."""
