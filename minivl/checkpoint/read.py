"""A checkpoint's folder as tensors by name, and as the model. One file or many shards; mapped, so that
opening 150 GB reads a few kilobytes.

The folder may come from elsewhere: an index can name no file outside it, and whatever disagrees is an
error that names the file and the tensor. No pickle is ever opened. Read next: `names.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import ConfigError, ModelConfig, config_from
from ..door.errors import brief
from ..door.files import read_json
from .gguf_model import Described, Pair, pair_of, read_pair
from .instead import INDEX, SINGLE, instead_of_weights, quantisation, variants
from .names import Place, build, unpacked
from .packed_folder import ABOUT, TILES, is_packed, read_packed
from .safetensors import File, MappedFile
from .tree import Model, Weight
from .weight import CheckpointError


class Tensors(Mapping[str, Weight]):
    """Tensors by name over open files. Use it with `with`, or close() it: Windows replaces no mapped
    file.

    Weights of closed tensors raise CheckpointError when they are read.
    """

    def __init__(self, tensors: Mapping[str, Weight], files: Sequence[MappedFile]):
        self._tensors, self._files = dict(tensors), files

    def __getitem__(self, name: str) -> Weight:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def __enter__(self) -> Tensors:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def load_model(folder: str | Path, dtype: Any, config: ModelConfig | None = None,
               place: Place | None = None
               ) -> tuple[Model, Tensors]:
    """The model of a checkpoint's folder, to be run in precision `dtype`, and the open tensors that it
    reads.

    config stands in for the folder's config.json; place: see `names.build`.
    Raises ConfigError, or CheckpointError with a full audit.
    """
    folder = Path(folder)
    if config is None and (pair := pair_of(folder)):
        return _load_pair(pair, dtype, place)
    path = folder / "config.json"
    nothing = config is None and not path.exists() and weight_files(folder) == (None, None) \
        and not is_packed(folder)
    if nothing and (instead := instead_of_weights(folder)):
        raise ConfigError(f"{folder}: {instead}")
    values = read_json(path, ConfigError) if config is None else {}
    config = config or config_from(values, str(path))
    tensors = read_tensors(folder)
    if (folder / "adapter_config.json").exists():
        warnings.warn(f"{folder}: an adapter (adapter_config.json) lies beside the weights and is not "
                      "applied; if it is meant, merge it into the model and save that", stacklevel=3)
    try:
        weights = unpacked(tensors, quantisation(values))
        return build(weights, config, dtype, place), tensors
    except BaseException as error:
        tensors.close()
        if isinstance(error, CheckpointError):
            both = (folder / SINGLE).exists() and (folder / INDEX).exists()
            hint = f"\n{SINGLE} was read; if the shards of {INDEX} are meant, move it away" if both else ""
            raise CheckpointError(f"{folder}: {error}{hint}") from None
        raise


def _load_pair(pair: Pair, dtype: Any, place: Place | None) -> tuple[Model, Tensors]:
    said, weights, files = read_pair(pair)
    tensors = Tensors(weights, files)
    try:
        return build(tensors, config_from(said.config, str(said.where)), dtype, place), tensors
    except BaseException as error:
        tensors.close()
        if isinstance(error, CheckpointError):
            raise CheckpointError(f"{said.where}: {error}") from None
        raise


def described_in(path: str | Path) -> Described | None:
    """What the .gguf files of a model say beside its numbers; None for a checkpoint's folder.

    Raises CheckpointError or ConfigError, naming file and key.
    """
    pair = pair_of(Path(path))
    if pair is None:
        return None
    said, _, files = read_pair(pair)
    Tensors({}, files).close()
    return said


def in_few_bits(path: Path) -> bool:
    """Whether the weights lie there in fewer bits than a release's: packed, in a .gguf file, or AWQ's.

    Raises CheckpointError or ConfigError, naming the file, for what cannot be told.
    """
    if is_packed(path) or pair_of(path) is not None:
        return True
    if weight_files(path) == (None, None) or not (path / "config.json").exists():
        return False
    return quantisation(read_json(path / "config.json", ConfigError)) is not None


def read_tensors(folder: str | Path) -> Tensors:
    """Open the tensors of a folder: `model.safetensors`, the shards of
    `model.safetensors.index.json`, a packed checkpoint, whose tensors are called by their places, or
    the files of llama.cpp, whose tensors get the hub's names.

    Raises CheckpointError that names the file and the tensor; nothing stays open then.
    """
    folder = Path(folder)
    if pair := pair_of(folder):
        _, weights, files = read_pair(pair)
        return Tensors(weights, files)
    single, index = weight_files(folder)
    if is_packed(folder):
        if other := single or index:
            raise CheckpointError(f"{folder}: holds packed weights ({ABOUT}) and others ({other.name}): "
                                  f"move one of them away, {ABOUT} together with {TILES}")
        weights, file, _ = read_packed(folder)
        return Tensors(weights, [file])
    if single is not None:
        file = File(single)
        return Tensors(file.tensors, [file])
    if index is not None:
        return _read_shards(folder, index)
    instead = instead_of_weights(folder) or f"holds neither {SINGLE} nor {INDEX}"
    raise CheckpointError(f"{folder}: {instead}")


def weight_files(folder: Path) -> tuple[Path | None, Path | None]:
    """The file of all tensors, or the index of shards; None for what does not decide. Where neither has
    its usual name, a variant's (`model.fp16.safetensors`, as the reference saves it) stands in, when it
    is the only one."""
    if (folder / SINGLE).exists():
        return folder / SINGLE, None
    if (folder / INDEX).exists():
        return None, folder / INDEX
    singles, indexes = variants(folder)
    if len(singles) + len(indexes) != 1:
        return None, None
    return (singles[0], None) if singles else (None, indexes[0])


def _read_shards(folder: Path, index: Path) -> Tensors:
    """Each tensor from the shard that the index names; index and shards must agree both ways."""
    places = read_json(index, CheckpointError).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(f, str)
                                                             for f in places.values()):
        raise CheckpointError(f"{index}: weight_map should map each tensor's name to its file")
    paths = {shard: _inside(folder, shard, index) for shard in sorted(set(places.values()))}
    files: list[File] = []
    tensors: dict[str, Weight] = {}
    try:
        for shard, path in paths.items():
            files.append(File(path))
            listed = {name for name, place in places.items() if place == shard}
            tensors.update(_agreeing(files[-1], listed, index))
    except BaseException:
        Tensors({}, files).close()
        raise
    return Tensors(tensors, files)


def _agreeing(file: File, listed: set[str], index: Path) -> Mapping[str, Weight]:
    for name in sorted(listed ^ file.tensors.keys()):
        if name in listed:
            raise CheckpointError(f"{index}: {brief(name)} should be in {file.path.name}, which does not "
                                  "hold it")
        raise CheckpointError(f"{file.path}: holds {brief(name)}, which {index.name} does not place there")
    return file.tensors


def _inside(folder: Path, shard: str, index: Path) -> Path:
    """The shard's path. An index names plain files beside it; any way out of the folder is refused.

    Links are followed inside the folder, and from a hub cache's `snapshots/<revision>` to its `blobs`,
    where the cache keeps the files themselves.
    """
    if not shard.endswith(".safetensors") or any(c in shard for c in "/\\:\0") or len(shard) > 255:
        raise CheckpointError(f"{index}: names the file {brief(shard)}; a shard is a "
                              ".safetensors file in the same folder")
    path, root = folder / shard, folder.resolve()
    homes = [root] + ([root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [])
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise CheckpointError(f"{index}: the shard {shard} is not there; fetch it again") from None
    if target.parent not in homes:
        raise CheckpointError(f"{index}: the shard {shard} is a link to {target}, outside the folder")
    return path
