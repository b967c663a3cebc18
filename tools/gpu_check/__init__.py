"""What a GPU has to be asked, in one command. Read next: `__main__.py`."""
