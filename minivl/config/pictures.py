"""Settings of pictures and of videos, and which file decides about them.

A folder may hold them in up to three files. One place decides, whole: nothing is mixed from two files,
and what it leaves out has the default of the reference's class, not that of the releases' file. The rule
is the reference's:

    pictures   processor_config.json, its image_processor
               else preprocessor_config.json
    videos     processor_config.json, its video_processor
               else video_preprocessor_config.json
               else preprocessor_config.json

Where a place that does not decide says another number, a warning names both. Where no place says anything,
as fine-tunes are often uploaded, the releases' own values stand in, and a warning says so. Read next:
`passes/picture.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..door.errors import brief
from ..door.files import read_json
from .dimensions import ModelConfig, PreprocessorConfig, VideoConfig
from .official import OFFICIAL_PICTURES
from .read import read_config
from .rules import (
    CROSSING,
    FIXED_PREPROCESSOR,
    PREPROCESSOR_RULES,
    ConfigError,
    check,
    check_fixed,
    fill,
    section,
)

S = TypeVar("S", bound=PreprocessorConfig)
PROCESSOR, PICTURES, VIDEOS = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)
IMAGE_PLACES = ((PROCESSOR, "image_processor"), (PICTURES, ""))
VIDEO_PLACES = ((PROCESSOR, "video_processor"), (VIDEOS, ""), (PICTURES, ""))

SHARED = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_convert_rgb": True,
    "resample": 3,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "rescale_factor": 1 / 255,
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}
# areas of the reference's classes: 4 to 1280 tokens a picture, 128 to 768 a frame
IMAGE_DEFAULTS = {**SHARED, "min_pixels": 4 * 28**2, "max_pixels": 1280 * 28**2}
VIDEO_DEFAULTS = {
    **SHARED,
    "min_pixels": 128 * 28**2,
    "max_pixels": 768 * 28**2,
    "cap_pixels_per_frame": False,
    "max_video_tokens": 128_000,
}
LIMITS = ("min_pixels", "max_pixels")


class Source(NamedTuple):
    """One place's settings, limits under their older names, and what to call the place."""

    place: str
    values: dict[str, Any]


def read_preprocessor(folder: str | Path, config: ModelConfig | None = None) -> PreprocessorConfig:
    """Settings for pictures, checked against the model's configuration, which is read from the same
    folder when it is not given. `.source` names the file that gave the limits.

    Raises ConfigError when one is wrong. When no file says them they are the releases', with a warning.
    """
    folder = Path(folder)
    found = _places(folder, IMAGE_PLACES) or _releases(
        folder, "pictures", f"{PICTURES} nor {PROCESSOR} with an image_processor"
    )
    _say_disagreement(folder, "pictures", found)
    return _settings(PreprocessorConfig, folder, found[0], IMAGE_DEFAULTS, config)


def preprocessor_from(values: Mapping[str, Any], where: Path, config: ModelConfig) -> PreprocessorConfig:
    """The same of the object of a preprocessor_config.json, which errors call `where`."""
    found = Source(where.name, _named(values, str(where)))
    return _settings(PreprocessorConfig, where.parent, found, IMAGE_DEFAULTS, config)


def read_video_preprocessor(folder: str | Path, config: ModelConfig | None = None) -> VideoConfig:
    """The same for frames of videos. Raises as `read_preprocessor` does."""
    folder = Path(folder)
    found = _places(folder, VIDEO_PLACES)
    if not found and _places(folder, IMAGE_PLACES):  # else it is said already, of pictures
        found = _releases(folder, "videos", f"{VIDEOS}, {PICTURES} nor a video_processor in {PROCESSOR}")
    found = found or [RELEASES]
    if len(found) > 1 and found[-1].place == PICTURES:
        found = found[:-1]  # it speaks of pictures, and of videos only when nothing else does
    _say_disagreement(folder, "videos", found)
    values = found[0].values
    if values.get("do_sample_frames") and (values.get("fps") or values.get("num_frames")):
        raise ConfigError(
            f"{folder / found[0].place}: do_sample_frames = true: frames are not chosen by this file "
            "here; set it to false and give the item of the video raw_fps and fps, or nframes"
        )
    return _settings(VideoConfig, folder, found[0], VIDEO_DEFAULTS, config)


RELEASES = Source(
    "the releases' own settings",
    {"min_pixels": OFFICIAL_PICTURES.min_pixels, "max_pixels": OFFICIAL_PICTURES.max_pixels},
)


def _releases(folder: Path, what: str, missing: str) -> list[Source]:
    """What every release says, for a folder that says nothing of `what`."""
    warnings.warn(
        f"{folder} has neither {missing}: {what} are prepared with the releases' own values "
        f"({RELEASES.values['min_pixels']:,} to {RELEASES.values['max_pixels']:,} pixels); if the model was trained "
        "with others, copy the file from there",
        stacklevel=4,
    )
    return [RELEASES]


def _places(folder: Path, places: tuple[tuple[str, str], ...]) -> list[Source]:
    """Every place that says something, the one that decides first."""
    found = []
    for name, part in places:
        path = folder / name
        if not path.exists():
            continue
        values = read_json(path, ConfigError)
        place = f"{name}, {part}" if part else name
        if part and values.get(part) is None:
            continue
        values = section(values, part, str(path)) if part else values
        found.append(Source(place, _named(values, f"{folder / place}")))
    return found


def _named(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The same with the limits under the names min_pixels and max_pixels, which win over `size`; that
    gives *areas* under names that say edge, both of them or none."""
    size = section(values, "size", where)
    given = {key: values.get(key) for key in LIMITS}
    if values.get("size") is not None:
        for key, edge in zip(LIMITS, ("shortest_edge", "longest_edge"), strict=True):
            given[key] = size.get(edge) if given[key] is None else given[key]
        if None in given.values():
            raise ConfigError(
                f"{where}: size = {brief(size)}: should have both shortest_edge and "
                "longest_edge, the least and the largest area in pixels (min_pixels, max_pixels)"
            )
    rest = {key: value for key, value in values.items() if key not in (*LIMITS, "size")}
    return rest | {key: _whole(value) for key, value in given.items() if value is not None}


def _whole(value: Any) -> Any:
    """An area that was written as 12845056.0 is the integer; what else it may be is checked later."""
    return int(value) if type(value) is float and value.is_integer() and abs(value) < 1 << 53 else value


def _settings(
    kind: type[S], folder: Path, found: Source, defaults: Mapping[str, Any], config: ModelConfig | None
) -> S:
    where = str(folder / found.place)
    check_fixed({**defaults, **found.values}, FIXED_PREPROCESSOR, where)
    said = {key: _three(key, value) for key, value in found.values.items() if value is not None}
    settings = fill(kind, {**defaults, **said, "source": _source(found)}, where)
    # a limit that crosses the other's default is obeyed, as in the reference: nobody contradicts himself
    crossing = all(key in said for key in LIMITS)
    check(settings, [rule for rule in PREPROCESSOR_RULES if crossing or rule is not CROSSING], where)
    vision = (config or read_config(folder)).vision
    for key, theirs in (
        ("patch_size", "patch_size"),
        ("temporal_patch_size", "temporal_patch_size"),
        ("merge_size", "spatial_merge_size"),
    ):
        if getattr(settings, key) != getattr(vision, theirs):
            raise ConfigError(
                f"{where}: {key} = {getattr(settings, key)}: should be {theirs} of "
                f"config.json's vision_config, {getattr(vision, theirs)}"
            )
    return settings


def _three(key: str, value: Any) -> Any:
    """One number for all three colours is three of them."""
    return (value,) * 3 if key in ("image_mean", "image_std") and type(value) in (int, float) else value


def _source(found: Source) -> str:
    """Where the limits come from."""
    silent = [key for key in LIMITS if key not in found.values]
    return found.place + (
        f"; {' and '.join(silent)}: the reference's default, as the file has none" if silent else ""
    )


def _say_disagreement(folder: Path, what: str, found: list[Source]) -> None:
    first, *others = found
    for other in others:
        apart = [
            f"{key} {brief(first.values[key])}, not {brief(other.values[key])}"
            for key in (*LIMITS, *SHARED)
            if key in first.values
            and key in other.values
            and not _same(first.values[key], other.values[key])
        ]
        if apart:
            warnings.warn(
                f"{folder}: {first.place} decides about {what} "
                f"({'; '.join(apart)} as in {other.place}), "
                "which is the reference's rule",
                stacklevel=4,
            )


def _same(a: Any, b: Any) -> bool:
    return (
        list(a) == list(b)
        if isinstance(a, list | tuple) and isinstance(b, list | tuple)
        else bool(a == b)
    )
