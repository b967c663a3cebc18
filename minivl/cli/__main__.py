"""`python -m minivl.cli` is `minivl`."""

from .words import main

main()
