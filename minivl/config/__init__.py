"""The model's dimensions, read from the official JSON files and checked.

    dimensions.py   the numbers, as frozen dataclasses        rules.py      what must hold of them, one row a rule
    read.py         from the files of a checkpoint's folder   official.py   the released sizes; JSON written
"""

from .dimensions import GenerationConfig, ModelConfig, PreprocessorConfig, TextConfig, VisionConfig
from .official import OFFICIAL, OFFICIAL_PICTURES, official_config, to_flat_json, to_nested_json
from .read import config_from, read_config, read_generation, read_preprocessor
from .rules import ConfigError

__all__ = ["OFFICIAL", "OFFICIAL_PICTURES", "ConfigError", "GenerationConfig", "ModelConfig",
           "PreprocessorConfig",
           "TextConfig", "VisionConfig", "config_from", "official_config", "read_config",
           "read_generation",
           "read_preprocessor", "to_flat_json", "to_nested_json"]
