"""`generation_config.json`: how the next token is chosen, as far as the file says.

A value is checked when a way of decoding uses it, not before: greedy with temperature 0.0 is what people
save, and neither weights nor scores depend on this file. Reading it raises nothing; `check_used` does.

Read next: `run/generation.py`, which chooses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..door.errors import brief
from ..door.files import read_json
from .dimensions import GenerationConfig, ModelConfig
from .rules import (
    FIXED_GENERATION,
    FIXED_SAMPLING,
    GENERATION_RULES,
    ConfigError,
    Fixed,
    as_tuple,
    is_allowed,
    typed,
)

DEFAULTS: dict[str, Any] = {
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "repetition_penalty": 1.0,
}
TYPES = {
    "do_sample": "bool",
    "temperature": "float",
    "top_k": "int",
    "top_p": "float",
    "repetition_penalty": "float",
}
WHOLE = "the file"  # stands for a file that cannot be read at all


def read_generation(folder: str | Path, config: ModelConfig) -> GenerationConfig:
    """`generation_config.json`; without the file, or for keys it leaves out, the reference's defaults,
    with the end tokens of `config`; padding is the first end token unless said.

    Raises nothing: what cannot be used stands in `.refused` and is raised by `check_used`.
    """
    path = Path(folder) / "generation_config.json"
    try:
        values = read_json(path, ConfigError) if path.exists() else {}
    except ConfigError as error:
        return _from({}, config, str(path), {WHOLE: str(error)})
    return generation_from(values, config, str(path))


def generation_from(values: Mapping[str, Any], config: ModelConfig, where: str) -> GenerationConfig:
    """The same of the object of such a file, which errors call `where`."""
    return _from({key: value for key, value in values.items() if value is not None}, config, where, {})


def _from(
    values: Mapping[str, Any], config: ModelConfig, where: str, refused: dict[str, str]
) -> GenerationConfig:
    used = dict(DEFAULTS)
    for key, annotation in TYPES.items():
        try:
            used[key] = _checked(key, typed(annotation, values.get(key, used[key]), where, key), where)
        except ConfigError as error:
            refused[key] = str(error)
    for row in (*FIXED_GENERATION, *FIXED_SAMPLING):
        if row.key in values and not is_allowed(values[row.key], row.allowed):
            refused[row.key] = f"{where}: {row.key} = {brief(values[row.key])}: {row.words}"
    ends = _ends(values, config, where, refused)
    padding = values.get("pad_token_id")  # nothing is padded here, so no value does harm
    return GenerationConfig(
        **used,
        eos_token_ids=ends,
        refused=tuple(refused.items()),
        pad_token_id=padding if type(padding) is int else ends[0],
    )


def _checked(key: str, value: Any, where: str) -> Any:
    for row in GENERATION_RULES:
        if row.key == key and not row.holds(value):
            raise ConfigError(f"{where}: {key} = {brief(value)}: {row.words}")
    return value


def _ends(
    values: Mapping[str, Any], config: ModelConfig, where: str, refused: dict[str, str]
) -> tuple[int, ...]:
    """The end tokens that the file names, or the model's."""
    key, size = "eos_token_id", config.text.vocab_size
    own = as_tuple(config.eos_token_id)
    try:
        ends = as_tuple(typed("int | tuple[int, ...]", values.get(key, own), where, key))
    except ConfigError as error:
        refused[key] = str(error)
        return own
    if ends and all(0 <= token < size for token in ends):
        return ends
    refused[key] = (
        f"{where}: {key} = {brief(values[key])}: should name at least one token, each 0 to "
        f"{size - 1}, as config.json has it"
    )
    return own


def check_used(generation: GenerationConfig, do_sample: bool, given: Iterable[str] = ()) -> None:
    """Raise ConfigError for a value of the file that this way of decoding uses and cannot; `given` are
    the keys for which the caller says something else."""

    def keys(rows: list[Fixed]) -> list[str]:
        return [row.key for row in rows]

    used = [WHOLE, "repetition_penalty", "eos_token_id", *keys(FIXED_GENERATION)]
    if do_sample:
        used += ["temperature", "top_k", "top_p", *keys(FIXED_SAMPLING)]
    check_keys(generation, [key for key in used if key not in set(given)])


def check_keys(generation: GenerationConfig, keys: Iterable[str]) -> None:
    """Raise ConfigError when one of these values of the file cannot be used."""
    refused = dict(generation.refused)
    for key in keys:
        if key in refused:
            raise ConfigError(refused[key])
