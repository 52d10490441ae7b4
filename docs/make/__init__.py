"""What of the site is made from vgx itself: mkdocs calls `hooks`, which asks the other modules for pages."""
