"""The sealed report: minivl against transformers on one checkpoint, stage by stage, with the hash of
every part.

    run.py      the comparisons: pictures and videos, in every precision
    parts.py    versions, and the SHA-256 of all parts
    seal.py     what makes a report a sealed one; verifying it
    page.py     the same for a browser

Plain data goes from one to the next. Read next: `run.py`; docs/reference/parity-report.md.
"""
