"""What text, tokenizers and templates are refused with. Read next: `tokenizer.py`, `template.py`."""

from __future__ import annotations

from ..door.errors import Error


class TokenizerError(Error):
    """A tokenizer file, a text or an id that cannot be used; the message names the file and the key."""


class TemplateError(Error):
    """A chat template that is damaged, refuses the messages, tries to reach out or goes past its
    bounds."""
