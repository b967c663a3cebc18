"""The loop of `minivl chat`: a line is a command, a picture, or a question.

Answers go to stdout, everything else to stderr; without a terminal lines come from stdin one by one, so
that a script can talk. Read next: `talk.py`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ...door.errors import ArgumentError, Error
from ..console import clean, note, working
from ..given import Chosen, open_model, say_which
from .lines import messages, missing_first, of_first, paths_first, typed
from .talk import Conversation, Way

PROMPT = "> "
HELP = """
a question is sent as it is; pictures and videos that a line begins with are shown to the model, also
when a file is dragged here, or a data: URL pasted
  /picture PATH ...   show pictures or videos with the next question
  /paste              show the picture on the clipboard
  /trace FILE         record every stage of the last turn, for minivl trace show and minivl diff
  /explore FILE.html  make a page of the last turn, to point at pixels and tokens
  /reset              forget all that was said
  /save FILE.json     keep the conversation            /load FILE.json    go on with one
  /help               this text                        /quit              the end, as is Ctrl-D
a line that ends with a backslash goes on; three quotes alone on a line begin and end a message of
several lines; Ctrl-C stops an answer, which is kept as far as it came"""


def chat(images: Sequence[str], chosen: Chosen, system: str, way: Way) -> int:
    """Talk until the lines end; the exit code: 0, or 2 when a line of a script was refused. Raises
    ValueError or OSError for whatever is wrong with the input."""
    with open_model(chosen) as vlm:
        say_which(chosen.model)
        talk = Conversation(vlm, way, system)
        for image in images:
            note(talk.show(image))
        if sys.stdin.isatty():
            note("a question, a path of a picture, or /help; Ctrl-D ends")
        next_line = typed(PROMPT)
        return _lines(talk, next_line if vlm.rank is None else of_first(next_line, vlm.rank.world))


def _lines(talk: Conversation, next_line: Callable[[], str]) -> int:
    """All lines of a user; a refused one ends nothing."""
    refused = 0
    while True:
        try:
            for message in messages(next_line):
                if message in ("/quit", "/exit"):
                    return refused
                refused = max(refused, _one(talk, message))
            return refused
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            note("\nCtrl-D, or /quit, ends; /help says what else there is")


def _one(talk: Conversation, message: str) -> int:
    """What one line asks for; 2 where it is refused, else 0."""
    try:
        _obey(talk, message)
    except (Error, OSError, ImportError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        note(f"minivl: {first}")
        return 2
    return 0


def _obey(talk: Conversation, message: str) -> None:
    paths, rest = paths_first(message)
    word, _, argument = rest.partition(" ")
    if word in COMMANDS and not paths:
        return COMMANDS[word](talk, argument.strip())
    if word.startswith("/") and "/" not in word[1:] and word[1:].isalpha() and not paths:
        raise ArgumentError(f"there is no command {word}; there are {', '.join(COMMANDS)} and /quit")
    for path in paths:
        note(talk.show(path))
    if name := missing_first(rest):
        note(f"there is no file {name}: the word is sent as it is, and no picture with it")
    if rest:
        _answer(talk, rest)


def _answer(talk: Conversation, question: str) -> None:
    """Print an answer as it comes; Ctrl-C ends the answer alone."""
    pieces = talk.ask(question)
    try:
        with working("looking"):
            piece = next(pieces, None)  # the whole prompt is run for the first
        while piece is not None:
            sys.stdout.write(clean(piece))
            sys.stdout.flush()
            piece = next(pieces, None)
        sys.stdout.write("\n")
    except KeyboardInterrupt:
        pieces.close()                                               # type: ignore[attr-defined]
        sys.stdout.write("\n")
        note("stopped; what is written so far is part of the conversation")
    sys.stdout.flush()


# ---- commands --------------------------------------------------------------------------------------

def _named(argument: str, command: str, what: str) -> Path:
    """The file that a command is given. Raises ArgumentError where there is none."""
    if not argument:
        raise ArgumentError(f"{command} needs the name of {what}, as in {command} {what.split()[-1]}")
    return Path(argument.strip("'\"")).expanduser()


def _picture(talk: Conversation, argument: str) -> None:
    paths, rest = paths_first(argument)
    if rest and not paths:  # one whose name says nothing, or with blanks
        paths, rest = [argument.strip("'\"")], ""
    if not paths or rest:
        raise ArgumentError("/picture needs the paths of pictures or videos" + (f"; {rest} is none"
                                                                                if rest else ""))
    for path in paths:
        note(talk.show(path))


def _paste(talk: Conversation, argument: str) -> None:
    """The clipboard is read by Pillow: on Linux through wl-paste or xclip, where one is installed."""
    from PIL import ImageGrab
    try:
        found = ImageGrab.grabclipboard()
    except (NotImplementedError, OSError, ValueError) as error:
        raise ArgumentError(f"the clipboard cannot be read ({error}); save the picture, and give its "
                            "path") from None
    if isinstance(found, list):                                      # files that were copied
        for name in found:
            note(talk.show(str(name)))
    elif found is None:
        raise ArgumentError("there is no picture on the clipboard; copy one first, or give a path")
    else:
        file = io.BytesIO()
        found.save(file, "PNG")
        note(talk.show_bytes(file.getvalue(), "from the clipboard"))


def _trace(talk: Conversation, argument: str) -> None:
    path = _named(argument, "/trace", "a file such as turn.safetensors")
    with working("running the turn again"):
        talk.trace(path)
    note(f"written to {path}: the last turn, its answer as part of the prompt")


def _explore(talk: Conversation, argument: str) -> None:
    path = _named(argument, "/explore", "a file such as turn.html")
    with working("running the turn again"):
        other = talk.explore(path)
    note(f"written to {path}; open it in a browser" + ("" if other is None else (
        f". Run again, with nothing kept from earlier turns, token {other} of the answer is another: "
        "the two were nearly as likely")))


def _reset(talk: Conversation, argument: str) -> None:
    talk.reset()
    note("all is forgotten")


def _save(talk: Conversation, argument: str) -> None:
    path = _named(argument, "/save", "a file such as talk.json")
    talk.save(path)
    note(f"written to {path}: {len(talk.messages)} messages")


def _load(talk: Conversation, argument: str) -> None:
    path = _named(argument, "/load", "a file such as talk.json")
    note(f"{talk.load(path)} messages of {path}; go on")


def _help(talk: Conversation, argument: str) -> None:
    note(HELP.strip("\n"))


COMMANDS: dict[str, Callable[[Conversation, str], None]] = {
    "/picture": _picture, "/paste": _paste, "/trace": _trace, "/explore": _explore, "/reset": _reset,
    "/save": _save, "/load": _load, "/help": _help}
