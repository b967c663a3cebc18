"""The model's dimensions, as frozen dataclasses with the official field names.

Nothing is checked here. Read next: `rules.py` (what must hold), `read.py` (which fills them from the
JSON files).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class VisionConfig:
    """The vision tower. Widths are numbers of values, `window_size` is in pixels, blocks count from
    0."""
    depth: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    in_channels: int
    patch_size: int
    temporal_patch_size: int
    spatial_merge_size: int
    window_size: int
    fullatt_block_indexes: tuple[int, ...]
    tokens_per_second: int
    out_hidden_size: int
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    hidden_act: str = "silu"
    head_dim: int = 0            # width of one head; 0: hidden_size / num_heads, as every release has it

    def __post_init__(self) -> None:
        _fill_head_dim(self, self.num_heads)

    @property
    def heads(self) -> int:
        return self.num_heads

    @property
    def kv_heads(self) -> int:
        return self.num_heads

    @property
    def window_cells(self) -> int:
        """Merged cells along a window's side: `window_size` is in pixels, a cell is 28 of them."""
        return self.window_size // self.patch_size // self.spatial_merge_size

    @property
    def patch_values(self) -> int:
        """Values of one patch: 3 colours x 2 frames x 14 x 14 = 1176."""
        return self.in_channels * self.temporal_patch_size * self.patch_size ** 2


@dataclass(frozen=True)
class Yarn:
    """Rotary angles stretched for contexts longer than the trained one (YaRN: Peng et al., 2023), as
    `rope_scaling` of type "yarn" says it.

    factor: how many times as long. Frequencies that turn at least `beta_fast` times within the
        trained length stay, those that turn at most `beta_slow` times are divided by the factor,
        and between them lies a ramp.
    """
    factor: float
    original_max_position_embeddings: int      # the trained length
    attention_factor: float | None = None      # of cosine and sine; None: by the rule
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True                      # the ramp's ends are whole numbers

    @property
    def attention(self) -> float:
        """What cosine and sine are multiplied by, so that scores grow by its square: 0.1 ln(factor)
        + 1."""
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return self._scale(self.mscale) / self._scale(self.mscale_all_dim)
        return self._scale(1.0)

    def _scale(self, by: float) -> float:
        return 0.1 * by * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0


@dataclass(frozen=True)
class TextConfig:
    """The decoder. `mrope_section` counts rotary angles (half a head's width) of time, row and
    column."""
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    mrope_section: tuple[int, ...]
    max_position_embeddings: int
    hidden_act: str = "silu"
    head_dim: int = 0                   # width of one head; 0: hidden_size / num_attention_heads
    yarn: Yarn | None = None            # for contexts beyond the trained length

    def __post_init__(self) -> None:
        _fill_head_dim(self, self.num_attention_heads)

    @property
    def heads(self) -> int:
        return self.num_attention_heads

    @property
    def kv_heads(self) -> int:
        return self.num_key_value_heads


def _fill_head_dim(config: VisionConfig | TextConfig, heads: int) -> None:
    """A width that was left out. It is a field of its own, since a rank's share has fewer heads of the
    same width."""
    if not config.head_dim and heads > 0:
        object.__setattr__(config, "head_dim", config.hidden_size // heads)


@dataclass(frozen=True)
class ModelConfig:
    """The whole model: both parts and the ids of the tokens that stand for pictures."""
    vision: VisionConfig
    text: TextConfig
    tie_word_embeddings: bool
    image_token_id: int
    video_token_id: int
    vision_start_token_id: int
    vision_end_token_id: int
    bos_token_id: int | None
    eos_token_id: int | tuple[int, ...]


@dataclass(frozen=True)
class PreprocessorConfig:
    """From pixels to patches. `min_pixels` and `max_pixels` are areas of the resized picture."""
    min_pixels: int
    max_pixels: int
    patch_size: int
    temporal_patch_size: int
    merge_size: int
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    rescale_factor: float = 1 / 255
    source: str = field(default="", compare=False)         # where the two limits come from, for messages

    @property
    def factor(self) -> int:
        """Both sides of a resized picture are multiples of this many pixels (28)."""
        return self.patch_size * self.merge_size

    def for_frames(self, count: int) -> PreprocessorConfig:
        """The settings of each of `count` frames; nothing shares a budget unless it says so."""
        return self


@dataclass(frozen=True)
class VideoConfig(PreprocessorConfig):
    """The same for frames of a video, where the reference keeps settings of their own."""
    cap_pixels_per_frame: bool = False       # all frames share nine tenths of `max_video_tokens`
    max_video_tokens: int = 128_000

    def for_frames(self, count: int) -> PreprocessorConfig:
        """The limits of one frame of `count`, as the reference caps them: each has an even share of the
        budget, but no less than 1.05 times the smallest area."""
        if not self.cap_pixels_per_frame:
            return self
        budget = int(self.max_video_tokens * self.factor * self.factor * 0.9)
        share = budget * self.temporal_patch_size // count
        return replace(self, max_pixels=max(min(self.max_pixels, share), int(self.min_pixels * 1.05)))


@dataclass(frozen=True)
class GenerationConfig:
    """How the next token is chosen; what the file leaves out has the reference's default."""
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
    refused: tuple[tuple[str, str], ...] = ()     # keys of the file that cannot be used, and why
