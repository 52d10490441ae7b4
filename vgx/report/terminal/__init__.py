"""A run, a sweep and a comparison as text."""
