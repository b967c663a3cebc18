"""The tables of docs/guide/long-contexts.md are what the command prints, and its sums hold."""

from pathlib import Path

from minivl.config import official_config
from tools.pages import long_contexts

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "long-contexts.md"


def test_the_tables_are_what_the_command_prints(capsys):
    long_contexts.main()
    text = PAGE.read_text(encoding="utf-8")
    for printed in capsys.readouterr().out.strip().split("\n\n"):
        assert printed in text


def test_bytes_of_a_token_are_the_known_ones():
    """Keys and values of each layer: in bf16 two bytes a number, in int8 one and four for each row
    and head."""
    for name, bf16 in {"3B": 36_864, "7B": 57_344, "72B": 327_680}.items():
        text = official_config(name).text
        assert long_contexts.cache_bytes(name, "bfloat16", 1000) == 1000 * bf16
        scales = 2 * text.num_hidden_layers * text.kv_heads * 4
        assert long_contexts.cache_bytes(name, "int8", 1000) == 1000 * (bf16 // 2 + scales)


def test_what_bytes_do_to_the_embedded_model_is_little():
    found = long_contexts.distances(None)
    assert len(found) == 5 and all(0 < apart < 0.01 for apart in found.values())
