"""Where the reference itself moved: many versions of transformers on the embedded model. See `__main__.py`."""
