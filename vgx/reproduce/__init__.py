"""Claims, put to the test by sweeps."""
