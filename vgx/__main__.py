"""`python -m vgx`."""

from vgx.cli import main

main()
