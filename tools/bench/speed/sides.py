"""Who runs the workload: minivl in its modes, transformers, llama.cpp, OpenVINO. One class for each program, all
with the same methods; a side is a class with its options under a name.

    side = SIDES["minivl-jit-int8-bfloat16"]
    engine = side.start(folder, threads)
    engine.prefill(ids)

Read next: `worker.py`, which calls them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray
Step = Callable[[], Any]


class Side(NamedTuple):
    """start: folder, threads -> an engine; needs: modules without which it is left out; photo: whether
    it also prepares the photo, which no mode changes; packed: the format of the packed checkpoint that
    it starts from, else the plain one; makes: what it needs made once, before it is timed, out of the folder that it
    starts from; free: why it cannot be held to a tier, where it cannot."""
    name: str
    start: Callable[[Path, int], Any]
    needs: tuple[str, ...] = ()
    photo: bool = False
    packed: str | None = None
    makes: Callable[[Path], Any] | None = None
    free: str = ""

    @property
    def missing(self) -> list[str]:
        """Modules that it needs and that are not installed."""
        return [name for name in self.needs if find_spec(name) is None]


class Minivl:
    """minivl under one interpreter, in one precision, over the weights of its folder."""

    def __init__(self, kernels: str, precision: str, folder: Path, threads: int):
        import minivl
        if kernels != "definition":
            from minivl.kernels.jit.tiers import chosen
            self.tier = chosen().name
        self.vlm = minivl.load(folder, precision, kernels)

    @staticmethod
    def compiled(kernels: str, precision: str, folder: Path) -> None:
        """Run each kind of row once, little of it: compiled code is kept, and no row should hold its making."""
        from . import workload
        engine = Minivl(kernels, precision, folder, 1)
        engine.vision(*workload.patches(engine.vlm.config, workload.GOLDEN_PICTURE))
        engine.prefill(workload.tokens(engine.vlm.config, 16))
        engine.decoding(16, 1)()
        engine.prepare_photo(np.zeros((280, 280, 3), np.uint8))

    def vision(self, patches: Array, grid: Array) -> Array:
        """Visual tokens (m, d)."""
        from minivl import Inputs
        config = self.vlm.config
        cells = int(grid.prod()) // config.vision.spatial_merge_size**2
        ids = [config.vision_start_token_id, *[config.image_token_id] * cells,
               config.vision_end_token_id]
        return self.vlm.vision(Inputs.from_ids(ids, config, patches, grid))

    def logits(self, ids: list[int]) -> Array:
        """Scores of the next token after every token: (s, v)."""
        from minivl import Inputs
        return self.vlm.logits(Inputs.from_ids(ids, self.vlm.config))

    def prefill(self, ids: list[int]) -> int:
        """The likeliest token after a prompt."""
        from minivl import Inputs
        return self.vlm.generate(Inputs.from_ids(ids, self.vlm.config), 1, stop_ids=(),
                                 repetition_penalty=1.0)[0]

    def decoding(self, context: int, steps: int) -> Step:
        """A call that runs one further token, over a cache of `context` tokens of noise."""
        from minivl import Inputs
        from minivl.door.stage import running
        from minivl.model import step
        from minivl.run.cache import KVCache
        from minivl.run.inputs import Batch
        vlm, draw = self.vlm, np.random.default_rng(0)
        first = Batch.of([Inputs.from_ids([1], vlm.config)], vlm.config, vlm.dtype)
        going, place = np.ones(1, bool), np.full((3, 1), context)
        token = first.followed_by(np.ones(1, np.int64), place, going).on(vlm.interpreter.to_device)
        room = np.array([context + steps + 1])
        cache = KVCache(vlm.config.text, room, vlm.dtype, vlm.interpreter.zeros)
        for table in (cache.k, cache.v):
            for layer in table:
                layer[:context] = draw.standard_normal((context, *layer.shape[1:]), np.float32)
        cache.lengths = np.array([context])

        def run() -> None:
            with running(vlm.interpreter):
                step(token, token.no_features, cache, vlm.weights)
        return run

    def read_a_token(self) -> int:
        """Bytes of weights that a further token reads."""
        from minivl.run.costs import stored_bytes, weights_of
        decoder = self.vlm.weights.decoder
        return sum(map(stored_bytes, [*weights_of(decoder.layers), decoder.head.weight]))

    def prepare_photo(self, pixels: Array) -> Any:
        """A photo into patches, by way of the whole prompt."""
        content = [{"type": "image", "image": pixels}, {"type": "text", "text": "What is this?"}]
        return self.vlm.prepare([{"role": "user", "content": content}])

    def facts(self) -> dict[str, Any]:
        """What a figure of this side depends on."""
        from ..record import blas_kernel
        found = {"blas": blas_kernel()}
        if hasattr(self, "tier"):
            from minivl.kernels.jit.team import team
            found |= {"tier": self.tier, "team": team().size}
        return found


class Transformers:
    """The reference, in one precision with one kind of attention."""

    def __init__(self, precision: str, attention: str, folder: Path, threads: int):
        import torch
        from transformers import Qwen2_5_VLForConditionalGeneration
        from transformers.utils import logging
        torch.set_num_threads(threads)
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.folder, self.torch, self.dtype = folder, torch, getattr(torch, precision)
        self.model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder, dtype=self.dtype, attn_implementation=attention).eval()

    def vision(self, patches: Array, grid: Array) -> Array:
        with self.torch.inference_mode():
            rows = self.torch.from_numpy(patches).to(self.dtype)
            seen = self.model.model.visual(rows, grid_thw=self.torch.from_numpy(grid))
        return seen.pooler_output.float().numpy()

    def logits(self, ids: list[int]) -> Array:
        with self.torch.inference_mode():
            return self.model(input_ids=self.torch.tensor([ids])).logits[0].float().numpy()

    def prefill(self, ids: list[int]) -> int:
        with self.torch.inference_mode():
            told = self.model(input_ids=self.torch.tensor([ids]), use_cache=True, logits_to_keep=1)
        return int(told.logits[0, -1].argmax())

    def decoding(self, context: int, steps: int) -> Step:
        from transformers import DynamicCache
        text = self.model.config.text_config
        width = text.hidden_size // text.num_attention_heads
        cache = DynamicCache(config=text)
        for layer in range(text.num_hidden_layers):
            shape = (1, text.num_key_value_heads, context, width)
            cache.update(*(self.torch.randn(shape, dtype=self.dtype) for _ in "kv"), layer)
        token, place = self.torch.tensor([[1]]), self.torch.full((3, 1, 1), context)

        def run() -> None:
            with self.torch.inference_mode():
                self.model(input_ids=token, position_ids=place, past_key_values=cache, use_cache=True,
                           logits_to_keep=1)
        return run

    def read_a_token(self) -> int:
        model = self.model
        weights = [*model.model.language_model.layers.parameters(), model.lm_head.weight]
        return sum(one.numel() * one.element_size() for one in weights)

    def prepare_photo(self, pixels: Array) -> Any:
        from PIL import Image
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
        if not hasattr(self, "processor"):
            self.processor = Qwen2VLImageProcessorPil.from_pretrained(self.folder)
        return self.processor(images=[Image.fromarray(pixels)], return_tensors="np")

    def facts(self) -> dict[str, Any]:
        import transformers
        return {"torch": self.torch.__version__, "transformers": transformers.__version__,
                "torch_threads": self.torch.get_num_threads()}


class LlamaCpp:
    """llama.cpp by its Python binding, decoder alone, in one of its formats."""

    def __init__(self, format: str, folder: Path, threads: int):
        import llama_cpp
        self.module, self.threads = llama_cpp, threads
        self.path = self.made(format, folder)
        self.model = self._opened(n_ctx=16384, n_batch=512)

    @staticmethod
    def made(format: str, folder: Path) -> Path:
        """The GGUF file in a format, made where it is not there yet."""
        from tools.checkpoints.gguf_of import quantised
        return quantised(folder, format)

    def _opened(self, **options: Any) -> Any:
        return self.module.Llama(str(self.path), n_threads=self.threads, n_threads_batch=self.threads,
                                 verbose=False, **options)

    def logits(self, ids: list[int]) -> Array:
        short = self._opened(n_ctx=64, n_batch=64, logits_all=True)
        short.eval(ids)
        return np.array(short.scores[:len(ids)])

    def prefill(self, ids: list[int]) -> int:
        self.model.reset()
        self.model.eval(ids)
        return int(np.argmax(self.model.eval_logits[-1]))

    def decoding(self, context: int, steps: int) -> Step:
        self.model.reset()
        self.model.eval([1] * context)
        return lambda: self.model.eval([1])

    def read_a_token(self) -> int:
        return self.path.stat().st_size

    def facts(self) -> dict[str, Any]:
        return {"llama_cpp": self.module.__version__}


class OpenVino:
    """OpenVINO, decoder alone, from a GGUF file in one of the formats that it reads. Its own generation runs ahead of
    whoever listens, so the model that it makes of the file is called token by token."""

    def __init__(self, format: str, folder: Path, threads: int):
        import openvino
        self.version, self.format, self.folder = openvino.__version__, format, folder
        model = openvino.Core().read_model(self.made(format, folder))
        self._last_row_alone(model)
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads,
                                                                "PERFORMANCE_HINT": "LATENCY"})
        self.request = compiled.create_infer_request()
        self.read = 0                          # tokens in its state

    @staticmethod
    def file(format: str, folder: Path) -> Path:
        """The GGUF file that it reads, made where it is not there yet."""
        from tools.checkpoints.gguf_of import quantised
        return quantised(folder, format, "qwen2")

    @staticmethod
    def made(format: str, folder: Path) -> Path:
        """The model of a GGUF file, which OpenVINO GenAI writes beside the file; made once."""
        path, room = OpenVino.file(format, folder), folder / f"openvino-{format}"
        if not (room / "openvino_model.xml").exists():
            import openvino_genai
            room.mkdir(exist_ok=True)
            link = room / path.name
            link.unlink(missing_ok=True)       # of a run that was interrupted
            link.symlink_to(path.resolve())
            openvino_genai.LLMPipeline(str(link), "CPU", enable_save_ov_model=True)
        return room / "openvino_model.xml"

    @staticmethod
    def _last_row_alone(model: Any) -> None:
        """Scores of the last token, as OpenVINO GenAI itself asks for."""
        from openvino import opset13 as ops
        node = model.output("logits").get_node()
        while node.get_type_name() != "MatMul":
            node = node.input_value(0).get_node()
        begin, end, by, axis = (ops.constant([number], np.int64) for number in (-1, 2**62, 1, 1))
        node.input(0).replace_source_output(ops.slice(node.input_value(0), begin, end, by, axis).output(0))

    def _run(self, ids: list[int]) -> Array:
        """Scores of the last of these tokens, which follow those before."""
        new, begin = np.array([ids], np.int64), self.read
        self.read += len(ids)
        found = self.request.infer({"input_ids": new, "attention_mask": np.ones((1, self.read), np.int64),
                                    "position_ids": np.arange(begin, self.read)[None],
                                    "beam_idx": np.zeros(1, np.int32)})
        return np.array(found["logits"][0, -1])

    def _reset(self) -> None:
        self.request.reset_state()
        self.read = 0

    def logits(self, ids: list[int]) -> Array:
        self._reset()
        return np.stack([self._run([one]) for one in ids])

    def prefill(self, ids: list[int]) -> int:
        self._reset()
        return int(self._run(ids).argmax())

    def decoding(self, context: int, steps: int) -> Step:
        self.prefill([1] * context)
        return lambda: self._run([1])

    def read_a_token(self) -> int:
        return self.file(self.format, self.folder).stat().st_size

    def facts(self) -> dict[str, Any]:
        return {"openvino": self.version}


def _sides() -> list[Side]:
    found = [Side(f"minivl-definition-{format}-{precision}", partial(Minivl, "definition", precision),
                  (), (format, precision) == ("bf16", "float32"), None if format == "bf16" else format)
             for format in ("bf16", "int8", "int4") for precision in ("float32", "bfloat16")]
    found += [Side(f"minivl-jit-{format}-{precision}", partial(Minivl, "jit", precision),
                   ("numba",), (format, precision) == ("bf16", "float32"), format,
                   partial(Minivl.compiled, "jit", precision))
              for format in ("bf16", "int8", "int4") for precision in ("float32", "bfloat16")]
    found.append(Side("minivl-jit-int8-int8", partial(Minivl, "jit-int8", "bfloat16"), ("numba",), packed="int8",
                      makes=partial(Minivl.compiled, "jit-int8", "bfloat16")))
    found += [Side(f"transformers-{precision}-{attention}", partial(Transformers, precision, attention),
                   ("torch", "transformers"), photo=(precision, attention) == ("float32", "sdpa"))
              for precision in ("float32", "bfloat16") for attention in ("eager", "sdpa")]
    found += [Side(f"llama.cpp-{format}", partial(LlamaCpp, format), ("llama_cpp", "gguf"),
                   makes=partial(LlamaCpp.made, format), free="llama.cpp is built for one processor")
              for format in ("bf16", "q8_0", "q4_0", "q4_K_M")]
    return found + [Side(f"openvino-{format}", partial(OpenVino, format),
                         ("openvino_genai", "gguf", *["llama_cpp"] * (format != "f16")),
                         makes=partial(OpenVino.made, format), free="nothing is known that would hold OpenVINO")
                    for format in ("f16", "q8_0", "q4_0")]


SIDES = {side.name: side for side in _sides()}
# what runs when no side is named: the definitions take minutes a row over int8 and int4
USUAL = ("minivl-definition-bf16-*", "minivl-jit-*", "transformers-*", "llama.cpp-*", "openvino-*")
GOLDEN = partial(Minivl, "definition", "float64")
