"""Claims, tested by sweeps."""
