"""What `minivl triage` is measured on: generated reading samples, and candidates with a known fault.

`__main__.py` prints the table of docs/guide/triage.md.
"""
