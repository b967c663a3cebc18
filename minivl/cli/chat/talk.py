"""A conversation with the model: turns, what was given to look at, and the last turn for tools.

The last turn is looked into by running it again: a trace with the answer as part of the prompt, a page
by the same seed and temperature. Rows of earlier turns are reused while talking, and never for tools. A
picture is kept as the bytes that it had when it was given. Read next: `command.py`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...api import VLM
from ...door.errors import ArgumentError
from ...door.files import PAGES, check_place, parse_json, write_whole
from ...run.footage import Footage, looks_like_video
from ...run.messages import one_form
from ...run.open_picture import load_picture, open_source
from ...run.prompt_cache import PromptCache
from ...text.tokenizer import Stream
from ..given import speaks
from .lines import path_of

LARGEST = 1 << 28                        # bytes of a saved conversation, its pictures in base64
Item = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """How answers are written. temperature: None leaves the choice to the checkpoint, 0 is greedy."""
    max_new_tokens: int = 512
    temperature: float | None = None
    seed: int = 0
    keeping: Mapping[str, Any] = field(default_factory=dict)         # how rows are kept


@dataclass
class Conversation:
    """messages: all turns so far, in the official form; given: pictures and videos for the next one."""
    vlm: VLM
    way: Way = field(default_factory=Way)
    system: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)
    given: list[Item] = field(default_factory=list)
    written: list[int] = field(default_factory=list)                 # ids of the last answer
    drawn: int = 0                                                   # the seed that it was drawn by
    known: PromptCache = field(default_factory=PromptCache)

    # ---- talking

    def show(self, name: str) -> str:
        """Give a picture or a video for the next question; what it is, in words. Raises PictureError."""
        if name[:5].lower() != "data:" and looks_like_video(path_of(name)):
            footage = Footage.open(path_of(name))
            self.given.append({"type": "video", "video": str(path_of(name))})
            return f"video {path_of(name).name}, {len(footage):,} frames"
        data = open_source(name)[1].getvalue() if name[:5].lower() == "data:" else _read(path_of(name))
        return self.show_bytes(data, "pasted" if name[:5].lower() == "data:" else path_of(name).name)

    def show_bytes(self, data: bytes, name: str) -> str:
        """The same for the bytes of a picture."""
        height, width = load_picture(data).shape[:2]
        self.given.append({"type": "image", "image": data})
        return f"picture {name}, {width} x {height}"

    def ask(self, question: str) -> Iterator[str]:
        """Pieces of the answer as they come. Whatever ends it, it is part of the conversation as far as
        it came; where nothing came, the question is not either. Raises Error."""
        asked = {"role": "user", "content": [*self.given, {"type": "text", "text": question}]}
        start = [] if self.messages or not self.system else [{"role": "system", "content": self.system}]
        messages = [*start, *self.messages, asked]
        inputs = self.vlm.prepare(messages)
        # a seed of its own for each turn, so that a question asked twice may get another answer
        seed = self.way.seed + len(self.messages)
        tokens = self.vlm.tokens(inputs, self.way.max_new_tokens, self.way.temperature, seed=seed,
                                 reuse=self.known if self.vlm.rank is None else None, **self.way.keeping)
        text, ids, said = Stream(self.vlm.tokenizer), list[int](), list[str]()
        try:
            for token in tokens:
                ids.append(token)
                if piece := text.push(token):
                    said.append(piece)
                    yield piece
            if piece := text.flush():
                said.append(piece)
                yield piece
        finally:
            if ids:
                self.written, self.drawn, self.given = ids, seed, []
                self.messages = [*messages, {"role": "assistant", "content": "".join(said)}]

    def reset(self) -> None:
        """Forget everything that was said and given."""
        self.messages, self.given, self.written = [], [], []
        self.known.clear()

    # ---- the last turn, for tools

    def trace(self, path: Path) -> None:
        """Record the last turn, question and answer, as `minivl trace record` does. Raises ArgumentError
        or OSError."""
        from ...truth.trace.record import record
        check_place(path)
        self._check_turn()
        record(self.vlm, self.messages, path)

    def explore(self, path: Path) -> int | None:
        """Write the last turn as a page. It is run again for that: gives the number of the first token
        that comes out otherwise, None where none does. Raises ArgumentError or OSError."""
        from ...show import explorer
        check_place(path, *PAGES)
        self._check_turn()
        temperature = self.way.temperature
        draws = self.vlm.generation.do_sample if temperature is None else temperature != 0
        drawing = {"temperature": temperature} if draws and temperature else {}
        run = explorer.follow(self.vlm, self.messages[:-1], len(self.written), path.stem,
                              do_sample=draws,
                              seed=self.drawn, **drawing)
        explorer.save(path, run)
        pairs = enumerate(zip(run.written, self.written, strict=False))
        return next((n for n, (again, first) in pairs if again != first), None)

    def _check_turn(self) -> None:
        if self.vlm.rank is not None:
            raise ArgumentError("this model is cut over several ranks, and what is seen of a pass would be "
                                "one rank's share of it: /save the conversation, and /load it in one process")
        if not self.written:
            raise ArgumentError("there is no turn to look into yet; ask something first")

    # ---- kept in a file

    def save(self, path: Path) -> None:
        """Write the conversation as JSON: messages in the official form, pictures as data: URLs. Raises
        ArgumentError or OSError."""
        check_place(path, ".json")
        if not speaks(self.vlm):
            return
        text = json.dumps({"messages": [_with_urls(one) for one in self.messages]}, indent=1) + "\n"
        write_whole(path, lambda file: file.write(text.encode()))

    def load(self, path: Path) -> int:
        """Go on with a saved conversation; how many messages it has. Raises Error or OSError."""
        with path.open("rb") as file:
            found = parse_json(file.read(LARGEST + 1), str(path), ArgumentError, LARGEST)
        if found.keys() != {"messages"}:
            raise ArgumentError(f"{path} must be what /save writes, an object with messages and nothing "
                                f"else; it has the keys {', '.join(map(str, found)) or 'none'}")
        messages = one_form(found["messages"], self.vlm.processor.template)
        messages = [_with_bytes(one) for one in messages]
        self.reset()
        self.messages = messages
        return len(messages)


def _read(path: Path) -> bytes:
    """The bytes of a picture's file. Raises PictureError."""
    opened = open_source(path)[1]
    return Path(opened).read_bytes()


def _with_urls(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message whose pictures are texts."""
    def item(one: Item) -> Item:
        if not isinstance(one.get("image"), bytes):
            return one
        return {**one, "image": f"data:;base64,{base64.b64encode(one['image']).decode()}"}
    content = message["content"]
    return {**message, "content": content if isinstance(content, str)
            else [item(one) for one in content]}


def _with_bytes(message: Mapping[str, Any]) -> dict[str, Any]:
    """The way back. A video is its path, both ways. Raises ArgumentError for a picture that is no data:
    URL, PictureError for one that cannot be read."""
    def item(one: Item) -> Item:
        if "image" not in one:
            return one
        if not isinstance(one["image"], str) or one["image"][:5].lower() != "data:":
            raise ArgumentError("pictures of a saved conversation must be data: URLs, as /save writes "
                                "them; found another")
        data = open_source(one["image"])[1].getvalue()
        load_picture(data)
        return {**one, "image": data}
    content = message["content"]
    return {**message, "content": content if isinstance(content, str)
            else [item(one) for one in content]}
