"""The bridge: configs become programs, and what they measure becomes a run on disk."""
