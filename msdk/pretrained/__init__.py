"""Published checkpoints: their constructor arguments as specs, and their parameter names as ours."""
