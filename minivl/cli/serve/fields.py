"""The body of a request, checked field by field: every field is understood, or named in a refusal.

Not here: what the messages hold to look at (`pictures.py`). Read next: `app.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...door.errors import Error, brief
from ...door.files import parse_json
from .limits import LONGEST_STOP, MOST_STOPS, MOST_TOP, MOST_VALUES, ServerLimits
from .refused import Refused

UNDERSTOOD = ("messages", "model", "max_tokens", "max_completion_tokens", "temperature", "top_p",
              "top_k", "repetition_penalty", "seed", "stop", "stream", "stream_options", "logprobs",
              "top_logprobs")
# taken with the values that ask for nothing, refused with others
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "logit_bias": ({},),
    "store": (False,),
    "response_format": ({"type": "text"},), "modalities": (["text"],), "tools": ([],),
    "tool_choice": ("none", "auto"), "service_tier": ("auto", "default")}
NOTES = ("user", "metadata", "safety_identifier")               # say who asks; nothing depends on them
OF_A_MESSAGE = ("role", "content")


@dataclass(frozen=True)
class Wanted:
    """What a request asks for. temperature: None leaves the choice to the checkpoint, 0 is greedy. seed:
    None draws a new one. top: None without log-probabilities, else how many beside the chosen
    token's."""
    messages: list[dict[str, Any]]
    max_new_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    usage: bool = False
    top: int | None = None


def read(raw: bytes, model: str, limits: ServerLimits) -> Wanted:
    """The request in a body. model: the one that is served. Raises Refused."""
    if sum(raw.count(sign) for sign in b",:[{") > MOST_VALUES:
        raise Refused(f"the body has more than {MOST_VALUES:,} values; send a smaller one", 413,
                      code="too_many_values")
    try:
        given = parse_json(raw, "the body", limit=limits.body)
    except Error as error:
        raise Refused(str(error), code="invalid_json") from None
    given = {name: value for name, value in given.items() if value is not None}
    _check_names(given)
    _check_model(given, model)
    most = _length(given, limits)
    return Wanted(_messages(given), most,
                  _number(given, "temperature", 0, 2), _number(given, "top_p", 1e-6, 1),
                  _whole(given, "top_k", 0, 1 << 20), _number(given, "repetition_penalty", 1e-2, 1e2),
                  _whole(given, "seed", 0, (1 << 63) - 1), _stops(given), bool(_flag(given, "stream")),
                  _usage(given), _top(given))


def _check_names(given: Mapping[str, Any]) -> None:
    """Refuse a field that is not understood, and one that asks for what is not done."""
    for name, value in given.items():
        if name in NEUTRAL:
            if not any(value == one and isinstance(value, bool) == isinstance(one, bool)
                       for one in NEUTRAL[name]):
                allowed = " or ".join(json.dumps(one) for one in NEUTRAL[name])
                raise Refused(f"{name} is {brief(value)}, and this server knows {allowed} alone; leave "
                              "it out",
                              param=name, code="unsupported_value")
        elif name not in UNDERSTOOD and name not in NOTES:
            raise Refused(f"the field {brief(name)} is not supported; leave it out. Understood are "
                          f"{', '.join(UNDERSTOOD)}", param=name[:64], code="unsupported_parameter")


def _check_model(given: Mapping[str, Any], model: str) -> None:
    named = given.get("model", model)
    if named != model:
        raise Refused(f"model is {brief(named)}; this server has {model!r} alone", 404, "model",
                      "model_not_found")


def _messages(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Messages without what says nothing: null, and `developer`, the newer name of `system`. What they
    hold is checked by whoever prepares them."""
    messages = given.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused("messages must be a list of at least one message, each with role and content; "
                      f"found {'none' if messages is None else brief(messages)}", param="messages")
    return [_message(n, one) for n, one in enumerate(messages)]


def _message(n: int, message: Any) -> dict[str, Any]:
    where = f"messages[{n}]"
    if not isinstance(message, dict):
        raise Refused(f"{where} must be an object with role and content, found {brief(message)}",
                      param=where)
    kept = {key: value for key, value in message.items() if value is not None}
    if other := next((key for key in kept if key not in OF_A_MESSAGE), None):
        raise Refused(f"{where} has the key {brief(other)}, which the model would not be shown; leave "
                      "it out. A message has role and content", param=f"{where}.{other[:64]}",
                      code="unsupported_parameter")
    return {**kept, "role": "system"} if kept.get("role") == "developer" else kept


def _length(given: Mapping[str, Any], limits: ServerLimits) -> int:
    """How many tokens an answer may have; as many as are allowed where nothing is said."""
    names = [name for name in ("max_completion_tokens", "max_tokens") if name in given]
    values = [_whole(given, name, 1, limits.new_tokens) for name in names]
    if len(set(values)) > 1:
        raise Refused(f"max_tokens is {values[1]} and max_completion_tokens is {values[0]}: both say "
                      "how long the answer may be; give one", param="max_tokens")
    return values[0] if values and values[0] is not None else limits.new_tokens


def _stops(given: Mapping[str, Any]) -> tuple[str, ...]:
    stop = given.get("stop", [])
    stops = [stop] if isinstance(stop, str) else stop
    good = isinstance(stops, list) and len(stops) <= MOST_STOPS and all(
        isinstance(one, str) and 0 < len(one) <= LONGEST_STOP for one in stops)
    if not good:
        raise Refused(f"stop is {brief(stop)}; it must be a text, or at most {MOST_STOPS} of them, of 1 "
                      f"to {LONGEST_STOP} characters each", param="stop")
    return tuple(stops)


def _usage(given: Mapping[str, Any]) -> bool:
    """Whether a stream ends with a count of its tokens."""
    options = given.get("stream_options", {})
    known = isinstance(options, dict) and options.keys() <= {"include_usage"}
    if not known or not isinstance(options.get("include_usage", False), bool):
        raise Refused(f"stream_options is {brief(options)}; it must be an object that holds "
                      "include_usage, true or false, and nothing else", param="stream_options")
    if options and not given.get("stream"):
        raise Refused("stream_options is given without stream; say stream: true, or leave it out",
                      param="stream_options")
    return bool(options.get("include_usage"))


def _top(given: Mapping[str, Any]) -> int | None:
    wanted, top = _flag(given, "logprobs"), _whole(given, "top_logprobs", 0, MOST_TOP)
    if top and not wanted:
        raise Refused(f"top_logprobs is {top} without logprobs; say logprobs: true, or leave it out",
                      param="top_logprobs")
    return (top or 0) if wanted else None


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise Refused(f"{name} is {brief(value)}; it must be true or false", param=name)
    return value


def _whole(given: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Refused(f"{name} is {brief(value)}; it must be a whole number from {least} to {most}",
                      param=name)
    return value


def _number(given: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not least <= value <= most:
        raise Refused(f"{name} is {brief(value)}; it must be a number from {least:g} to {most:g}",
                      param=name)
    return float(value)
