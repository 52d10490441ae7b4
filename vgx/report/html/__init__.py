"""A run, a sweep and a comparison as a page."""
