"""A checkpoint by its name on the hub, from a server on the loopback that speaks its protocol, with its accidents."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minivl
from minivl.api import TINY, find
from minivl.checkpoint import hub as ours
from minivl.checkpoint.hub import HubError
from minivl.checkpoint.weight import CheckpointError
from minivl.config import ConfigError

huggingface_hub = pytest.importorskip("huggingface_hub")
from .hub_server import Hub, files_of  # noqa: E402

NAME = "qwen/tiny-vl"
NOT_READ = {"README.md": b"words", "modeling_tiny.py": b"raise SystemExit", "pytorch_model.bin": b"pickle" * 99,
            "onnx/model.onnx": b"0" * 99, "training.json": b"{}"}


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> dict[str, bytes]:
    """The embedded model in three shards, with what else stands in such a repository."""
    import ml_dtypes  # noqa: F401 - NumPy then knows bfloat16
    from safetensors.numpy import load_file, save
    tensors, files = load_file(TINY / "model.safetensors"), dict(files_of(TINY))
    del files["model.safetensors"]
    names, places = sorted(tensors), {}
    for n in range(3):
        shard = f"model-{n + 1:05}-of-00003.safetensors"
        files[shard] = save({name: tensors[name] for name in names[n::3]})
        places |= dict.fromkeys(names[n::3], shard)
    files["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": places}).encode()
    return files | NOT_READ


@pytest.fixture
def hub(monkeypatch, tmp_path):
    constants = importlib.import_module("huggingface_hub.constants")
    with Hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE",
                            server.url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        yield server


def down(hub, monkeypatch) -> None:
    """From now on nobody answers."""
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE",
                        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}")


def test_a_name_is_loaded_with_what_is_read_and_nothing_else(hub, shards):
    commit = hub.publish(NAME, shards)
    with minivl.load(NAME) as vlm:
        assert vlm.folder.name == commit
        inputs = minivl.load().prepare([{"role": "user", "content": "Which?"}])
        assert np.array_equal(vlm.logits(inputs), minivl.load().logits(inputs))
    fetched = set(hub.downloads())
    assert fetched.isdisjoint({name.rpartition("/")[2] for name in NOT_READ})
    assert len(fetched) == len(shards) - len(NOT_READ)
    before = len(hub.downloads())
    find(NAME)
    assert len(hub.downloads()) == before                             # a second time nothing comes


def test_one_file_of_weights(hub):
    hub.publish(NAME, dict(files_of(TINY)))
    assert (find(NAME) / "model.safetensors").stat().st_size == (TINY / "model.safetensors").stat().st_size


def test_what_prepares_a_prompt_comes_without_the_weights(hub, shards):
    hub.publish(NAME, shards)
    folder = find(NAME, weights=False)
    assert (folder / "tokenizer.json").exists() and not list(folder.glob("*.safetensors"))
    find(NAME)
    assert len(list(folder.glob("*.safetensors"))) == 3


def test_a_shard_that_breaks_off_is_gone_on_with(hub, shards, monkeypatch):
    hub.publish(NAME, shards)
    shard = "model-00002-of-00003.safetensors"
    hub.broken[shard] = 2
    monkeypatch.setattr(importlib.import_module("huggingface_hub.constants"), "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    folder = find(NAME)
    assert (folder / shard).read_bytes() == shards[shard]
    starts = [span for method, path, span in hub.asked if method == "GET" and path.endswith(shard) and "/cdn/" in path]
    assert any(span and not span.startswith("bytes=0-") for span in starts), starts


def test_a_file_that_is_not_what_the_hub_lists_is_thrown_away(hub, shards):
    hub.publish(NAME, shards)
    shard = "model-00003-of-00003.safetensors"
    hub.lies[shard] = shards[shard][:-1] + bytes([shards[shard][-1] ^ 1])
    with pytest.raises(CheckpointError, match=r"00003.*damaged on the way"):
        minivl.load(NAME)
    assert not any(ours.cached(NAME).glob(shard))
    del hub.lies[shard]
    with minivl.load(NAME):
        pass
    hub.publish(NAME, shards | {"tokenizer.json": shards["tokenizer.json"] + b" "})
    hub.lies["tokenizer.json"] = shards["tokenizer.json"] + b"\n"          # a small file, by git's hash
    with pytest.raises(CheckpointError, match=r"tokenizer\.json came with the hash"):
        find(NAME)


@pytest.mark.parametrize("moment", ["generation_config.json", "config.json"])
def test_a_branch_that_moves_during_a_download_mixes_nothing(hub, shards, moment):
    first = hub.publish(NAME, shards)
    newer = {**shards, "tokenizer.json": b"{}", "generation_config.json": b"{}"}
    hub.when_asked[moment] = lambda: hub.publish(NAME, newer)
    folder = find(NAME)
    if moment == "config.json":
        assert folder.name == hub.refs[NAME, "main"] and (folder / "tokenizer.json").read_bytes() == b"{}"
        return
    assert folder.name == first and (folder / "tokenizer.json").read_bytes() == shards["tokenizer.json"]
    assert find(NAME).name == hub.refs[NAME, "main"] != first           # the next time it is followed
    assert find(NAME, first).name == find(f"{NAME}@{first}").name == first


def test_branches_and_revisions_that_are_not_there(hub, shards):
    other = hub.publish(NAME, {**shards, "generation_config.json": b'{"top_k": 3}'}, "dev")
    hub.publish(NAME, shards)
    assert find(f"{NAME}@dev").name == other and minivl.load(NAME, revision="dev").generation.top_k == 3
    with pytest.raises(HubError, match="has no revision 'nightly'"):
        find(f"{NAME}@nightly")
    with pytest.raises(minivl.Error, match="is on this disk"):
        find(TINY, "main")


@pytest.mark.parametrize("status, code, words", [
    (403, "GatedRepo", "gated: accept its terms"), (401, "RepoNotFound", "private"), (403, "", "refuses"),
    (404, "RepoNotFound", "neither a folder nor")])
def test_what_the_hub_refuses(hub, shards, status, code, words):
    hub.publish(NAME, shards)
    hub.refused[NAME] = status, code
    with pytest.raises(HubError, match=words):
        minivl.load(NAME)


def test_another_architecture_is_refused_before_its_weights_come(hub, shards):
    config = json.loads(shards["config.json"]) | {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    hub.publish(NAME, {**shards, "config.json": json.dumps(config).encode()})
    with pytest.raises(ConfigError, match=r"'llama'.*Nothing else was downloaded"):
        minivl.load(NAME)
    assert hub.downloads() == ["config.json"]
    hub.publish(NAME, {"README.md": b""})
    with pytest.raises(HubError, match=r"has no config\.json"):
        minivl.load(NAME)


@pytest.mark.parametrize("files, words", [
    ({"model.gguf": b"GGUF"}, r"model\.gguf; .*hf download .* FOLDER\)"),
    ({"pytorch_model.bin": b""}, "safetensors"), ({}, "no weights")])
def test_weights_of_another_kind_are_named_and_not_downloaded(hub, files, words):
    hub.publish(NAME, {"config.json": (TINY / "config.json").read_bytes(), **files})
    with pytest.raises(CheckpointError, match=words):
        minivl.load(NAME)
    assert hub.downloads() == ["config.json"]


def test_a_repository_of_gguf_files_says_how_to_have_one(hub):
    hub.publish(NAME, {"model-Q4_K_M.gguf": b"GGUF", "mmproj-F16.gguf": b"GGUF", "README.md": b"files of llama.cpp"})
    with pytest.raises(CheckpointError, match=rf"but model-Q4_K_M.gguf, mmproj-F16.gguf; .*hf download {NAME} FILE"):
        minivl.load(NAME)
    assert hub.downloads() == []


@pytest.mark.parametrize("shard", ["../../../etc/passwd", "a/b.safetensors", "x.bin", "model-9.safetensors"])
def test_an_index_names_no_file_elsewhere(hub, shards, shard):
    index = json.dumps({"weight_map": {"lm_head.weight": shard}}).encode()
    hub.publish(NAME, {**shards, "model.safetensors.index.json": index})
    with pytest.raises(CheckpointError, match="names"):
        minivl.load(NAME)


def test_a_disk_without_room_is_told_before(hub, shards, monkeypatch):
    hub.publish(NAME, shards)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))           # type: ignore
    with pytest.raises(HubError, match="GB are still to be downloaded"):
        minivl.load(NAME)
    assert not any(name.endswith("safetensors") for name in hub.downloads())


# ---- without the hub -------------------------------------------------------------------------------------------------

def test_without_a_network_the_cache_is_used_and_told(hub, shards, monkeypatch):
    commit = hub.publish(NAME, shards)
    folder = find(NAME)
    down(hub, monkeypatch)
    with pytest.warns(UserWarning, match="what is in the cache is used"):
        assert find(NAME) == folder and folder.name == commit
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(HubError, match=r"not whole: model-00002-of-00003\.safetensors is missing"):
        find(NAME)
    with pytest.warns(UserWarning):
        assert find(NAME, weights=False) == folder
    with pytest.raises(HubError, match="cannot be asked.*Connect"):
        find("qwen/another")


def test_a_server_in_trouble_is_no_answer(hub, shards, monkeypatch):
    hub.publish(NAME, shards)
    hub.refused[NAME] = 500, ""
    with pytest.raises(HubError, match="cannot be asked"):
        find(NAME)


def test_without_the_package_the_cache_is_read(hub, shards, monkeypatch):
    hub.publish(NAME, shards)
    folder = find(NAME)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert find(NAME) == folder and find(f"{NAME}@{folder.name[:8]}") == folder
    with pytest.raises(minivl.Error, match=r'pip install "minivl\[hub\]"'):
        find("qwen/another")


def test_what_is_no_name_is_no_folder_either():
    for word in ("not a folder", "a/b/c", "./models/tiny", "/nowhere/at-all", ""):
        with pytest.raises(minivl.Error, match="is not a folder|folder"):
            minivl.load(word or "/")
    assert ours.is_name("Qwen/Qwen2.5-VL-3B-Instruct@main") and not ours.is_name("../x") and not ours.is_name("a/../b")


def test_settings_of_the_environment_are_the_packages_own(hub, shards, tmp_path):
    """HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE in a process of its own."""
    commit = hub.publish(NAME, shards)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | {
        "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_abc"}
    code = f"from minivl.api import find; print(find({NAME!r}).name)"

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], env=environment | more, capture_output=True, text=True)
    first = run()
    assert first.stdout.strip() == commit, first.stderr
    assert (tmp_path / "home" / "hub" / "models--qwen--tiny-vl").is_dir() and "Bearer hf_abc" in hub.tokens
    asked = len(hub.asked)
    assert run(HF_HUB_OFFLINE="1").stdout.strip() == commit and len(hub.asked) == asked
    assert Path(tmp_path / "home").is_dir()
