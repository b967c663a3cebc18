"""The chat template of a checkpoint: where it is found, what it sees, and how its failures are told.

A template is a program from whoever made the checkpoint, in the language of jinja2. It sees plain
copies of the messages and runs within bounds.

Read next: `sandbox.py`, which runs it; `passes/prompt.py`, which has the format of messages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..door.files import MAX_JSON, read_text
from ..door.looks import kind_of
from .errors import TemplateError

SOURCE = 200_000                                      # characters of a template, at most

# What this family's template renders, for a checkpoint that came without one.
DEFAULT_TEMPLATE = """\
{%- set seen = namespace(pictures=0, videos=0) -%}
{%- if messages[0]['role'] != 'system' -%}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {{- '<|im_start|>' ~ message['role'] ~ '\\n' -}}
    {%- set content = message['content'] -%}
    {%- for item in ([{'text': content}] if content is string else content) -%}
        {%- if item['type'] == 'image' or 'image' in item or 'image_url' in item -%}
            {%- set seen.pictures = seen.pictures + 1 -%}
            {{- 'Picture ' ~ seen.pictures ~ ': ' if add_vision_id else '' -}}
            {{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
        {%- elif item['type'] == 'video' or 'video' in item -%}
            {%- set seen.videos = seen.videos + 1 -%}
            {{- 'Video ' ~ seen.videos ~ ': ' if add_vision_id else '' -}}
            {{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
        {%- else -%}
            {{- item['text'] -}}
        {%- endif -%}
    {%- endfor -%}
    {{- '<|im_end|>\\n' -}}
{%- endfor -%}
{{- '<|im_start|>assistant\\n' if add_generation_prompt else '' -}}
"""


def run(source: str | None, variables: Mapping[str, Any]) -> str:
    """Run a template, or the family's own for None, over plain copies of `variables`; the text it
    writes.

    Raises TemplateError, whatever went wrong in the template.
    """
    source = DEFAULT_TEMPLATE if source is None else source
    if len(source) > SOURCE:
        raise TemplateError(f"the chat template has {len(source):,} characters, more than {SOURCE:,}")
    from .sandbox import render  # jinja2 takes a while to import
    return render(source, {name: plain_copy(value) for name, value in variables.items()})


def plain_copy(value: Any) -> Any:
    """The same out of str, int, float, bool, None, list and dict; anything else becomes the name of
    its type.

    A picture must not reach a template: the sandbox would let it call `picture.save(...)`.
    """
    if value is None or type(value) in (str, int, float, bool):
        return value
    for base in (str, int, float):
        if isinstance(value, base):
            return base(value)
    if isinstance(value, Mapping):
        return {plain_copy(key): plain_copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_copy(item) for item in value]
    return f"<{type(value).__name__}>"


def load_template(folder: str | Path) -> str | None:
    """The chat template of a checkpoint folder, else None: of several, the one that the reference's
    processor takes.

    | the first of these that has one | who writes it |
    |---|---|
    | `processor_config.json` | early versions of transformers 4, for processors |
    | `chat_template.json` | transformers 4, for processors; Qwen's own folders |
    | `chat_template.jinja` | transformers 5; it leaves an older `chat_template.json` beside it alone |
    | `additional_chat_templates/default.jinja` | by hand: transformers 5 puts the others there |
    | `tokenizer_config.json` | transformers 4, for tokenizers; the processor itself does not look there |

    An empty template is none. Raises TemplateError when a file is damaged.
    """
    folder = Path(folder)
    readers = {"processor_config.json": _template_in, "chat_template.json": _template_in,
               "chat_template.jinja": _whole, "additional_chat_templates/default.jinja": _whole,
               "tokenizer_config.json": _template_in}
    return next(filter(None, (read(folder / name) for name, read in readers.items())), None)


def _whole(path: Path) -> str | None:
    """A file that is a template and nothing else."""
    text = _read(path)
    kind = text and kind_of(text.encode("utf-8", "replace"))
    if kind and not kind.startswith("JSON"):
        raise TemplateError(f"{path}: is {kind}")    # as a template, a pointer would be the whole prompt
    return text


def _template_in(path: Path) -> str | None:
    text = _read(path)
    try:
        template = None if text is None else json.loads(text).get("chat_template")
    except (ValueError, AttributeError, RecursionError) as error:
        kind = kind_of((text or "").encode("utf-8", "replace"))
        raise TemplateError(f"{path}: is not a JSON object: {kind or error}") from error
    if isinstance(template, list):                 # several, by name; the one for chat is called default
        named = {item.get("name"): item.get("template") for item in template if isinstance(item, dict)}
        template = named.get("default", named)
    if template is not None and not isinstance(template, str):
        raise TemplateError(f"{path}: chat_template should be a text, or a list with one named 'default'")
    return template


def _read(path: Path) -> str | None:
    return read_text(path, MAX_JSON, TemplateError) if path.exists() else None
