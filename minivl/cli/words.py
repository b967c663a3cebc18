"""The command line: words, options and exit codes. What a command does stands in a file of its
family beside this one.

Exit codes: 0 done; 1 a check failed (an audit, a contract) or minivl itself did; 2 wrong input; 130
interrupted. An error is one line on stderr; `--debug`, anywhere on the line, shows the traceback
instead. Heavy imports wait until a command runs. Read next: `console.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .options import Cache, Chunk, Model, Parallel, Precision, explained, takes


class Words(TyperGroup):
    """The group of commands, with every way out in one place."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """Run one command and exit with its code."""
        from .console import be_lenient
        be_lenient()
        given = sys.argv[1:] if args is None else list(args)
        debug = "--debug" in given
        args = [word for word in given if word != "--debug"] if debug else args
        options["standalone_mode"] = False                     # exits and errors come here as exceptions
        sys.exit(_guarded(lambda: super(Words, self).main(args, *rest, **options), debug))


def _guarded(command: Callable[[], Any], debug: bool) -> int:
    """The exit code of a command; its error is told in one line."""
    try:
        code = command()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:                             # `minivl passes | head`: nobody listens any more
        _silence()
        return 1
    except Exception as error:
        if debug:
            raise
        words, code = explained(error)
        print(f"minivl: {words}", file=sys.stderr)
        return code


def _silence() -> None:
    """Let the interpreter's last flush go nowhere."""
    import os
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")   # noqa: SIM115, PTH123 - for the rest of the process


app = typer.Typer(cls=Words, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False,
                  context_settings={"help_option_names": ["-h", "--help"]})

Image = Annotated[str, typer.Argument(metavar="IMAGE",
                                      help="A picture: a file, or a file: or data: URL.")]
Images = Annotated[list[str], typer.Argument(metavar="IMAGE", help=(
    "Pictures and video files (.mp4, .mkv, .webm, .mov, ...), or file: or data: URLs of them."))]
SomeImages = Annotated[list[str] | None, typer.Argument(metavar="[IMAGE]", help="Pictures.",
                                                        show_default=False)]
Question = Annotated[str, typer.Argument(metavar="QUESTION")]
Length = Annotated[int, typer.Option("--max-new-tokens", min=1, metavar="N",
                                     help="The answer has at most N tokens.")]
SHARE = "what is seen of a pass would be one rank's share of it; leave --parallel out"
FaultName = Annotated[str | None, typer.Option("--fault", metavar="NAME", show_default=False, help=(
    "Run with a known fault in the model; `minivl faults` lists them."))]
FramesPerSecond = Annotated[float | None, typer.Option("--fps", min=0, metavar="F", show_default=False,
                                                       help=(
    "The pictures are the frames of one video, F of them a second. Of a video file: show F frames a second "
    "(2 unless said)."))]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]


@app.callback(invoke_without_command=True)
def start(context: typer.Context,
          version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
          debug: Annotated[bool, typer.Option("--debug",
                                              help="Show tracebacks; may stand anywhere.")] = False) -> None:
    """Qwen2.5-VL as explicit array code: ask it, watch every pass of it, take a checkpoint apart."""
    if version:
        from ..door.version import VERSION
        typer.echo(f"minivl {VERSION}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def demo(output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.png",
                                              help="Where the picture goes.")]
         = Path("minivl-demo.png")) -> None:
    """Answer about samples, and draw it. The embedded model looks at pictures; one file shows what
    happens inside."""
    from ..door.files import check_place
    from ..show.demo import main as show
    from .console import console
    check_place(output, ".png")
    show(output, console())


@app.command()
@takes()
def ask(images: Images, question: Question, *, chosen: Any, keeping: Any, max_new_tokens: Length = 128,
        fps: FramesPerSecond = None,
        temperature: Annotated[float | None, typer.Option(min=0, metavar="T", show_default=False, help=(
            "0 is greedy; without it the checkpoint decides."))] = None,
        seed: Annotated[int | None, typer.Option(min=0, metavar="N", show_default=False, help=(
            "For drawing tokens; 0 without it."))] = None,
        stream: Annotated[bool, typer.Option("--stream", help="Print words as they come.")] = False,
        show_costs: Annotated[bool, typer.Option("--costs", help=(
            "With --memory: where the time went. With --parallel: what each rank holds and has sent."))] = False,
        fault: FaultName = None) -> None:
    """Answer a question about pictures or a video: a file, or its frames. The question comes last."""
    from .ask import ask
    from .faults import planted
    with planted(fault):
        ask(images, question, chosen, max_new_tokens, temperature, seed, stream, fps, keeping, show_costs)


@app.command()
@takes()
def ground(image: Image, question: Question, *,
           output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.png", help=(
               "Where the picture with the boxes goes."))] = Path("minivl-ground.png"),
           chosen: Any, keeping: Any, max_new_tokens: Length = 512,
           as_json: AsJson = False, fault: FaultName = None) -> None:
    """Find things in a picture, and draw boxes on it. Greedily; exit code 1 when the answer names no
    place.

    JSON: image, question, answer, source_size, resized_size, notes, picture, found: [label, box,
        point, said].
    Sizes are [height, width]; box (x0, y0, x1, y1) and point (x, y) are in pixels of the picture as it
    came, turned upright; said is what the model wrote, in pixels of the resized picture.
    """
    from .faults import planted
    from .ground import ground
    with planted(fault):
        found = ground(image, question, output, chosen, max_new_tokens, as_json, keeping)
    raise typer.Exit(0 if found else 1)


@app.command()
@takes()
def parse(image: Image, *,
          form: Annotated[str, typer.Option("--format", metavar="html|markdown|json", help=(
              "What the page becomes. JSON: the lines of text and their boxes, unless --question asks for else."))]
          = "html",
          question: Annotated[str | None, typer.Option("--question", metavar="TEXT", show_default=False, help=(
              "Asked in place of the words that official models know."))] = None,
          schema: Annotated[Path | None, typer.Option("--schema", metavar="FILE", show_default=False, help=(
              "With --format json: a JSON Schema that the answer must fit."))] = None,
          output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", show_default=False, help=(
              "Where the document goes; without it to stdout."))] = None,
          chosen: Any, keeping: Any, max_new_tokens: Length = 2048, as_json: AsJson = False) -> None:
    """Read a picture of a page, form or screen. Boxes are in pixels of the picture as it came; greedily.

    Exit code 0: a whole document; 1: the answer is none (cut short, no HTML or JSON, not as the schema says),
    and nothing is written; 2: wrong input. JSON: image, format, valid, problems, notes, document, elements:
    [kind, box, text], answer.
    """
    from .parse import parse
    raise typer.Exit(parse(image, form, question, schema, output, chosen, max_new_tokens, as_json, keeping))


@app.command()
@takes()
def chat(images: Annotated[list[str] | None, typer.Argument(metavar="[IMAGE]", show_default=False, help=(
             "Pictures and videos for the first question."))] = None, *,
         chosen: Any, keeping: Any, max_new_tokens: Length = 512,
         temperature: Annotated[float | None, typer.Option(min=0, metavar="T", show_default=False, help=(
             "0 is greedy; without it the checkpoint decides."))] = None,
         seed: Annotated[int, typer.Option(min=0, metavar="N", help="For drawing tokens.")] = 0,
         system: Annotated[str, typer.Option(metavar="TEXT", show_default=False, help=(
             "What the model is told before the first question."))] = "") -> None:
    """Talk with the model in the terminal. Pictures by path or paste, answers as they come; /help lists commands.

    Without a terminal, lines are read from stdin; exit code 2 when one of them was refused.
    """
    from .chat.command import chat
    from .chat.talk import Way
    raise typer.Exit(chat(images or [], chosen, system, Way(max_new_tokens, temperature, seed, keeping)))


# of `minivl serve`
Bytes = Annotated[int, typer.Option("--max-body", min=1024, metavar="BYTES", help="Of a request.")]
Pixels = Annotated[int, typer.Option("--max-pixels", min=784, metavar="N", help=(
    "Of all pictures of a request, as they came and as the model sees them."))]
Frames = Annotated[int, typer.Option("--max-frames", min=2, metavar="N", help=(
    "Of all video files of a request, as far as they are shown."))]
PromptTokens = Annotated[int, typer.Option("--max-prompt-tokens", min=1, metavar="N", help=(
    "Of a request, pictures included."))]
NewTokens = Annotated[int, typer.Option("--max-new-tokens", min=1, metavar="N", help=(
    "Of an answer; a request may ask for fewer."))]
Seconds = Annotated[float, typer.Option("--max-seconds", min=1, metavar="S", help=(
    "From a request to the end of its reply."))]
AtATime = Annotated[int, typer.Option("--together", min=1, max=64, metavar="N", help=(
    "So many requests are answered at a time."))]
Waiting = Annotated[int, typer.Option("--max-waiting", min=0, metavar="N", help="Further ones that wait.")]
AllTokens = Annotated[int | None, typer.Option("--max-tokens", min=2, metavar="N", show_default=False, help=(
    "Of all that are answered at a time, prompts and answers: the KV cache. Without it 32,768, or what one "
    "request may have."))]
Kept = Annotated[int, typer.Option("--prompt-cache", min=0, metavar="BYTES", help=(
    "Of rows that are kept for the next turn of a conversation; 0: none."))]
Hosts = Annotated[list[str], typer.Option("--allow-urls", metavar="HOST", help=(
    "Fetch pictures and videos from this host. May be given again; without it nothing is fetched."))]
Folders = Annotated[list[Path], typer.Option("--allow-files", metavar="FOLDER", help=(
    "Open pictures and videos in this folder. May be given again; without it no file is opened."))]


@app.command()
@takes("a server runs whenever a request comes, which other ranks do not hear of: ask with minivl ask or chat")
def serve(*, chosen: Any, storage: Any,
          name: Annotated[str | None, typer.Option("--name", metavar="NAME", show_default=False, help=(
              "What the model is called; without it as its folder."))] = None,
          host: Annotated[str, typer.Option(metavar="ADDRESS", help=(
              "Where to listen. Another than 127.0.0.1 lets other machines in, and needs a key in "
              "MINIVL_SERVER_KEY."))] = "127.0.0.1",
          port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="0: one that is free.")] = 8000,
          allow_urls: Hosts = [], allow_files: Folders = [],  # noqa: B006
          allow_host: Annotated[list[str], typer.Option(metavar="NAME", help=(
              "A name of this server in the Host header, besides addresses and localhost."))] = [],  # noqa: B006
          max_body: Bytes = 33_554_432, max_pixels: Pixels = 33_554_432, max_frames: Frames = 256,
          max_prompt_tokens: PromptTokens = 8192, max_new_tokens: NewTokens = 1024, max_seconds: Seconds = 300,
          together: AtATime = 4, max_waiting: Waiting = 8, max_tokens: AllTokens = None,
          prompt_cache: Kept = 1 << 30) -> None:
    """Answer programs over HTTP. The protocol is that of OpenAI's chat completions, for this machine alone unless
    --host says else. Ctrl-C stops it, with exit code 0.
    """
    from .serve.command import serve
    from .serve.limits import ServerLimits
    one = max_prompt_tokens + max_new_tokens
    limits = ServerLimits(body=max_body, pixels=max_pixels, frames=max_frames, prompt_tokens=max_prompt_tokens,
                          new_tokens=max_new_tokens, seconds=max_seconds, waiting=max_waiting,
                          together=together, rows=max(32_768, one) if max_tokens is None else max_tokens,
                          kept=prompt_cache)
    serve(chosen, name, host, port, (allow_urls, allow_files), allow_host, limits, storage)


@app.command()
@takes(SHARE)
def passes(image: Annotated[str | None, typer.Argument(metavar="[IMAGE]", show_default=False, help=(
               "Without it: a sample picture."))] = None,
           question: Annotated[str | None, typer.Argument(metavar="[QUESTION]",
                                                          show_default=False)] = None, *,
           chosen: Any, keeping: Any, max_new_tokens: Length = 16,
           everything: Annotated[bool, typer.Option("--all",
                                                    help="Every block and every decoding step.")] = False,
           as_json: AsJson = False) -> None:
    """List every pass of a run. With its contract, what came out, seconds and floating-point operations.

    JSON: image, question, answer, seconds, flops, passes: [key, label, contract,
    outputs: [dtype, shape], seconds, flops]; never folded.
    """
    from .run import passes
    passes(image, question, chosen, max_new_tokens, everything, as_json, keeping)


@app.command()
@takes(SHARE)
def run(image: Image, question: Question, *, chosen: Any, keeping: Any, max_new_tokens: Length = 32,
        print_after: Annotated[list[str], typer.Option(metavar="PATTERN", help=(
            "Print what comes out of matching passes, as in 'vision.*'. May be given again."))] = [],  # noqa: B006
        stop_after: Annotated[str | None, typer.Option(metavar="LABEL", show_default=False, help=(
            "Stop there and print what came out."))] = None,
        verify_each: Annotated[bool, typer.Option("--verify-each", help=(
            "Check each pass against its contract."))] = False,
        dump: Annotated[Path | None, typer.Option(metavar="DIR", show_default=False, help=(
            "Write what comes out of each pass into a new folder, as .npy."))] = None,
        record: Annotated[list[str], typer.Option(metavar="PATTERN", help=(
            "With --dump: write matching passes only. May be given again."))] = [],  # noqa: B006
        profile: Annotated[bool, typer.Option("--profile", help=(
            "Print seconds and FLOPs of the passes."))] = False,
        fault: FaultName = None) -> None:
    """Answer while every pass is watched. Greedily; labels and patterns are those that `minivl passes`
    lists."""
    from .faults import planted
    from .run import run
    with planted(fault):
        run(image, question, chosen, max_new_tokens, print_after, record, dump, stop_after, verify_each,
            profile, keeping)


@app.command()
def faults(name: Annotated[str | None, typer.Argument(metavar="[NAME]", show_default=False, help=(
               "One fault: its story, and the wrong code beside the right one."))] = None,
           score: Annotated[bool, typer.Option("--score",
                                               help="Which check finds which fault.")] = False,
           markdown: Annotated[bool, typer.Option("--markdown", help=(
               "With --score: the page docs/made/bug-museum.md."))] = False,
           shadow: Annotated[bool, typer.Option("--shadow", help=(
               "Run it beside the model on its smallest input and name the passes that differ."))] = False,
           as_json: AsJson = False) -> None:
    """Walk through the bug museum. Wrong passes from public incidents; exit code 1 when one is not
    found.

    JSON: a list of name, label, incidents, year, symptom, story, shows_on, ordinary_check; with
    --shadow: name, label, guilty: {pass: error}, right, seconds; with --score: {fault: [check]}.
    """
    from .faults import faults
    raise typer.Exit(faults(name, score, shadow, markdown, as_json))


@app.command()
@takes(SHARE)
def explore(words: Annotated[list[str], typer.Argument(metavar="IMAGE... QUESTION", help=(
                "Pictures, then a question; or the folder of a dump alone (minivl run --dump)."))], *,
            output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.html",
                                                 help="Where the page goes.")]
            = Path("minivl-run.html"),
            beside: Annotated[list[str], typer.Option(metavar="WORD", help=(
                "A second run beside the first: another question, picture or dump. May be given again."))]
            = [],  # noqa: B006
            fps: FramesPerSecond = None, chosen: Any, keeping: Any, max_new_tokens: Length = 64) -> None:
    """Make a page of a run. Point at a pixel, token, window or stage and see what belongs to it; one
    HTML file."""
    from .explore import explore
    explore(words, beside, output, fps, chosen, max_new_tokens, keeping)


@app.command()
def explain(model: Annotated[str | None, typer.Option("--model", metavar="3B|7B|32B|72B|DIR",
                                                      show_default=False, help=(
                "A released size, whose weights need not be there, or a folder. Without it: the "
                "embedded model."))] = None,
            image: Annotated[list[str], typer.Option(metavar="WIDTHxHEIGHT", help=(
                "A picture of this size is in the prompt. May be given again."))] = [],  # noqa: B006
            text_tokens: Annotated[int, typer.Option(min=2, metavar="N",
                                                     help="Tokens of text in the prompt.")] = 32,
            new_tokens: Annotated[int, typer.Option(min=1, metavar="N",
                                                    help="Tokens of the answer.")] = 100,
            precision: Precision = "float32", cache: Cache = None, chunk: Chunk = None, parallel: Parallel = None,
            as_json: AsJson = False) -> None:
    """Tell what a run costs. Every pass with its shapes, parameters, operations and bytes; no weights
    are needed. With --parallel: what each rank of a job would hold and send.

    JSON with --parallel: model, parallel, precision, tokens, ranks: [rank, stage, shard, layers, weights,
    cache, prompt, token], prompt, token; bytes, those of the last four by kind.
    JSON: model, precision, weights, tokens, visual_tokens, new_tokens, prefill, first, last: [label, contract,
    shapes, runs, parameters, flops, moved, held], weight_bytes, cache, cache_bytes, chunk, peak_bytes,
    prefill_flops, decode_flops.
    """
    from .explain import explain
    from .geometry import parse_size
    explain(model, [parse_size(one, "--image") for one in image], text_tokens, new_tokens, precision,
            as_json, cache, chunk, parallel)


@app.command()
def inspect(model: Annotated[str | None, typer.Argument(metavar="[MODEL_DIR]", show_default=False, help=(
                "A checkpoint's folder, or a name on the hub. Without it: the embedded model."))] = None,
            as_json: AsJson = False) -> None:
    """Audit a checkpoint's folder. Shows what is in it and what is wrong with it; exit code 1 when
    something is.

    JSON: folder, ok, official_size, packed: [weights, source, minivl], files, problems, notes, config,
        preprocessor, videos, generation, tensors: [count, expected, formats, bytes, parameters],
        parts: [part, parameters, expected], head: [tied, tensor], audit.
    """
    from .inspect import inspect
    raise typer.Exit(0 if inspect(model, as_json) else 1)


@app.command()
def convert(source: Annotated[str, typer.Argument(metavar="MODEL_DIR", help=(
                "A checkpoint's folder, a name on the hub, or a .gguf file."))],
            target: Annotated[Path, typer.Argument(metavar="NEW_DIR", help="Where the packed one goes.")],
            weights: Annotated[str, typer.Option("--weights", metavar="bf16|f32|int8|int4", help=(
                "How numbers are kept; bf16 rounds those of a float32 or float16 checkpoint, f32 keeps them; int4 "
                "keeps patches, merger, embedding and head in int8."))] = "bf16",
            ) -> None:
    """Pack a checkpoint for the compiled interpreter. It is then mapped and used where it lies.

    What was stopped goes on with the same command; every tensor is read back. Config, tokenizer and
    settings are copied. AWQ checkpoints and .gguf files are packed too: with int4 the four bits of AWQ stay
    as they are.
    """
    from .convert import convert
    convert(source, target, weights)


@app.command()
def tokens(images: SomeImages = None,
           size: Annotated[list[str], typer.Option(metavar="WxH", help=(
               "A size in pixels, as in 640x480, instead of a picture. May be given again."))] = [],  # noqa: B006
           model: Annotated[str | None, typer.Option("--model", metavar="DIR", show_default=False, help=(
               "A checkpoint whose settings hold. Without it: those of the official releases."))] = None,
           min_pixels: Annotated[int | None, typer.Option(min=1, metavar="N", show_default=False, help=(
               "Least area after resizing."))] = None,
           max_pixels: Annotated[int | None, typer.Option(min=1, metavar="N", show_default=False, help=(
               "Largest area after resizing."))] = None,
           fps: FramesPerSecond = None, as_json: AsJson = False) -> None:
    """Count the tokens of pictures. Shows how they are resized and cut; no weights needed.

    JSON: min_pixels, max_pixels, max_tokens, limits_from, videos: [min_pixels, max_pixels, limits_from],
        window_size, pictures: [name, source_size, resized_size, grid, patches,
        windows, smallest_window, tokens, share_of_max], total. Sizes are [height, width].
    """
    from .geometry import tokens
    tokens(images or [], size, model, min_pixels, max_pixels, as_json, fps)


@app.command()
def where(images: Images,
          token: Annotated[int | None, typer.Option(min=0, metavar="N", show_default=False, help=(
              "The number of a visual token."))] = None,
          pixel: Annotated[str | None, typer.Option(metavar="X,Y", show_default=False, help=(
              "A pixel of the picture as it came, from its upper left corner."))] = None,
          picture: Annotated[int, typer.Option(min=0, metavar="N", help=(
              "Which of the pictures, or of the frames, the pixel is of, from 0."))] = 0,
          model: Model = None, fps: FramesPerSecond = None, as_json: AsJson = False) -> None:
    """Find one visual token. Its pixels, patches, window, row in the prompt and positions; no weights
    needed.

    JSON: image, images, given, first, kind, source_size, resized_size, grid, tokens, prompt_length,
        token, sequence, medium, time, cell, patches, window_rows, segments, position, box, source_box,
        full_attention_blocks. Boxes are x0, y0, x1, y1.
    """
    from .geometry import where
    where(images, token, pixel, model, as_json, fps, picture)


trace = typer.Typer(cls=TyperGroup, rich_markup_mode=None, no_args_is_help=True,
                    help="Record what every stage of a run gives, for `minivl diff`.")
app.add_typer(trace, name="trace")


Key = Annotated[str | None, typer.Option("--key", metavar="WORD", show_default=False, help=(
    "Of fingerprints: those of one key can be compared. A new one is drawn and told without it."))]


@trace.command("record")
@takes(SHARE)
def trace_record(
        words: Annotated[list[str] | None, typer.Argument(metavar="[IMAGE ... QUESTION]",
                                                          show_default=False, help=(
            "Pictures, then the question. Without them: a sample."))] = None, *,
        output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The trace.")]
        = Path("golden.safetensors"),
        source: Annotated[str, typer.Option("--from", metavar="minivl|transformers",
                                            help="Whose run.")] = "minivl",
        chosen: Any,
        precision: Annotated[str | None, typer.Option(show_default=False, help=(
            "float64, float32, float16 or bfloat16; without it float64 for minivl, float32 for "
            "transformers."))] = None,
        attention: Annotated[str, typer.Option(metavar="sdpa|eager", help="Of transformers.")] = "sdpa",
        select: Annotated[list[str], typer.Option(metavar="PATTERN", help=(
            "Keep matching stages only. May be given again."))] = [],  # noqa: B006
        layers: Annotated[str | None, typer.Option(metavar="N,N-N", show_default=False, help=(
            "Keep these blocks and layers only."))] = None,
        rows: Annotated[list[str], typer.Option(metavar="LETTER=N,N-N", help=(
            "Keep these rows of arrays with this axis letter, as in s=0,5-9. May be given again."))] = [],  # noqa: B006
        no_pixels: Annotated[bool, typer.Option("--no-pixels", help=(
            "Write fingerprints instead of arrays, under a key that you keep."))] = False,
        key: Key = None,
        yardstick: Annotated[list[str] | None, typer.Option(metavar="PRECISION", show_default=False,
                                                            help=(
            "Measure the rounding of this precision too. May be given again; for a float64 run of "
            "minivl: all."))]
        = None,
        answer: Annotated[int, typer.Option(min=0, metavar="N", help=(
            "Add the model's own answer, at most N tokens, to the prompt."))] = 0) -> None:
    """Record the golden values of a run. Or the run of transformers under the same labels."""
    from .trace import record
    images, question = (words[:-1], words[-1]) if words else ([], None)
    record(images, question, output, source, chosen, precision, attention, select, layers, rows, not no_pixels, key,
           yardstick, answer)


@trace.command("show")
def trace_show(path: Annotated[Path, typer.Argument(metavar="TRACE")],
               pattern: Annotated[str, typer.Argument(metavar="[PATTERN]")] = "*",
               as_json: AsJson = False) -> None:
    """List what is in a trace."""
    from .trace import show
    show(path, pattern, as_json)


@trace.command("fingerprint")
def trace_fingerprint(
        path: Annotated[Path, typer.Argument(metavar="TRACE")],
        output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The fingerprints.")]
        = Path("prints.safetensors"),
        key: Key = None) -> None:
    """Write the fingerprints of a trace: kilobytes that can be sent, and compared with `minivl diff`."""
    from .trace import fingerprint
    fingerprint(path, output, key)


@trace.command("import")
def trace_import(
        dump: Annotated[Path, typer.Argument(metavar="DUMP", help=(
            ".npz, .safetensors, .bin, or a folder of .npy or .bin."))],
        output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The trace.")]
        = Path("candidate.safetensors"),
        golden: Annotated[Path, typer.Option(metavar="TRACE", help="Of the same prompt, that minivl recorded.")]
        = Path("golden.safetensors"),
        names: Annotated[Path | None, typer.Option(metavar="FILE.json", show_default=False, help=(
            "What the names mean: {name: label}. Without it they are guessed."))] = None,
        precision: Annotated[str | None, typer.Option(show_default=False, help=(
            "That it was computed in; without it what its numbers show."))] = None) -> None:
    """Write down what is understood of a dump, as a trace under minivl's labels: to be looked at once, and
    compared as often as needed."""
    from .trace import import_dump
    import_dump(dump, output, golden, names, precision)


TestReport = Annotated[Path | None, typer.Option("--junit", metavar="FILE.xml", show_default=False, help=(
    "Write a test report for a build server: an array is a test."))]
Findings = Annotated[Path | None, typer.Option("--sarif", metavar="FILE.sarif", show_default=False, help=(
    "Write what is bad as findings, for a code host."))]



@app.command()
def diff(golden: Annotated[Path, typer.Argument(metavar="GOLDEN", help="A trace that minivl recorded.")],
         candidate: Annotated[Path, typer.Argument(metavar="CANDIDATE", help=(
             "A trace, a dump, .npz, .safetensors, .bin, or a folder of .npy or .bin."))],
         names: Annotated[Path | None, typer.Option(metavar="FILE.json", show_default=False, help=(
             "What the candidate's names mean: {name: label}."))] = None,
         guessed: Annotated[Path | None, typer.Option("--guess", metavar="FILE.json",
                                                      show_default=False, help=(
             "Guess the names from the numbers, write the table to FILE.json, and go on with it."))] = None,
         precision: Annotated[str | None, typer.Option(show_default=False, help=(
             "That the candidate computed in; without it what its numbers show."))] = None,
         weights: Annotated[str | None, typer.Option(metavar="int8|int4", show_default=False, help=(
             "How the candidate keeps its weights: what that costs is no difference."))] = None,
         key: Key = None,
         local: Annotated[bool, typer.Option("--local", help=(
             "Run each stage on the candidate's own values: names every guilty one. Needs the model."))] = False,
         model: Model = None,
         everything: Annotated[bool, typer.Option("--all",
                                                  help="Every stage, not only the bad ones.")] = False,
         page: Annotated[Path | None, typer.Option("--html", metavar="FILE.html", show_default=False,
                                                   help=(
             "Write a page with a map of the difference."))] = None,
         known: Annotated[Path | None, typer.Option("--baseline", metavar="FILE.json",
                                                    show_default=False, help=(
             "What is known to differ, by name or pattern: only what is worse counts."))] = None,
         write_known: Annotated[Path | None, typer.Option("--write-baseline", metavar="FILE.json",
                                                          show_default=False,
                                                          help="Write down what differs now.")] = None,
         xml: TestReport = None, findings: Findings = None,
         as_json: AsJson = False) -> None:
    """Find where another implementation goes wrong first. Each stage: exact, rounding, suspicious or
    wrong.

    Exit code 0: the same within rounding; 1: different; 2: cannot be compared. JSON: golden,
    candidate, producer, precision, words, first_bad, suspects, untapped, unused, aligned, warnings,
    judged, logits, local, slices, letters, computed, unplaced, differs.
    """
    from .trace import diff
    raise typer.Exit(diff(golden, candidate, names, guessed, precision, weights, key, local, model, everything,
                          as_json, page, known,
                          write_known, xml, findings))


Candidate = Annotated[str | None, typer.Option("--candidate", metavar="FILE.py:NAME",
                                               show_default=False, help=(
    "An object with cuts() and run(), a torch module, or a table of functions by stage."))]
Command = Annotated[str | None, typer.Option("--command", metavar="PROGRAM", show_default=False, help=(
    "A program that exchanges files, with its words."))]
TheirPrecision = Annotated[str | None, typer.Option("--precision", show_default=False, help=(
    "Of a program's activations; float32 without it."))]
Exchange = Annotated[str | None, typer.Option("--exchange", metavar="safetensors|npz",
                                              show_default=False, help=(
    "The files of a program; safetensors without it."))]
Prompt = Annotated[list[str] | None, typer.Argument(metavar="[IMAGE ... QUESTION]", show_default=False,
                                                    help=(
    "Pictures, then the question. Without them: a sample."))]


@app.command()
def bisect(golden: Annotated[Path, typer.Argument(metavar="GOLDEN",
                                                  help="A trace that minivl recorded.")],
           candidate: Candidate = None, command: Command = None, fault: FaultName = None,
           precision: TheirPrecision = None, exchange: Exchange = None, model: Model = None,
           as_json: AsJson = False) -> None:
    """Find the guilty passes of a candidate that runs. Golden values go in at its cuts; the last
    guilty one first.

    Exit code 0: the same within rounding; 1: different; 2: cannot be bisected. JSON: candidate,
    golden, precision, cuts, trials: [cut, healed, word, ratio, runs, note], guilty: [after, until,
    passes, skipped], notes, runs, settled, verdict.
    """
    from .candidate import run_bisect
    raise typer.Exit(run_bisect(golden, candidate, command, fault, precision, exchange, model, as_json))


@app.command()
def shadow(words: Prompt = None, candidate: Candidate = None, command: Command = None,
           fault: FaultName = None,
           precision: TheirPrecision = None, exchange: Exchange = None, model: Model = None,
           fps: FramesPerSecond = None,
           tolerance: Annotated[float, typer.Option(min=0, metavar="E", help=(
               "Relative error of a stage that is still right; for replaced passes and functions."))] = 1e-5,
           as_json: AsJson = False) -> None:
    """Name every guilty stage of a candidate in one run. Each stage gets golden inputs.

    Exit code 0: the same within rounding; 1: different; 2: cannot be run so. JSON: candidate,
    precision, compared,
    errors: {stage: error}, failures, silent, notes, judged.
    """
    from .candidate import run_shadow
    raise typer.Exit(run_shadow(words or [], fps, candidate, command, fault, precision, exchange,
                                model, tolerance,
                                as_json))


@app.command()
def reduce(words: Prompt = None,
           output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="A new folder.")]
           = Path("smallest"),
           candidate: Candidate = None, command: Command = None, fault: FaultName = None,
           precision: TheirPrecision = None, exchange: Exchange = None, model: Model = None,
           fps: FramesPerSecond = None,
           most: Annotated[int, typer.Option(min=1, metavar="N", help="At most N trials.")] = 1000,
           as_json: AsJson = False) -> None:
    """Shrink a prompt to the smallest on which a candidate still fails. Pictures, prompt and traces go
    into a folder.

    Exit code 0: it does not fail; 1: it does, and the folder is written; 2: wrong input. JSON:
    verdict, failure, first, last, steps, trials, whole, folder, files.
    """
    from .candidate import run_reduce
    raise typer.Exit(run_reduce(words or [], fps, output, candidate, command, fault, precision,
                                exchange, model, most,
                                as_json))


@app.command()
def parity(model: Annotated[str | None, typer.Argument(metavar="[MODEL_DIR]", show_default=False, help=(
               "A checkpoint's folder, or a name on the hub. Without it: the embedded model."))] = None,
           output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.html", help=(
               "The page; the same as .json beside it."))] = Path("parity.html"),
           report: Annotated[Path | None, typer.Option("--verify", metavar="REPORT.json",
                                                       show_default=False, help=(
               "Make everything of a report again, and say what differs."))] = None,
           as_json: AsJson = False) -> None:
    """Compare a checkpoint with transformers, stage by stage. A sealed report; needs torch and
    transformers.

    Exit code 0: the same within rounding, or verified; 1: different, tampered, drifted or incomplete;
    2: cannot be made. JSON: the report; with --verify: verdict, tampered, drifted, changed, missing.
    """
    from .parity import run_parity
    raise typer.Exit(run_parity(model, output, report, as_json))


ServedModel = Annotated[str | None, typer.Option("--served-model", metavar="NAME", show_default=False, help=(
    "With --url: the name by which the server knows the model."))]
Piece = Annotated[list[int] | None, typer.Option(min=64, max=32768, metavar="N", show_default=False, help=(
    "With --url: ask prompts of lengths around so many tokens, which the server reads at a time (its chunk of "
    "prefill); may be given again. Without it 512."))]


@app.command()
def triage(candidate: Annotated[Path | None, typer.Argument(metavar="[CANDIDATE.jsonl]", help=(
               "Answers of another program, one sample a line; docs/guide/triage.md describes the "
               "fields. With --url: where the server's answers are written."))] = None,
           url: Annotated[str | None, typer.Option(metavar="URL", show_default=False, help=(
               "Ask a server that speaks the OpenAI protocol, instead of reading answers."))] = None,
           served_model: ServedModel = None,
           questions: Annotated[int, typer.Option(min=8, max=60, metavar="N", help=(
               "With --url: ask at most so many questions."))] = 60,
           piece: Piece = None,
           model: Model = None,
           precision: Annotated[str | None, typer.Option(show_default=False, help=(
               "Of the candidate; without it what its lines say, else bfloat16."))] = None,
           golden: Annotated[str | None, typer.Option(show_default=False, help=(
               "Of the golden run; without it float32 for a candidate in 16 bits, else float64."))] = None,
           cache: Annotated[Path | None, typer.Option(metavar="FILE.jsonl", show_default=False, help=(
               "Where minivl's runs are kept; without it minivl-triage-cache.jsonl beside the candidate."))] = None,
           output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help=(
               "Where the smallest bad sample goes."))] = Path("minivl-triage"),
           max_new_tokens: Annotated[int | None, typer.Option(
               "--max-new-tokens", min=1, metavar="N", show_default=False, help=(
                   "How many tokens the candidate was allowed, for lines that do not say it. Without it "
                   "minivl's own answers end at 128."))] = None,
           as_json: AsJson = False) -> None:
    """Tell what is wrong with another program's answers. Pixels, settings or arithmetic, and in which
    samples.

    Exit code 0: the same within rounding; 1: different; 2: cannot be compared. JSON: candidate,
    verdict, precision, golden, samples, lost, notes, bad, limits, measured, cause: [kind, name, because,
    evidence, tried, notes], shared: [named, table], answers (minivl's), losses, smallest: [name,
    size, folder, with_answer, commands].
    """
    from ..door.errors import ArgumentError
    from ..truth.served.plan import PIECE
    from .triage import triage, triage_served
    if url is not None:
        raise typer.Exit(triage_served(url, served_model, questions, piece or [PIECE], candidate, model,
                                       precision, golden, cache, output, as_json))
    if candidate is None:
        raise ArgumentError("give a file of answers, or --url to ask a server")
    raise typer.Exit(triage(candidate, model, precision, golden, cache, output, max_new_tokens, as_json))


course = typer.Typer(cls=TyperGroup, rich_markup_mode=None, no_args_is_help=True,
                     help="Get the lessons, and grade what students hand in.")
app.add_typer(course, name="course")


RosterFile = Annotated[Path | None, typer.Option("--roster", metavar="ROSTER.csv", show_default=False, help=(
    "The class: a table with a head, or a name a line. With pseudonyms only these are used."))]
Attempt = Annotated[int, typer.Option(min=1, max=9, metavar="N", help=(
    "2 for the first retake: each student has another variant than before."))]


@course.command("copy")
def course_copy(
        folder: Annotated[Path, typer.Argument(metavar="DIR",
                                               help="Where the lessons go; made if it does not exist.")],
        update: Annotated[bool, typer.Option("--update", help=(
            "Replace older lessons that nobody has edited, put new versions beside edited ones."))] = False) -> None:
    """Copy the lessons into a folder of your own. Prints a line for each; an edited lesson is never
    written over."""
    from .course import copy
    copy(folder, update)


@course.command("grade")
def course_grade(
        folder: Annotated[Path, typer.Argument(metavar="SUBMITTED", help=(
            "The folder that holds a folder for each student, named after the student."))],
        assignment: Annotated[str | None, typer.Option("--assignment", metavar="NAME",
                                                       show_default=False, help=(
            "Which one is graded; without it all that a student has a folder for."))] = None,
        output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help=(
            "Where marks and feedback go, in a folder for the assignment."))] = Path("graded"),
        seed: Annotated[int | None, typer.Option(min=0, metavar="N", show_default=False, help=(
            "Of the inputs that are drawn; without it one that nobody knows, which grading.json keeps."))] = None,
        memory: Annotated[int, typer.Option(min=256, metavar="MB", help="For one submission.")] = 2048,
        patience: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help=(
            "Of a processor, for one function and for one statement of a cell."))] = 5.0,
        roster: RosterFile = None, attempt: Attempt = 1) -> None:
    """Grade a folder of submissions. Each in a process of its own, with limits; exit code 1 when one
    was not graded.

    Writes DIR/NAME/marks.csv, marks.md, grades.csv (as nbgrader exports), feedback/STUDENT.md and
    grading.json; of a retake into DIR/NAME-attempt-2. With a roster, who handed in nothing has a row too.
    """
    from .course import grade
    ungraded = grade(folder, assignment, output, seed, memory, patience, roster, attempt)
    raise typer.Exit(1 if ungraded else 0)


@course.command("pseudonyms")
def course_pseudonyms(
        people: Annotated[Path, typer.Argument(metavar="CLASS.csv", help=(
            "A list of names, or the table of students that your learning platform exports."))],
        output: Annotated[Path, typer.Option("-o", "--output", metavar="ROSTER.csv", help=(
            "The table with pseudonyms; those that are there already stay."))] = Path("roster.csv")) -> None:
    """Give each student a pseudonym, by lot. Who is who stands in ROSTER.csv alone: keep it on your
    machine."""
    from .course import pseudonyms
    pseudonyms(people, output)


@course.command("release")
def course_release(
        folder: Annotated[Path, typer.Argument(metavar="DIR", help=(
            "The folder of the course; made if it does not exist."))],
        roster: RosterFile = None,
        student: Annotated[list[str] | None, typer.Option(metavar="NAME", show_default=False, help=(
            "For this student; may be given again."))] = None,
        assignment: Annotated[list[str] | None, typer.Option(metavar="NAME", show_default=False, help=(
            "This assignment; may be given again. Without it all of them."))] = None,
        attempt: Attempt = 1) -> None:
    """Write the graded notebooks that students get. One for each student, in the student's own variant.

    Writes DIR/release/NAME/NAME.ipynb and DIR/release-for/STUDENT/NAME/NAME.ipynb; with nbgrader
    installed its source, settings and gradebook too.
    """
    from .course import release
    release(folder, roster, student or [], assignment or [], attempt)


@course.command("grades")
def course_grades(
        results: Annotated[Path, typer.Argument(metavar="RESULTS", help="What `course grade` has written.")],
        roster: Annotated[Path, typer.Option(metavar="ROSTER.csv", help="Who is who.")],
        output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.csv", help=(
            "Where the table goes."))],
        form: Annotated[str, typer.Option("--for", metavar="PLATFORM", help=(
            "Whose import reads the table: plain, moodle or canvas."))] = "plain",
        counts: Annotated[str, typer.Option("--counts", metavar="ATTEMPT", help=(
            "Which of several attempts does: best or last."))] = "best",
) -> None:
    """Write one table of all marks. For Moodle, Canvas or a spreadsheet; names come from the roster."""
    from .course import grades
    grades(results, roster, output, form, counts)


@app.command()
def diagnose(path: Annotated[Path, typer.Argument(metavar="TRACE", help=(
                 "What `diff` takes for a candidate: a trace, a dump, .npz, .safetensors, .bin, a "
                 "folder."))],
             golden: Annotated[Path | None, typer.Option(metavar="GOLDEN", show_default=False, help=(
                 "The right run of the same inputs; without it one is made from the inputs that TRACE "
                 "holds."))] = None,
             names: Annotated[Path | None, typer.Option(metavar="FILE.json", show_default=False, help=(
                 "What the candidate's names mean: {name: label}."))] = None,
             precision: Annotated[str | None, typer.Option(show_default=False, help=(
                 "Of the candidate; without it what its numbers show."))] = None,
             model: Model = None,
             most: Annotated[int, typer.Option("--top", min=1, metavar="N",
                                               help="Show so many faults.")] = 5,
             page: Annotated[Path | None, typer.Option("--html", metavar="FILE.html",
                                                       show_default=False, help=(
                 "Write the page of `minivl diff` with the diagnosis on it."))] = None,
             as_json: AsJson = False) -> None:
    """Say which known fault a trace looks like. The museum's wrong passes are tried on its own values,
    one by one.

    Exit code 0: no difference beyond rounding; 1: different; 2: cannot be compared. JSON: healthy,
    known, first_bad, passes, words, cost: [way, alike, taps, beyond, off], ranking: [fault, label, incidents,
    parameters, explained, nearer, wrong_taps_left, taps_explained, tap, rounding_right, rounding_fault,
    lean: [share, sigmas]], comparison.
    """
    from .diagnose import diagnose
    raise typer.Exit(diagnose(path, golden, names, precision, model, most, as_json, page))


cuda = typer.Typer(cls=TyperGroup, rich_markup_mode=None, no_args_is_help=True,
                   help="Check a CUDA kernel on the CPU: no GPU is needed.")
app.add_typer(cuda, name="cuda")


@cuda.command("check")
def cuda_check(
        path: Annotated[Path, typer.Argument(metavar="FILE.cu", show_default=False, help=(
            "Its lines that begin with //: say how it is launched, with what, and what must come out."))],
        kernel: Annotated[str | None, typer.Option(show_default=False, help=(
            "Which kernel; without it the first that has a launch."))] = None,
        grid: Annotated[str | None, typer.Option(metavar="X[,Y[,Z]]", show_default=False,
                                                 help="Blocks, in place of the file's.")] = None,
        block: Annotated[str | None, typer.Option(metavar="X[,Y[,Z]]", show_default=False,
                                                  help="Threads of a block, in place of the file's.")] = None,
        shared: Annotated[int | None, typer.Option(metavar="BYTES", min=0, show_default=False,
                                                   help="Dynamic shared memory.")] = None,
        as_json: AsJson = False) -> None:
    """Run a kernel in every build and schedule. It says what is wrong, in which line: a race, an access out
    of bounds, shared memory that nobody wrote, a deadlock, a wrong number.

    Takes Linux and g++. The file is compiled and runs, and its //: lines are Python: check files that you
    trust. Exit code 0: nothing is wrong; 1: something is.

    JSON: kernel, file, ok, runs, compared, findings: [kind, words, file, line, runs].
    """
    from .cuda import check
    raise typer.Exit(check(path, kernel, grid, block, shared, as_json))


@app.command()
def doctor(as_json: AsJson = False,
           measure: Annotated[bool, typer.Option("--measure", help="Measure this machine instead: how "
                              "fast it reads and multiplies, and where a 3B model lies under that "
                              "roof. After 10 seconds nothing more is begun.")] = False,
           output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE.png", help=(
               "With --measure: draw the roof into this file."))] = None) -> None:
    """Tell whether minivl works here. And what is installed; exit code 0 when it does.

    JSON: usable, minivl, python, executable, platform, machine, cores, memory, blas, resize, packages,
    embedded_model, hub, lessons: {missing, install}, kernels: [installed, compiled_from, tier, because,
    needs: {tier: what it needs}, threads, cache, cached, cache_bytes], cuda: {cxx, nvcc, nvrtc, cupy,
    driver, gpu: {found or missing}}, mpi: {library, launcher}. With --measure: bandwidth, peaks,
    weights, threads, lacking, edge, parts.
    """
    if measure or output is not None:
        from .measure import measure as measured
        return measured(as_json, output, measure)
    from .doctor import doctor
    raise typer.Exit(0 if doctor(as_json) else 1)


def main() -> None:
    """The entry point of the command `minivl`."""
    app(prog_name="minivl")


if __name__ == "__main__":
    main()
