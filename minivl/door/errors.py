"""One base class for everything that minivl refuses, so that a program catches it in one place:

    try:
        vlm = minivl.load(folder)
    except minivl.Error as error:           # a ValueError too, as it always was
        print(error)

Each room has a kind of its own (`ConfigError`, `PictureError`, ...), defined where it is raised. What
Python has a name for keeps that name as well: a `MissingFile` is also a FileNotFoundError.
docs/reference/refusals.md lists them all.
"""

from __future__ import annotations

import reprlib

LONGEST_VALUE = 120        # characters of a value from elsewhere that a message holds


def brief(value: object) -> str:
    """repr of a value for a message: at most LONGEST_VALUE characters, both ends where it is longer. A name stands
    there whole; a longer text may be a payload, of which `reprlib` leaves 30 characters. `reprlib` alone bounds each
    nested value, and not their sum."""
    name = isinstance(value, str) and len(value) <= LONGEST_VALUE
    said, side = repr(value) if name else reprlib.repr(value), LONGEST_VALUE // 2
    return said if len(said) <= LONGEST_VALUE else f"{said[:side]}...{said[3 - side:]}"


class Error(ValueError):
    """Something is refused. The message says what must hold, what was found and what to do."""


class ArgumentError(Error):
    """An argument is out of range, of the wrong kind, or does not go with the others."""


class MissingFile(Error, FileNotFoundError):
    """A file or folder that is needed is not there."""


class FileInTheWay(Error, FileExistsError):
    """Something lies where a new file or folder should go; nothing is ever written over."""


class OutOfRange(Error, IndexError):
    """A number that counts something (a row, a picture, a token) is beyond the last one."""


class MissingExtra(Error, ImportError):
    """A package that is needed for this alone is not installed; the message says how to get it."""
