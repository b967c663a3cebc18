"""Versions of stages as students write them: right ones in several styles, wrong ones with the words they must earn.

Written without looking at the package's own wrong versions, from the stages' texts; so the two lists differ in style.
"""

from collections import defaultdict

RIGHT, WRONG = defaultdict(list), defaultdict(list)


def right(stage):
    """Keep a right version of the stage."""
    def keep(function):
        RIGHT[stage].append(function)
        return function
    return keep


def wrong(stage, *words):
    """Keep a wrong version; all of `words` must stand in the name of the mistake."""
    def keep(function):
        WRONG[stage].append((words, function))
        return function
    return keep


def load():
    """Both tables, filled."""
    from . import versions_arithmetic, versions_blocks, versions_pictures, versions_text  # noqa: F401
    return RIGHT, WRONG
