"""Whatever is refused is refused with a minivl.Error, and docs/made/refusals.md lists it with cause and remedy."""

import ast
from pathlib import Path

import pytest

import minivl
from tools.pages import refusals

KINDS = refusals.kinds()
CARRIED = {"truth/trace/recorder.py", "truth/trace/llama_recorder.py",
           "truth/trace/torch_recorder.py"}        # copied to a device where there is no minivl
PASSED_ON = {"error", "wrong", "problem"}          # `raise error(...)` of a class, or a function that makes one
OWN = {"Stopped", "Exit", "Unreadable", "Crashed", "OutOfTime", "NotYours", "Unreached",
       "AnotherFile"}      # caught by the room that raises them


def test_there_is_one_base_class_and_it_is_a_value_error():
    assert issubclass(minivl.Error, ValueError) and len(KINDS) >= 12
    assert all(issubclass(kind, minivl.Error) for kind in KINDS.values())


@pytest.mark.parametrize("refusal", list(refusals.refusals()), ids=lambda one: f"{one.file}-{one.words[:24]}")
def test_every_refusal_is_of_a_kind_that_the_page_explains(refusal):
    known = refusal.kind in KINDS or refusal.kind in refusals.OTHERS or refusal.kind in PASSED_ON | OWN
    assert known or refusal.file in CARRIED, refusal


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_says_what_to_do(name):
    doc = " ".join((KINDS[name].__doc__ or "").split())
    assert doc.count(".") >= 1 and len(doc) > 40, "a sentence on the cause, and what to do"


def test_the_page_is_what_its_command_writes():
    assert refusals.PAGE.read_text(encoding="utf-8") == refusals.page(), "run python -m tools.pages.refusals"


def test_a_message_is_read_with_its_holes():
    message = ast.parse('f"{path}: {len(rows)} rows" + " too many" if x else "none"', mode="eval").body
    assert refusals.words_of(message) == "{path}: {rows} rows too many / none"


def test_no_plain_value_error_is_left():
    package = Path(minivl.__file__).parent
    plain = [one.file for one in refusals.refusals() if one.kind in ("ValueError", "FileNotFoundError", "Exception")
             and one.file not in CARRIED]
    assert plain == [], f"raise one of the kinds of {package / 'door' / 'errors.py'}"
