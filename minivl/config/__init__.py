"""The model's dimensions, read from the official JSON files and checked. Start with `read.py`."""

from .read import (
    MAX_JSON,
    OFFICIAL,
    OFFICIAL_PICTURES,
    ConfigError,
    GenerationConfig,
    ModelConfig,
    PreprocessorConfig,
    TextConfig,
    VisionConfig,
    check_regular,
    config_from,
    official_config,
    parse_json,
    read_config,
    read_generation,
    read_json,
    read_preprocessor,
    read_text,
    to_flat_json,
    to_nested_json,
)

__all__ = ["MAX_JSON", "OFFICIAL", "OFFICIAL_PICTURES", "ConfigError", "GenerationConfig", "ModelConfig",
"PreprocessorConfig", "TextConfig", "VisionConfig", "check_regular", "config_from", "official_config", "parse_json",
"read_config", "read_generation", "read_json", "read_preprocessor", "read_text", "to_flat_json", "to_nested_json"]
