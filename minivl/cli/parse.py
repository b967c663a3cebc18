"""`minivl parse`: a picture of a page or a screen as HTML, Markdown or JSON, whole or not at all.

Read next: `run/documents.py` and `run/forms.py` of the package, which read the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..door.errors import ArgumentError
from ..door.files import check_place, parse_json, write_whole
from ..run.documents import ReadDocument, read_page
from ..run.forms import checker, read_json
from ..run.markdown import markdown
from ..run.open_picture import load_picture
from .console import clean, line, note, print_json, working
from .given import Chosen, check_words, named, open_model, say_which, speaks

FORMATS = ("html", "markdown", "json")
# QwenLM/Qwen2.5-VL, cookbooks/document_parsing.ipynb, and cookbooks/ocr.ipynb
SYSTEM = ("You are an AI specialized in recognizing and extracting text from images. Your mission is to "
          "analyze the image document and generate the result in QwenVL Document Parser HTML format "
          "using specified tags while maintaining user privacy and data integrity.")
PAGE = "QwenVL HTML"
LINES = "Spotting all the text in the image with line-level, and output in JSON format."


def parse(image: str, form: str, question: str | None, schema: Path | None, output: Path | None,
          chosen: Chosen, max_new_tokens: int, as_json: bool, keeping: Mapping[str, Any]) -> int:
    """Print the document, or write it, and give the exit code: 0, or 1 when the answer is none.

    Raises ArgumentError or OSError for whatever is wrong with the input, before the model is loaded
    where it can be known.
    """
    known = checked(form, schema)
    check_words([image])
    if output:
        check_place(output, reads=(image, schema))
    pixels = load_picture(image)
    with open_model(chosen) as vlm, working("looking at the picture") as say:
        inputs = vlm.prepare(conversation(pixels, form, question))
        tokens: list[int] = []
        for token in vlm.tokens(inputs, max_new_tokens, 0, **keeping):
            tokens.append(token)
            say(f"writing: {len(tokens)} tokens")
        answer, ended = vlm.tokenizer.decode(tokens), tokens[-1] in vlm.generation.eos_token_ids
        (seen,) = inputs.media
    say_which(chosen.model)
    assert seen.size and seen.source_size
    found = read_json(answer, seen.size, seen.source_size, known) if form == "json" \
        else read_page(answer, seen.size, seen.source_size)
    if not ended:
        found.notes.append(f"the answer has {len(tokens)} tokens and did not end there: "
                           "--max-new-tokens allows more")
    text = written(found, form)
    if as_json:
        print_json(facts(image, form, answer, found))
    elif text is not None and output is None:
        line(text.rstrip("\n"))
    if text is not None and output is not None and speaks(vlm):
        data = text.encode("utf-8", "replace")
        write_whole(output, lambda file: file.write(data))
        note(f"written to {output}")
    report(found, answer)
    return 1 if found.problems else 0


def checked(form: str, schema: Path | None) -> Any:
    """The schema, if there is one. Raises ArgumentError, MissingExtra or OSError."""
    if form not in FORMATS:
        raise ArgumentError(f"--format is {form!r}; it can be {', '.join(FORMATS)}")
    if schema is None:
        return None
    if form != "json":
        raise ArgumentError(f"--schema is for JSON, and --format is {form}; give --format json")
    known = parse_json(schema.read_bytes(), str(schema), ArgumentError)
    checker(known)
    return known


def conversation(pixels: Any, form: str, question: str | None) -> list[dict[str, Any]]:
    """What the model is asked: the words that official models were trained on, or the user's own."""
    asked = question or (LINES if form == "json" else PAGE)
    system = [{"role": "system", "content": SYSTEM}] if form != "json" and question is None else []
    return [*system, {"role": "user", "content": [{"type": "image", "image": pixels},
                                                  {"type": "text", "text": asked}]}]


def written(found: ReadDocument, form: str) -> str | None:
    """The document as a text; None where there is none."""
    if found.problems:
        return None
    if form == "json":
        return json.dumps(found.document, indent=1, ensure_ascii=False) + "\n"
    assert found.page is not None
    return markdown(found.page) if form == "markdown" else str(found.document)


def facts(image: str, form: str, answer: str, found: ReadDocument) -> dict[str, Any]:
    """What `--json` prints."""
    document = written(found, form) if form != "json" else found.document
    return {"image": named(image), "format": form, "valid": not found.problems,
            "problems": found.problems,
            "notes": found.notes, "document": document, "elements": found.elements, "answer": answer}


def report(found: ReadDocument, answer: str) -> None:
    """On stderr: what was mended, and why there is no document."""
    for words in found.notes:
        note(words)
    for words in found.problems:
        note(f"not what was asked for: {words}")
    if found.problems:
        said = " ".join(clean(answer).split())
        said = said[:300] + "..." * (len(said) > 300) or "(nothing)"
        note(f"nothing is written. The answer was: {said}  (--json has all of it)")
