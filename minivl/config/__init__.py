"""The model's dimensions, read from the official JSON files and checked.

    dimensions.py   the numbers, as frozen dataclasses     rules.py       what must hold, one row a rule
    read.py         from config.json                       official.py    released sizes; JSON written
    pictures.py     how pictures and videos are prepared   generation.py  how the next token is chosen
"""

from .dimensions import (
    GenerationConfig,
    ModelConfig,
    PreprocessorConfig,
    TextConfig,
    VideoConfig,
    VisionConfig,
    Yarn,
)
from .generation import check_keys, check_used, generation_from, read_generation
from .official import OFFICIAL, OFFICIAL_PICTURES, official_config, to_flat_json, to_nested_json
from .pictures import preprocessor_from, read_preprocessor, read_video_preprocessor
from .read import config_from, read_config
from .rules import ConfigError

__all__ = ["OFFICIAL", "OFFICIAL_PICTURES", "ConfigError", "GenerationConfig",
           "ModelConfig", "PreprocessorConfig", "TextConfig", "VideoConfig", "VisionConfig", "Yarn",
           "check_keys", "check_used", "config_from", "generation_from", "official_config",
           "preprocessor_from", "read_config", "read_generation", "read_preprocessor",
           "read_video_preprocessor", "to_flat_json", "to_nested_json"]
