"""Does what holds for small random models hold at a released size? Parity with transformers, every
conversion, and conversions that are killed: `python -m tools.truth.full_size --help`.
Read next: `__main__.py`.
"""
