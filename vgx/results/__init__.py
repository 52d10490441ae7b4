"""A run on disk, and what numpy reads off it; no jax."""
