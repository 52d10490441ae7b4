"""What may be asked: configs and sweeps, read from YAML with every fault at its place."""
