"""A checkpoint by its name on the hub: `Qwen/Qwen2.5-VL-3B-Instruct`, or `NAME@REVISION`, as a folder.

The package `huggingface_hub` (`pip install "minivl[hub]"`) does the work, with its cache, token, offline
mode, progress and resumed downloads (HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_HUB_OFFLINE, HF_ENDPOINT).
What is added:

    config.json first       another architecture is refused before its gigabytes come
    one commit              all files are of the one that the revision named when the download began
    only what is read       configs, tokenizer, template, and the shards that the index names; never code
    hashes                  what came is held against the hub's list, and thrown away where it differs

What is in the cache is read without the package. Read next: `read.py`, which reads the folder.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..config import ConfigError, config_from
from ..door.errors import MissingFile, brief
from ..door.files import read_json
from .instead import INDEX, SINGLE
from .packed_folder import ABOUT, TILES
from .weight import CheckpointError

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
CONFIG = "config.json"
SMALL = (CONFIG, "generation_config.json", "preprocessor_config.json", "video_preprocessor_config.json",
         "processor_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt",
         "added_tokens.json", "special_tokens_map.json", "chat_template.json", "chat_template.jinja",
         "additional_chat_templates/default.jinja", ABOUT)
SHARD = re.compile(r"[\w.-]{1,250}\.safetensors")
INSTALL = 'pip install "minivl[hub]"'
WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".npz", ".h5", ".onnx")
CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
CHUNK = 1 << 22                                            # bytes that are hashed at a time


class HubError(MissingFile):
    """A checkpoint could not be had from the hub: no network, no such name or revision, not allowed, or
    not in the cache. The message says which, and what to do."""


class Listed(NamedTuple):
    """A file as the hub lists it: its size, and the hash of its content (SHA-256 of large files, else
    git's)."""
    name: str
    size: int
    sha256: str | None
    git: str | None


def is_name(text: str) -> bool:
    """Whether a text may be a name on the hub, perhaps with `@REVISION`."""
    return NAME.fullmatch(text.partition("@")[0]) is not None


def fetch(name: str, revision: str | None = None, weights: bool = True) -> Path:
    """The folder of a checkpoint by its name on the hub; what is not in the cache is downloaded.

    revision: a branch, tag or commit; None: what stands behind `@` in the name, else `main`.
    weights: false for what prepares a prompt alone. Raises HubError, ConfigError for another
    architecture, CheckpointError for a file that is not what the hub lists.
    """
    name, _, behind = name.partition("@")
    revision = revision or behind or "main"
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors
    except ImportError:
        return _of_cache(name, revision, weights, "downloading takes the package huggingface_hub: "
                         f"{INSTALL}, or give a checkpoint's folder")
    with _told(name, revision, errors, f"{constants.ENDPOINT}/{name}"):
        try:
            return _Download(name, revision, huggingface_hub, errors).run(weights)
        except Unreached as error:
            folder = _of_cache(name, revision, weights, f"the hub cannot be asked: {error}. Connect and "
                               f"do the same again (or hf download {name}), or give a checkpoint's folder")
            if not constants.HF_HUB_OFFLINE:                      # offline was asked for: nothing to say
                warnings.warn(f"{name}: the hub cannot be asked ({error}); what is in the cache is used",
                              stacklevel=4)
            return folder


def cache() -> Path:
    """Where the hub's own tools keep what they have downloaded."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    path = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
    try:
        return path.expanduser()
    except RuntimeError:                                   # a container's user may have no home
        return path


# ------------------------------------------------------------------------------------- what is in the cache

def _of_cache(name: str, revision: str, weights: bool, remedy: str) -> Path:
    """The snapshot that the cache holds. Raises HubError where it is not there, or not whole."""
    folder = cached(name, revision)
    missing = _missing(folder, weights) if folder else []
    if folder is None:
        raise HubError(f"{name} is neither a folder nor in the hub's cache ({cache()}, revision "
                       f"{revision}), and {remedy}")
    if missing:
        raise HubError(f"{name}: {folder} in the hub's cache is not whole: {missing[0]} is missing, "
                       f"{len(missing)} files in all; and {remedy}")
    return folder


def cached(name: str, revision: str = "main") -> Path | None:
    """The folder of a revision in the cache: of a branch or tag as it was last asked for, or of a commit,
    also by the beginning of its hash. Of `main`, where nothing says which it is, the newest."""
    home = cache() / f"models--{name.replace('/', '--')}"
    ref = home / "refs" / revision
    if ".." not in revision and ref.is_file():
        current = home / "snapshots" / ref.read_text(encoding="utf-8").strip()
        if (current / CONFIG).exists():
            return current
    snapshots = [path for path in home.glob("snapshots/*") if (path / CONFIG).exists()]
    if revision != "main":
        snapshots = [path for path in snapshots if len(revision) > 6 and path.name.startswith(revision)]
    return max(snapshots, key=lambda path: path.stat().st_mtime, default=None)


def _missing(folder: Path, weights: bool) -> list[str]:
    """Files that a snapshot lacks."""
    if not weights or (folder / SINGLE).exists() or (folder / TILES).exists():
        return []
    if not (folder / INDEX).exists():
        return [] if any(folder.glob("*.safetensors")) else [f"{SINGLE} or {INDEX}"]
    return [shard for shard in _shards(folder / INDEX) if not (folder / shard).exists()]


def _shards(index: Path) -> list[str]:
    """The files that an index names. Raises CheckpointError for a name that is no plain file's."""
    places = read_json(index, CheckpointError).get("weight_map")
    named = sorted(set(map(str, places.values()))) if isinstance(places, dict) else []
    for shard in named:
        if not SHARD.fullmatch(shard):
            raise CheckpointError(f"{index}: names the file {brief(shard)}; a shard is a .safetensors "
                                  "file in the same folder")
    if not named:
        raise CheckpointError(f"{index}: weight_map should map each tensor's name to its file")
    return named


# ---------------------------------------------------------------------------------------------- downloading

class Unreached(Exception):
    """The hub cannot be asked."""


class _Download:
    """One checkpoint of one commit."""

    def __init__(self, name: str, revision: str, hub: Any, errors: Any):
        self.name, self.revision, self.hub, self.errors = name, revision, hub, errors
        self.listed: Mapping[str, Listed] = {}

    def run(self, weights: bool) -> Path:
        """Its folder, once everything is there."""
        commit, self.listed = self._list()          # first: without a network it fails at once
        if CONFIG not in self.listed and any(one.endswith(".gguf") for one in self.listed):
            raise CheckpointError(f"{self.name}: {self._refused()}. Nothing was downloaded")
        folder = self._config().parent
        self.revision = folder.name                 # from here on the commit, wherever a branch moves
        if commit != self.revision:                 # it moved between the two questions
            _, self.listed = self._list()
        small = [one for one in SMALL if one in self.listed]
        large = self._weights(folder) if weights else []
        self._room([*small, *large], folder)
        for one in (*small, *large):
            self._get(one)
        return folder

    def _config(self) -> Path:
        """config.json, which says whether the rest is wanted."""
        path = self._ask(lambda: Path(self.hub.hf_hub_download(self.name, CONFIG, revision=self.revision,
                                                                 cache_dir=cache())))
        values = read_json(path, ConfigError)
        try:
            config_from(values, f"{self.name}, {CONFIG}")
        except ConfigError as error:
            raise ConfigError(f"{error}. Nothing else was downloaded") from error
        return path

    def _list(self) -> tuple[str, dict[str, Listed]]:
        """The commit that the revision names, and its files."""
        info = self._ask(lambda: self.hub.HfApi().model_info(self.name, revision=self.revision,
                                                             files_metadata=True))
        files = [Listed(one.rfilename, int(one.size or 0), (one.lfs or {}).get("sha256"), one.blob_id)
                 for one in info.siblings or []]
        return str(info.sha), {one.name: one for one in files}

    def _weights(self, folder: Path) -> list[str]:
        """The files of the weights: one, the index and its shards, or packed ones."""
        if SINGLE in self.listed:
            return [SINGLE]
        if INDEX in self.listed:
            self._get(INDEX)
            shards = _shards(folder / INDEX)
            if lost := [shard for shard in shards if shard not in self.listed]:
                raise CheckpointError(f"{self.name}: {INDEX} names {lost[0]}, which the hub does not "
                                      "have; tell its authors, or take another revision")
            return [INDEX, *shards]
        if {ABOUT, TILES} <= self.listed.keys():
            return [TILES]
        raise CheckpointError(f"{self.name}: {self._refused()}. No weights were downloaded")

    def _refused(self) -> str:
        """What weights there are instead of those that are read by a name, and what to do."""
        there = [name for name in self.listed if name.endswith(WEIGHTS)]
        found = f"has neither {SINGLE} nor {INDEX}, but {', '.join(there[:4]) or 'no weights'}"
        if any(name.endswith(".gguf") for name in there):
            return (f"{found}; .gguf files are read from a folder: fetch one of them and its mmproj-*.gguf "
                    f"(hf download {self.name} FILE MMPROJ --local-dir FOLDER), and give FOLDER for the name")
        return f"{found}; take the model's release in safetensors"

    def _room(self, names: Iterable[str], folder: Path) -> None:
        """Raise HubError where the disk has no room for what is to come."""
        import shutil  # late: what is imported is paid at every start
        need = sum(self.listed[name].size for name in names if not (folder / name).exists())
        free = shutil.disk_usage(folder).free
        if need > free:
            raise HubError(f"{self.name}: {need / 1e9:.1f} GB are still to be downloaded, and {folder} "
                           f"has {free / 1e9:.1f} GB free; make room, or set HF_HOME to another disk")

    def _get(self, name: str) -> None:
        """A file, unless it is there; held against the list when it has just come."""
        known = self.hub.try_to_load_from_cache(self.name, name, cache(), self.revision)
        if isinstance(known, str) and name != CONFIG:
            return
        path = self._ask(lambda: Path(self.hub.hf_hub_download(self.name, name, revision=self.revision,
                                                                 cache_dir=cache())))
        listed = self.listed[name]
        found = _hash(path, listed)
        if found not in (listed.sha256, listed.git, None):
            kept = path.resolve()
            path.unlink()
            kept.unlink(missing_ok=True)
            raise CheckpointError(f"{self.name}: {name} came with the hash {found}, the hub lists "
                                  f"{listed.sha256 or listed.git}: it was damaged on the way, and is "
                                  "removed; do the same again to download it anew")

    def _ask(self, question: Callable[[], Any]) -> Any:
        """An answer of the hub. Unreached for whatever is no answer of its: no network, a proxy, offline."""
        errors = self.errors
        try:
            return question()
        except errors.LocalEntryNotFoundError as error:     # no answer, and nothing in the cache
            raise Unreached(_first(error.__cause__ or error)) from error
        except (errors.HfHubHTTPError, errors.EntryNotFoundError, errors.HFValidationError) as error:
            status = getattr(getattr(error, "response", None), "status_code", 0)
            if status >= 500 or status in (408, 429):
                raise Unreached(_first(error)) from error
            raise
        except (OSError, RuntimeError) as error:
            raise Unreached(_first(error)) from error
        except Exception as error:                          # of whatever client it uses
            if type(error).__module__.partition(".")[0] not in CLIENTS:
                raise
            raise Unreached(_first(error)) from error


def _first(error: BaseException) -> str:
    """The first line of what a library says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _hash(path: Path, listed: Listed) -> str | None:
    """The hash of a file in the kind that the list gives; None where it gives none."""
    if listed.sha256 is None and not listed.git:
        return None
    import hashlib  # late, as above
    size = path.stat().st_size
    git = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    found = hashlib.sha256() if listed.sha256 else git
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            found.update(piece)
    return found.hexdigest()


@contextmanager
def _told(name: str, revision: str, errors: Any, page: str) -> Iterator[None]:
    """What the hub refuses, in our words."""
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(f"{name} is gated: accept its terms on {page}, then log in (hf auth login, or "
                       "HF_TOKEN)") from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(f"{name} is neither a folder nor a model on the hub ({page}); if it is private, "
                       "log in (hf auth login, or HF_TOKEN)") from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{name} has no revision {revision!r}; {page}/tree/main lists its branches") from error
    except errors.EntryNotFoundError as error:
        raise HubError(f"{name} (revision {revision}) has no {CONFIG}: it is no checkpoint of this "
                       f"model, or holds it in a folder; see {page}") from error
    except errors.HFValidationError as error:
        raise HubError(f"{name} is no name on the hub: {_first(error)}") from error
    except errors.HfHubHTTPError as error:
        raise HubError(f"{name}: the hub refuses: {_first(error)}") from error
