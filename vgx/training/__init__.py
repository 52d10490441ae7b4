"""The numerics of training: jax, no files."""
