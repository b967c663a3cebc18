"""The names that lessons and documents give to things of the reference are names that it has.

A lesson ends with a table of what the reference calls these things. Every name in the column of the reference must
stand in the source of the release that is installed: in the model's own files, or in those that it is built on. A
class of the family, `Qwen2...`, must do so wherever a text names it.
"""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("lesson_*.py"))
FILES = ("models/qwen2_5_vl/*.py", "models/qwen2_vl/*process*.py", "models/qwen2/tokenization*.py", "vision_utils.py",
         "generation/*.py", "cache_utils.py", "modeling_utils.py", "modeling_rope_utils.py", "configuration_utils.py",
         "processing_utils.py", "image_utils.py", "image_transforms.py", "image_processing_*.py", "masking_utils.py",
         "tokenization_utils*.py", "convert_slow_tokenizer.py", "loss/*.py", "trainer.py", "modeling_outputs.py",
         "video_utils.py", "video_processing_utils.py", "utils/chat_template_utils.py", "models/auto/*.py",
         "modeling_flash_attention_utils.py", "integrations/sdpa_attention.py")
# names of other packages, of files and of answers, which stand in the same columns
OTHERS = {
    "torch": {"nn", "functional", "Embedding", "cross_entropy", "finfo", "eps", "max", "float", "backward", "grad",
              "parameter", "step", "optimizer", "allclose", "register_forward_hook", "state_dict", "Conv3d",
              "bfloat16", "ColwiseParallel", "RowwiseParallel"},
    "trl": {"SFTTrainer", "DPOTrainer", "assistant_only_loss", "ref_model", "beta", "chosen", "rejected"},
    "qwen-vl-utils": {"qwen_vl_utils"},
    "the chat template": {"Picture", "add_vision_id"},
    "answers of the model": {"bbox_2d", "point_2d", "x1", "y1", "x2", "y2"},
    "tokenizer.json": {"json", "merges", "Split", "ByteLevel"},
    "minivl and its formulas": {"minivl", "truth", "trace", "torch_recorder", "py", "faults", "incidents"},
    "CUDA's tools and instructions": {"sanitizer", "memcheck", "racecheck", "initcheck", "synccheck", "mma", "wgmma"},
    "MPI": {"MPI_Allreduce"},
    "Megatron-LM and vLLM": {"VocabParallelEmbedding", "tensor_parallel_size", "pipeline_parallel_size"},
    "LLVM": {"opt", "bisect", "limit"},
}


@cache
def names() -> frozenset[str]:
    """Every word in the files of the reference that matter here."""
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        pytest.skip("transformers is not installed")
    files = [path for pattern in FILES for path in Path(spec.origin).parent.glob(pattern)]
    assert len(files) > 40
    return frozenset(word for path in files for word in re.findall(r"\w+", path.read_text(encoding="utf-8")))


def strange(text: str) -> list[str]:
    """Names in backticks that neither the reference nor another package has."""
    known = names().union(*OTHERS.values())
    return sorted({word for span in re.findall(r"`([^`]+)`", text) for word in re.findall(r"[A-Za-z_]\w+", span)
                   if word not in known})


def column(source: str) -> str:
    """What stands in the reference's column of a lesson's table."""
    table = source.partition("What the reference calls")[2].partition("## Read next")[0].replace(r"\|", "")
    rows = [line.split("|") for line in table.splitlines() if line.count("|") == 3]
    assert len(rows) > 3
    return "\n".join(row[2] for row in rows[2:])


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem[:9])
def test_a_lesson_names_what_the_reference_has(path):
    assert strange(column(path.read_text(encoding="utf-8"))) == []


def test_a_class_of_the_family_is_there_wherever_it_is_named():
    texts = [*LESSONS, *(ROOT / "docs").rglob("*.md"), *(ROOT / "minivl").rglob("*.py"), ROOT / "README.md"]
    named = {(word, path.name) for path in texts
             for word in re.findall(r"`[^`\n]*?(Qwen2\w+)[^`\n]*`", path.read_text(encoding="utf-8"))}
    assert len(named) > 10
    assert sorted(pair for pair in named if pair[0] not in names()) == []


def test_a_name_of_an_older_release_is_found():
    assert strange("| `rot_pos_emb`, with `Qwen2_5_VLVisionRotaryEmbedding` |") == ["rot_pos_emb"]
    assert strange("`get_window_index` and `get_vision_window_index`") == ["get_window_index"]
