"""What vgx costs, measured: `make bench`."""
