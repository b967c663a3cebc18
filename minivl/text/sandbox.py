"""Runs a chat template in jinja2's immutable sandbox, and makes sure that it ends.

The sandbox keeps a template from reaching out: no attribute with an underscore in front, no change of
what it was given. It does not keep it from going on for ever or filling the memory: jinja2 counts
nothing. So the parsed template is rewritten: every `for` counts its rounds, every `~` becomes a
guarded `+`, every literal list weighs what it holds, and every piece of text that is written goes
through the environment's `finalize`. With calls, filters and arithmetic, which the environment sees
anyway, all that repeats or grows is charged to one `Budget` per rendering:

    steps       20,000 + n       rounds of loops, calls, filters, operations and pieces written, together
    characters  200,000 + 8 n    written anywhere, also into a macro or a variable
    size        200,000 + 8 n    of any value made on the way: its characters and items, all the way down
    seconds     10               of the processor: the backstop for many slow steps
    range       10,000           numbers; products and powers have up to 1,024 bits

where n is the size of the messages, so that a long conversation is not refused for its length. Left
out of the
language: `%` and `format` on text, methods and filters that pad, recursive loops, and other templates.

Read next: `template.py`, the way in.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from types import CodeType
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from ..door.errors import brief
from .errors import TemplateError

STEPS, CHARACTERS, SECONDS, RANGE, BITS, INDENT = 20_000, 200_000, 10.0, 10_000, 1024, 8

# What a template may use: what chat templates do use, less what makes a long text of a short one.
FILTERS = ("abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items",
           "join",
           "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace",
           "reverse", "round", "safe", "select", "selectattr", "sort", "string", "title", "trim",
           "unique", "upper")
METHODS = ("capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha",
           "isdecimal",
           "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "lower", "lstrip",
           "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition",
           "rsplit",
           "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper")


def render(source: str, variables: Mapping[str, Any]) -> str:
    """Run a template over `variables`, which must be plain (see `template.plain_copy`); the text it
    writes.

    Raises TemplateError, whatever went wrong in the template.
    """
    environment = Environment(Budget(weight(variables, 1 << 62)))
    try:
        template = jinja2.Template.from_code(environment, compiled(source), environment.globals)
        return "".join(template.generate(variables))
    except TemplateError:
        raise
    except jinja2.TemplateSyntaxError as error:
        where = f"line {error.lineno}"
        raise TemplateError(f"the chat template cannot be read: {where}: {error.message}") from error
    except jinja2.exceptions.SecurityError as error:
        raise TemplateError(f"the chat template tries what it may not: {error}") from error
    except Exception as error:                        # it is a program, so it may raise anything
        raise TemplateError(f"the chat template fails: {type(error).__name__}: {error}") from error


@lru_cache(maxsize=32)
def compiled(source: str) -> CodeType:
    """The template as Python code, which knows no budget and no variables: it serves every rendering."""
    return Environment(Budget(0)).compile(source)


# ---- what is counted -----------------------------------------------------------------------------

def weight(value: Any, most: int) -> int:
    """Characters and items in a value, all the way down; the count stops soon after `most`."""
    total, left = 0, [value]
    while left and total <= most:
        item = left.pop()
        total += 1
        if isinstance(item, str):
            total += len(item)
        elif isinstance(item, Mapping):
            left += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set):
            left += item
    return total


# Of this thread alone, in seconds: a machine that is busy with others, or asleep, is no fault of the
# template's. In a browser there is only the clock.
spent = getattr(time, "thread_time", time.monotonic)


class Budget:
    """What is left for one rendering of variables of this size."""

    def __init__(self, size: int):
        self.allowed, self.limit = STEPS + size, CHARACTERS + 8 * size
        self.steps, self.characters = self.allowed, self.limit
        self.end = spent() + SECONDS

    def step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise TemplateError(f"the chat template takes more than {self.allowed:,} steps; does it "
                                "loop for ever?")
        if spent() > self.end:
            raise TemplateError(f"the chat template computes for more than {SECONDS:g} seconds")

    def write(self, text: str) -> str:
        self.characters -= len(text)
        if self.characters < 0:
            raise TemplateError(f"the chat template writes more than {self.limit:,} characters")
        return text

    def check(self, size: int) -> None:
        if size > self.limit:
            raise TemplateError(f"the chat template makes a value of {size:,} characters or items or "
                                f"more; the bound is {self.limit:,}")

    def weigh(self, value: Any) -> Any:
        self.check(weight(value, self.limit))
        return value


# ---- where it is counted -------------------------------------------------------------------------

class Environment(ImmutableSandboxedEnvironment):
    """jinja2 as chat templates expect it (`trim_blocks`, `lstrip_blocks`), with everything charged to a
    budget."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self, budget: Budget):
        written = jinja2.pass_context(lambda context, value: self.written(value))
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols],
                         optimized=False,
                         finalize=written, cache_size=0)
        self.budget = budget
        own: dict[str, Callable] = {"tojson": self.to_json, "_rounds": self.rounds,
                                    "_weighed": budget.weigh}
        self.filters = {name: self.charged(name, self.filters[name]) for name in FILTERS}
        self.filters |= {name: _at_run_time(function) for name, function in own.items()}
        self.globals = {"range": self.numbers, "dict": lambda *args, **items: dict(*args, **items),
                        "namespace": Namespace, "raise_exception": refuse, "strftime_now": strftime_now}

    def wrap_str_format(self, value):
        """Refuse `format` and `format_map`, for which jinja2 would make a function of its own."""
        if getattr(value, "__name__", "") in ("format", "format_map"):
            raise TemplateError("the chat template formats text; it can join it with ~ instead")
        return None

    def _parse(self, source, name, filename):
        return Rewrite().visit(super()._parse(source, name, filename))

    def written(self, value: Any) -> str:
        """What `{{ value }}` writes; weighed before it becomes text, since lists can hold one list many
        times."""
        self.budget.step()
        return self.budget.write(str(self.budget.weigh(value)))

    def rounds(self, items: Iterable) -> Iterator:
        """The items of a loop, each charged as a step."""
        for item in items:
            self.budget.step()
            yield item

    def numbers(self, *args: int) -> list[int]:
        """The numbers of `range`."""
        numbers = range(*args)
        if numbers[RANGE:]:
            raise TemplateError(f"the chat template asks for range{args}, longer than {RANGE:,}")
        return list(numbers)

    def charged(self, name: str, function: Callable) -> Callable:
        """A filter of jinja2 that is charged and whose result is weighed."""
        def filtered(context, value, *args, **options):
            self.budget.step()
            value = list(value) if isinstance(value, Iterator) else value
            self.check_growth(name, value, args, options)
            passed = {"context": context, "eval_context": context.eval_ctx, "environment": self}
            wanted = getattr(getattr(function, "jinja_pass_arg", None), "name", None)
            first = [passed[wanted]] if wanted else []
            result = function(*first, value, *args, **options)
            return self.budget.weigh(list(result) if isinstance(result, Iterator) else result)
        return jinja2.pass_context(filtered)

    def check_growth(self, name: str, value: Any, args: tuple, options: Mapping) -> None:
        """`replace` and `join` can make a text as long as a product of two: refuse that before it is
        made."""
        if name not in ("replace", "join"):
            return
        pieces = len(value) + 1 if hasattr(value, "__len__") else 1
        longest = max((weight(arg, self.budget.limit) for arg in (*args, *options.values())), default=1)
        if name == "replace" and args and isinstance(value, str) and isinstance(args[0],
                                                                                str) and args[0]:
            pieces = value.count(args[0])
        self.budget.check(weight(value, self.budget.limit) + pieces * longest)

    def call(self, context, obj, *args, **options):
        """Every call in a template comes here: macros, methods, `range`, `namespace`."""
        self.budget.step()
        name = getattr(obj, "__name__", "")
        text = getattr(obj, "__self__", None)
        if isinstance(text, int | float | bytes):
            raise TemplateError(f"the chat template calls {brief(name)} on a number")
        if isinstance(text, str):
            if name not in METHODS:
                allowed = ", ".join(METHODS)
                raise TemplateError(f"the chat template calls {brief(name)} on text; it may call {allowed}")
            args = tuple(list(arg) if isinstance(arg, Iterator) else arg for arg in args)
            joined = name == "join" and args
            self.check_growth(name, args[0] if joined else text, (text,) if joined else args, options)
        return self.budget.weigh(super().call(context, obj, *args, **options))

    def call_binop(self, context, operator, left, right):
        """`+ * ** %`: the operators that can make much of little."""
        self.budget.step()
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "%" and not numbers:
            raise TemplateError("the chat template formats text with %; it can join it with ~ instead")
        if operator == "+" and not numbers:
            self.budget.weigh((left, right))
        if operator == "*" and not numbers:
            times = next((n for n in (left, right) if isinstance(n, int)), 1)
            self.budget.check(weight((left, right), self.budget.limit) * max(times, 1))
        if operator in ("*", "**") and numbers and _bits(operator, left, right) > BITS:
            raise TemplateError(f"the chat template makes a number of more than {BITS:,} bits")
        return super().call_binop(context, operator, left, right)

    def to_json(self, value, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
        """JSON as it is, where jinja2's own filter escapes for HTML; the options of `json.dumps`."""
        self.budget.step()
        if indent is not None and not (isinstance(indent, int) and indent <= INDENT):
            raise TemplateError(f"the chat template indents JSON by {brief(indent)}; up to {INDENT} is "
                                "allowed")
        encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                                   sort_keys=sort_keys)
        pieces, size = [], 0
        for piece in encoder.iterencode(self.budget.weigh(value)):
            pieces.append(piece)
            size += len(piece)
            self.budget.check(size)
        return "".join(pieces)


def _at_run_time(function: Callable) -> Callable:
    """As a filter that jinja2 cannot run while it compiles, when there is nothing to charge yet."""
    return jinja2.pass_context(lambda context, *args, **options: function(*args, **options))


def _bits(operator: str, left: float, right: float) -> float:
    if not (isinstance(left, int) and isinstance(right, int)):
        return 0                                      # a float has 64 bits whatever is done to it
    return left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()


class Rewrite(NodeTransformer):
    """Puts the counting into a parsed template."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            raise TemplateError(f"line {node.lineno} of the chat template is a recursive loop")
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "_rounds")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        first, *others = (_filtered(part, "string") for part in node.nodes)
        for other in others:
            first = nodes.Add(first, other, lineno=node.lineno)
        return first

    def visit_List(self, node: nodes.Node) -> nodes.Node:
        self.generic_visit(node)
        return node if getattr(node, "ctx", "load") == "store" else _filtered(node, "_weighed")

    visit_Dict = visit_Tuple = visit_List

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:
        return nodes.Const(node.data, lineno=node.lineno)  # so that it, too, goes through `finalize`


def _filtered(node: nodes.Node, name: str) -> nodes.Expr:
    return nodes.Filter(cast(nodes.Expr, node), name, [], [], None, None, lineno=node.lineno)


# ---- what a template is offered ------------------------------------------------------------------

class Namespace(jinja2.utils.Namespace):
    """A template's variables that outlive a loop; no names with an underscore in front, and nothing to
    print."""

    def __init__(*args, **items):                     # no `self`, so that a variable may have that name
        values = dict(*args[1:], **items)
        for name in values:
            _check_name(name)
        jinja2.utils.Namespace.__init__(args[0], values)

    def __setitem__(self, name, value):
        _check_name(name)
        super().__setitem__(name, value)

    def __repr__(self):
        return "<Namespace>"


def _check_name(name: Any) -> None:
    if str(name).startswith("_"):
        raise TemplateError(f"the chat template keeps {brief(name)} in a namespace; names must not start "
                            "with _")


def refuse(message: str) -> None:
    """`raise_exception`: how a template says that it cannot render these messages."""
    raise TemplateError(f"the chat template refuses the messages: {message}")


def strftime_now(form: str) -> str:
    """Today in plain codes, such as `%d %B %Y`: a code with a width could ask for any number of
    characters."""
    if not re.fullmatch(r"(?:%-?[a-zA-Z%]|[^%])*", form):
        raise TemplateError(f"the chat template writes the date as {brief(form)}; codes take no width")
    return datetime.now().strftime(form)
