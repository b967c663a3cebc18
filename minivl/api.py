"""The model as a user holds it: load it, ask it, or take it apart.

    vlm = minivl.load()                                   # the small model that comes with the package
    vlm.ask("photo.jpg", "What is this?")

Read next: `run/prepare.py` (messages to inputs), `model.py` (the computation), `run/generation.py`
(the loop around it).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from . import model as forward
from .checkpoint import hub
from .checkpoint.gguf_model import ENDING, Described
from .checkpoint.names import build
from .checkpoint.read import Tensors, described_in, load_model
from .checkpoint.tree import Model, Weight
from .config import (
    ConfigError,
    GenerationConfig,
    ModelConfig,
    PreprocessorConfig,
    check_keys,
    check_used,
    config_from,
    generation_from,
    preprocessor_from,
    read_config,
    read_generation,
    read_preprocessor,
    read_video_preprocessor,
)
from .door.errors import ArgumentError, MissingFile
from .door.stage import running
from .kernels import Interpreter, interpreter, packer
from .kernels.stored import stored_as
from .passes.prompt import load_template
from .run.cache import KVCache
from .run.calibrate import key_channels
from .run.cut.job import Joined, joined
from .run.cut.machine import Rank
from .run.footage import looks_like_video
from .run.generation import CONTEXT, Keeping, Settings, write
from .run.grounding import Grounding, locate
from .run.inputs import Batch, Inputs, checked_ids
from .run.messages import as_list
from .run.prepare import Processor, prepare
from .run.prompt_cache import PromptCache
from .run.streaming import reader_of, streaming
from .run.together import Together
from .text.gguf_vocabulary import chat_template, tokenizer_json
from .text.tokenizer import Stream, Tokenizer
from .text.vocabulary import has_tokenizer

TINY = Path(__file__).parent / "tiny"
NOWHERE = Path("a folder that is not there")               # of a model that was made in memory
# options of `prepare` that `chat` takes
PREPARING = ("add_vision_id", "add_generation_prompt", "after_video", "continue_final_message",
             "special_tokens")
# options of `generate` and `chat` that say how rows are kept
KEEPING = ("chunk", "cache", "reuse", "context")
PRECISIONS = ("float64", "float32", "float16", "bfloat16")


def load(path_or_name: str | os.PathLike[str] | None = None, precision: str = "float32",
         kernels: str | Interpreter = "auto", revision: str | None = None,
         memory: str | int | None = None, parallel: str | Joined | None = None) -> VLM:
    """Load a checkpoint in the official layout: a folder, or a name on the hub, which is downloaded into
    the hub's cache where it is not there (`pip install "minivl[hub]"`); or a .gguf file of llama.cpp,
    with the mmproj file beside it. revision: of a name, a branch, tag or commit; `NAME@REVISION` says
    the same.

    Without a name: the small model in the package. precision: the type of the activations (float64,
    float32, float16, bfloat16); weights stay as stored and are widened when used. kernels: the
        interpreter: "definition", "jit" (compiled, for float32 and bfloat16), "jit-int8" (the same with
        weights and activations of 8 bits: faster on matrix tiles and with VNNI, and coarser), "shapes", which computes
        no numbers: for shapes and operation counts, its answers mean nothing; or "auto": "jit" for a
        model of 50 million parameters or more where Numba is installed, else "definition".
        `vlm.interpreter.name` says which. A folder that `convert` made is loaded like any other.
    memory: such as "8GiB", for a model that is larger: its weights stay in their file and are read as the
        run comes to them (`run/streaming.py`).
    parallel: such as "tensor=2,pipeline=2", in a program that `mpirun` has started on as many ranks: each has
        its share of the weights (`run/cut/`), and all give the same.
    Raises MissingFile, ConfigError or CheckpointError saying what is missing or wrong, and ArgumentError for
    less memory than that needs.
    """
    interpreter(kernels)                         # a wrong name is refused before anything is read
    folder = find(path_or_name, revision)
    rank = None if parallel is None else joined(parallel)(config_of(folder))
    place = None if rank is None else rank.place()
    weights, tensors = load_model(folder, dtype_of(precision), place=place)
    try:
        processor, generation = processor_if_there(folder, weights.config), generation_of(folder, weights.config)
        machine = interpreter(kernels, weights)
        if rank is not None:
            weights, machine = rank.marked(weights), rank.on(machine)
        if memory is not None:
            machine = streaming(machine, weights, memory)
        return VLM(folder, weights, generation, processor, tensors, machine, rank)
    except BaseException:
        tensors.close()                        # a map that stays open keeps the file from being replaced
        raise


def processor_if_there(folder: Path, config: ModelConfig) -> Processor | MissingFile:
    """The processor, or what it lacks: scores need none, so that is said when a picture or text comes."""
    try:
        return read_processor(folder, config)
    except MissingFile as missing:
        return missing


def assembled(tensors: Mapping[str, Weight], config: ModelConfig, precision: str = "float32",
              processor: Processor | None = None, kernels: str | Interpreter = "auto",
              folder: Path = NOWHERE) -> VLM:
    """A model of tensors in memory, by the hub's names, instead of a folder: for sizes that are made up.

    Raises CheckpointError when tensors and configuration do not fit each other.
    """
    weights = build(tensors, config, dtype_of(precision))
    return VLM(folder, weights, read_generation(folder, config), processor, None,
               interpreter(kernels, weights))


def convert(source: str | os.PathLike[str] | None, target: str | os.PathLike[str], weights: str = "bf16",
            tell: Callable[[str, int, int], object] | None = None) -> Path:
    """Pack a checkpoint into a new folder, whose weights are mapped and multiplied where they lie; gives
    the new folder. `load` takes it like any other.

    source: a folder, or a name on the hub, whose other files (config, tokenizer, settings) are copied,
        sub-folders are not; an AWQ checkpoint too; or a .gguf file with its mmproj beside it, whose
        metadata become these files. weights: "bf16" (nothing is lost of a bf16 checkpoint), "f32" (nor
        of a float32 or float16 one), "int8" or "int4" (patches, merger, embedding and head are then int8;
        AWQ's four bits stay the same). tell: called with a text, the bytes that are done, and all of them.
    What was stopped at any moment is gone on with by the same call. Raises Error or OSError.
    """
    from .checkpoint.convert import FORMATS  # when first needed: it imports what reading does not
    from .checkpoint.convert import convert as pack_folder
    fast = packer()                              # wrong settings are refused before anything is read or fetched
    path = find(source)
    said = described_in(path) if weights in FORMATS else None
    return pack_folder(path, Path(target), weights, fast, tell or (lambda *said: None),
                       None if said is None else _files_of(said))


def read_processor(folder: Path, config: ModelConfig) -> Processor:
    """What turns messages into inputs, from a checkpoint's folder; the weights need not be there.

    Raises MissingFile, which says what to do, when no tokenizer is there; settings for pictures that are not
    there are the releases', with a warning.
    """
    if said := described_in(folder):
        return _described_processor(said, config)
    if not has_tokenizer(folder):
        raise MissingFile(_no_tokenizer(folder))
    return Processor(config, read_preprocessor(folder, config), Tokenizer.from_folder(folder),
                     load_template(folder), _video_settings(folder, config))


def _files_of(said: Described) -> dict[str, bytes]:
    """What a checkpoint's folder has beside its weights, out of the metadata of .gguf files."""
    generation = {"do_sample": False, "eos_token_id": said.config["eos_token_id"]}
    found = {"config.json": said.config, "preprocessor_config.json": said.pictures,
             "generation_config.json": generation}
    if template := chat_template(said.metadata, said.where):
        found["chat_template.json"] = {"chat_template": template}
    files = {name: json.dumps(values, indent=2).encode() for name, values in found.items()}
    return files | {"tokenizer.json": tokenizer_json(said.metadata, said.where).encode()}


def _described_processor(said: Described, config: ModelConfig) -> Processor:
    """The same from the metadata of .gguf files; videos are prepared as pictures are."""
    where = said.where
    return Processor(config, preprocessor_from(said.pictures, where, config),
                     Tokenizer.from_text(where, tokenizer_json(said.metadata, where)),
                     chat_template(said.metadata, where))


def picture_settings(path: Path, config: ModelConfig) -> PreprocessorConfig:
    """Settings for pictures of a checkpoint's folder, or of .gguf files."""
    said = described_in(path)
    return preprocessor_from(said.pictures, said.where, config) if said else read_preprocessor(path, config)


def generation_of(path: Path, config: ModelConfig) -> GenerationConfig:
    """How a checkpoint chooses tokens; .gguf files say where an answer ends and no more."""
    said = described_in(path)
    return generation_from({}, config, str(said.where)) if said else read_generation(path, config)


def config_of(path: Path) -> ModelConfig:
    """The configuration of a checkpoint's folder, or of .gguf files. Raises ConfigError or
    CheckpointError."""
    said = described_in(path)
    return config_from(said.config, str(said.where)) if said else read_config(path)


def _video_settings(folder: Path, config: ModelConfig) -> PreprocessorConfig | ConfigError:
    """Settings for videos, or what is wrong with them: no reason to refuse a picture."""
    try:
        return read_video_preprocessor(folder, config)
    except ConfigError as error:
        return error


def _no_tokenizer(folder: Path) -> str:
    return (f"{folder} has no tokenizer.json, nor vocab.json with merges.txt: text cannot be prepared; "
            "build the input from ids with minivl.Inputs.from_ids, or copy the tokenizer's files there")


def dtype_of(precision: str) -> np.dtype:
    """The NumPy type of a precision by name; bfloat16 comes from the package ml_dtypes."""
    if precision not in PRECISIONS:
        raise ArgumentError(f"precision is {precision!r}; it can be {', '.join(PRECISIONS)}")
    if precision != "bfloat16":
        return np.dtype(precision)
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        raise ArgumentError("precision 'bfloat16' needs the package ml_dtypes: pip install ml_dtypes") from None
    return np.dtype(bfloat16)


def find(path_or_name: str | os.PathLike[str] | None, revision: str | None = None, weights: bool = True
         ) -> Path:
    """The folder of a checkpoint, or a .gguf file, as it is; a name such as Qwen/Qwen2.5-VL-3B-Instruct,
    or NAME@REVISION, from the hub (`checkpoint/hub.py`), where a folder of that name is not there.

    weights: false for a folder that may lack them. Raises MissingFile or Error saying what to do.
    """
    if path_or_name is None:
        return TINY
    folder = _at_home(path_or_name)
    if folder.is_dir() or (folder.suffix.lower() == ENDING and folder.is_file()):
        if revision is not None:
            raise ArgumentError(f"{folder} is on this disk, and has no revision {revision!r}; leave it "
                                "out, or give a name on the hub")
        return folder
    if hub.is_name(str(path_or_name)):
        return hub.fetch(str(path_or_name), revision, weights)
    raise MissingFile(f"{folder} is not a folder; give the folder that holds config.json and the "
                      "weights, or a name on the hub, such as Qwen/Qwen2.5-VL-3B-Instruct")


def _at_home(path: str | os.PathLike[str]) -> Path:
    """`~` written out, where there is a home: a container's user may have none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


class VLM:
    """A loaded model. `.config`, `.weights` (the tree that the passes walk), `.interpreter` (what runs
    them), `.rank` (of a job that shares them), `.tokenizer`, `.processor`, `.folder`."""

    def __init__(self, folder: Path, model: Model, generation: GenerationConfig,
                 processor: Processor | MissingFile | None,
                 tensors: Tensors | None, machine: Interpreter, rank: Rank | None = None):
        self.folder, self.config, self.generation, self.interpreter = folder, model.config, generation, machine
        self.weights, self.rank = machine.prepare(model), rank
        self._model, self._tensors, self._processor = model, tensors, processor
        self._channels: np.ndarray | None = None

    def on(self, precision: str | None = None, kernels: str | Interpreter | None = None) -> VLM:
        """The same checkpoint on another machine: in another precision, under another interpreter, or
        both.

        The weights are the stored ones again, not this machine's; closing the new model closes nothing.
        Golden values are always those of `on("float64", "definition")`, whatever the model runs on.
        """
        dtype = self.dtype if precision is None else dtype_of(precision)
        model = self._model.in_precision(dtype)
        machine = self.interpreter if kernels is None else interpreter(kernels, model)
        if self.rank is not None and kernels is not None:
            machine = self.rank.on(machine)
        return VLM(self.folder, model, self.generation, self._processor, None, machine, self.rank)

    def close(self) -> None:
        """Let go of the mapped files, so that they can be replaced (Windows refuses that while a map
        is open)."""
        if (reader := reader_of(self.weights)) is not None:
            reader.close()
        if self._tensors is not None:
            self._tensors.close()

    def __enter__(self) -> VLM:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def dtype(self) -> np.dtype:
        """The type of the activations."""
        return self.weights.decoder.dtype

    @property
    def processor(self) -> Processor:
        """Tokenizer, template and picture settings. Raises MissingFile, which says what to do, when
        the folder has no tokenizer."""
        if self._processor is None:
            raise MissingFile(_no_tokenizer(self.folder))
        if isinstance(self._processor, MissingFile):
            raise self._processor
        return self._processor

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to ids and back."""
        return self.processor.tokenizer

    def ask(self, image: Any, question: str, max_new_tokens: int = 128, **options: Any) -> str:
        """Answer a question about a picture, several pictures (a list) or none (None); the path of a video
        file counts as one. Options as for `chat`."""
        images = [] if image is None else image if isinstance(image, list | tuple) else [image]
        kinds = ["video" if looks_like_video(one) else "image" for one in images]
        content = [*({"type": kind, kind: one} for kind, one in zip(kinds, images, strict=True)),
                   {"type": "text", "text": question}]
        return self.chat([{"role": "user", "content": content}], max_new_tokens, **options)

    def ground(self, image: Any, question: str, max_new_tokens: int = 512, temperature: float | None = 0,
               **options: Any) -> Grounding:
        """Where things are in one picture: a list of Found (label, box or point) in pixels of the
        picture as it came; see `run/grounding.py`.

        The question is asked as it stands; official models name boxes when they are asked for bbox
        coordinates in JSON format. An answer that names none gives an empty list, whose `.answer` and
        `.notes` say what came instead. Options as for `chat`; decoding is greedy unless a temperature
        is given.
        """
        content = [{"type": "image", "image": image}, {"type": "text", "text": question}]
        known = {name: options.pop(name) for name in PREPARING if name in options}
        inputs = self.prepare([{"role": "user", "content": content}], **known)
        answer = "".join(self._answer(inputs, max_new_tokens, temperature, options))
        (seen,) = inputs.media
        with running(self.interpreter):
            return locate(answer, seen.size, seen.source_size)

    def chat(self, messages: list[dict[str, Any]], max_new_tokens: int = 128,
             temperature: float | None = None,
             stream: bool = False, **options: Any) -> Any:
        """Go on with a conversation (`prepare` says which forms are taken); a str, or an iterator of
        str when streaming.

        temperature: None leaves the choice to the checkpoint's generation_config.json, 0 is greedy.
        Further options are those of `prepare` and `generate`. Streaming never gives half a character;
        a session that is to see it must be open while the pieces are taken.
        """
        inputs = self.prepare(messages, **{name: options.pop(name) for name in PREPARING
                                           if name in options})
        if not isinstance(inputs, Inputs):
            raise ArgumentError(f"chat goes on with one conversation, these are {len(inputs)}; prepare "
                                "and generate take a list of them")
        pieces = self._answer(inputs, max_new_tokens, temperature, options)
        return pieces if stream else "".join(pieces)

    def tokens(self, inputs: Inputs, max_new_tokens: int = 128, temperature: float | None = None,
               **options: Any) -> Iterator[int]:
        """Ids of the answer to one conversation as they are chosen, the stop id included.

        temperature and options: as for `chat`, and refused when this is called. A session that is to see
        how a token comes about must be open while that token is taken.
        """
        options = self.choosing(temperature, **options)
        keeping = self._keeping(options)
        steps = self._write([_one(inputs)], self._settings(max_new_tokens, **options), keeping)
        return (token for (token,) in steps if token is not None)

    def choosing(self, temperature: float | None, **options: Any) -> dict[str, Any]:
        """Options of `generate` and `Together.join` for a temperature as `chat` has it: None leaves the
        choice to the checkpoint's generation_config.json, 0 is greedy."""
        if temperature is not None:
            return options | {"do_sample": temperature != 0, "temperature": temperature or None}
        check_keys(self.generation, ["do_sample"] if "do_sample" not in options else [])
        return {"do_sample": self.generation.do_sample, **options}

    def _answer(self, inputs: Inputs, max_new_tokens: int, temperature: float | None,
                options: dict[str, Any]
                ) -> Iterator[str]:
        return self._pieces(self.tokens(inputs, max_new_tokens, temperature, **options))

    def _pieces(self, tokens: Iterator[int]) -> Iterator[str]:
        text = Stream(self.tokenizer)
        for token in tokens:
            if piece := text.push(token):
                yield piece
        if piece := text.flush():
            yield piece

    def prepare(self, messages: Sequence[Any], add_vision_id: bool = False,
                add_generation_prompt: bool | None = None, after_video: str = "max_plus_one",
                continue_final_message: bool = False, special_tokens: bool = False) -> Any:
        """Inputs of a conversation; a list of conversations gives a list. See `Inputs` for the arrays,
        and `run/messages.py` for the dialects that are taken.

        add_generation_prompt: begin the answer's turn; None does unless the last message is continued.
        after_video: how positions go on after a video, "max_plus_one" (as trained) or "tf5" (as
            transformers 5 counts).
        continue_final_message: leave the last message open, so that the answer goes on with it.
        special_tokens: a text that spells `<|im_end|>`, `<|box_start|>` or their like means the token, as
            in transformers. Unless this is said it stays text, so that nobody ends a turn by typing.
        """
        begin = not continue_final_message if add_generation_prompt is None else add_generation_prompt
        given = as_list(messages)
        if given and all(isinstance(as_list(one), list) for one in given):
            return [self.prepare(one, add_vision_id, begin, after_video, continue_final_message,
                                 special_tokens) for one in given]
        with running(self.interpreter):
            return prepare(given, self.processor, add_vision_id, begin, after_video,
                           continue_final_message, special_tokens)

    def vision(self, inputs: Inputs) -> np.ndarray:
        """Visual tokens (m, d) of all pictures and videos, in prompt order."""
        if not _one(inputs).media:
            return np.zeros((0, self.config.text.hidden_size), self.dtype)
        with running(self.interpreter):
            patches = self.interpreter.to_device(inputs.patches)
            return self.interpreter.to_host(forward.vision(patches, inputs.grids, self.weights.vision))

    def logits(self, inputs: Inputs, answer: Sequence[int] | np.ndarray = (), chunk: int | None = None,
               cache: str | None = None) -> np.ndarray:
        """Scores (s, v) of the next token after every token of the prompt, in the model's precision.

        answer: ids of k tokens that were written after the prompt; then the scores (k, v) by which
            each of them was chosen, all in one pass
        chunk, cache: as for `generate`; the prompt is whole unless a chunk is said
        Raises ArgumentError for ids that the vocabulary has not, and for such options.
        """
        keeping = self._keeping({"chunk": chunk, "cache": cache})
        batch = Batch.of([_one(inputs)], self.config, self.dtype, every_row=True)
        if len(answer):
            batch = batch.with_answer(checked_ids(answer, self.config))
        batch = batch.on(self.interpreter.to_device)
        stored = stored_as(keeping.cache, self.dtype, self.interpreter.caches)
        rows = KVCache(self.config.text, batch.lengths, stored, self.interpreter.zeros,
                       channels=keeping.channels)
        with running(self.interpreter):
            parts = forward.prefill(batch, rows, self.weights, keeping.chunk)
            found = [self.interpreter.to_host(part) for part in parts]                # n v of each part
        return found[0] if len(found) == 1 else np.concatenate(found)

    def generate(self, inputs: Inputs | Sequence[Inputs], max_new_tokens: int = 128,
                 do_sample: bool = False,
                 **options: Any) -> Any:
        """Ids of the answer, the stop id included; a list of inputs (packed into one run) gives a list
        of lists.

        options: temperature, top_k, top_p (used when sampling), repetition_penalty, seed, stop_ids.
            What is not said
            is taken from generation_config.json, as the reference does; the penalty applies to greedy
            decoding too. chunk: rows of the prompt that go through the decoder at a time (1024, or 2048
            of compiled kernels). cache: the type of the KV cache, "float32", "bfloat16" or "int8"; that
            of the activations unless said. reuse: a `PromptCache`. context: the most tokens of a
            conversation, 32,768 unless said. Raises ArgumentError for a number out of range, and for a
            conversation that is too long.
        """
        conversations = [inputs] if isinstance(inputs, Inputs) else list(map(_one, inputs))
        if not conversations:
            return []
        keeping = self._keeping(options)
        settings = self._settings(max_new_tokens, do_sample, **options)
        steps = list(self._write(conversations, settings, keeping))
        answers = [[token for token in column if token is not None]
                   for column in zip(*steps, strict=True)]
        return answers[0] if isinstance(inputs, Inputs) else answers

    def together(self, rows: int = CONTEXT, chunk: int | None = None, cache: str | None = None,
                 reuse: PromptCache | None = None, context: int = CONTEXT) -> Together:
        """Conversations that are written together, and join and leave while others run: see
        `run/together.py`.

        rows: tokens of all conversations that are open at a time, for which memory is taken at once
        chunk, cache, reuse, context: as for `generate`; a chunk is 512 rows unless said
        Raises ArgumentError for a number out of range.
        """
        if not isinstance(rows, int) or isinstance(rows, bool) or rows < 2:
            raise ArgumentError(f"rows is {rows!r}; it must be a whole number, at least 2")
        return Together(self.weights, self.interpreter, self._settings, lambda: self.tokenizer, rows,
                        self._keeping({"chunk": chunk, "cache": cache, "reuse": reuse,
                                       "context": context}))

    def _settings(self, max_new_tokens: int, do_sample: bool = False, **options: Any) -> Settings:
        given = self.generation
        known: dict[str, Any] = {"repetition_penalty": given.repetition_penalty,
                                 "stop_ids": given.eos_token_ids}
        if do_sample:
            known |= {"temperature": given.temperature, "top_k": given.top_k, "top_p": given.top_p}
        allowed = ("temperature", "top_k", "top_p", "repetition_penalty", "seed", "stop_ids")
        unknown = sorted(set(options) - set(allowed))
        if unknown:
            raise TypeError(f"generate() takes no option {', '.join(unknown)}; it takes "
                            f"{', '.join((*allowed, *KEEPING))}")
        idle = [name for name in allowed[:3] if options.get(name) is not None and not do_sample]
        if idle:
            raise ArgumentError(f"{', '.join(idle)} has no effect on greedy decoding: say "
                                "do_sample=True as well")
        names = {"stop_ids": "eos_token_id"}                   # what the file calls it
        said = {names.get(name, name) for name in options if options[name] is not None}
        check_used(given, do_sample, said)
        return Settings(max_new_tokens, do_sample, **known | {k: v for k, v in options.items()
                                                              if v is not None})

    def _keeping(self, options: dict[str, Any]) -> Keeping:
        """Take the options of KEEPING out of all options. The sizes of the keys' channels are found
        once."""
        known = {name: found for name in KEEPING if (found := options.pop(name, None)) is not None}
        keeping = Keeping(**known)
        if keeping.reuse is not None and self.rank is not None:
            raise ArgumentError("reuse= keeps rows of a whole model, and this one is cut over several ranks: "
                                "leave it out, or load without parallel=")
        if keeping.cache != "int8" or keeping.cache not in self.interpreter.caches:
            return keeping
        if self._channels is None:
            self._channels = key_channels(self.weights, self.interpreter)
        return replace(keeping, channels=self._channels)

    def _write(self, conversations: Sequence[Inputs], settings: Settings, keeping: Keeping | None = None
               ) -> Iterator[list[int | None]]:
        return write(conversations, self.weights, settings, self.interpreter, keeping or Keeping())


def _one(inputs: Any) -> Inputs:
    """The Inputs of one conversation. Raises TypeError for anything else, messages above all."""
    if not isinstance(inputs, Inputs):
        raise TypeError(f"this takes the Inputs of one conversation, as vlm.prepare(messages) makes "
                        f"them, not a {type(inputs).__name__}")
    return inputs
