"""The commands of `minivl`, one file a family. Each computes a plain document first and shows it then, so that `--json`
prints what the table is made of. The package does the work; nothing here but choosing, counting and printing.

Read next: `../cli.py` (words and options), `console.py` (what all of them share).
"""
