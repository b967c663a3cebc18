"""The command line: `words.py` has the words, options and exit codes; each other file does what a
family of commands asks.

A command computes a plain document first and shows it then, so that `--json` prints what the table is
made of. The package does the work; nothing here but choosing, counting and printing.

Read next: `words.py` and `options.py`, then `console.py` (what all commands share).
"""

from .words import app, main

__all__ = ["app", "main"]
