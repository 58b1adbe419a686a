"""What one request may ask: bounded before the engine, and before vLLM's own models, are given it.

All of this is checked on the event loop, so it must itself be cheap: the number of values is counted before the body is
parsed, and 20,000 values are parsed and looked at within some ten milliseconds.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from slipway_serving.http.refusal import Refusal

MAX_VALUES = 20_000
"""Values in one body, the numbers of a list of token ids not counted."""
MAX_ITEMS = 4096
"""Items of one list: messages, parts, tools, stop tokens; token ids are bounded by the context."""
MAX_DEPTH = 64
MAX_CONSTRAINT_BYTES = 32 * 1024
"""What an answer must look like, as JSON: a schema, a grammar, a regular expression, a list of choices."""
MAX_CHOICES = 1000
MAX_UNROLLED = 4096
"""Items that the lists of one schema must or may have, all together: each becomes symbols of a grammar."""
MAX_EXPANDED = 20_000
"""Parts that a grammar has when all its rules are written out; a rule within itself is written once."""
MAX_TOOLS = 128
MAX_TOOLS_BYTES = 256 * 1024
MAX_WORDS = 128
_INT64 = 2**63
_INT32 = 2**31

# What the routes of /chat, OpenAI and Anthropic call the number of new tokens.
_NEW_TOKENS = ("max_length", "max_tokens", "max_completion_tokens", "max_output_tokens")
# Lists whose numbers may be token ids of a prompt.
_TOKEN_IDS = ("prompt", "input", "prompt_token_ids")
_CONSTRAINTS = {
    "json": (str, dict),
    "regex": (str,),
    "choice": (list,),
    "grammar": (str,),
    "json_object": (bool,),
    "structural_tag": (str,),
    "disable_any_whitespace": (bool,),
    "disable_additional_properties": (bool,),
    "whitespace_pattern": (str,),
}
# The engine keeps these in 32 bits.
_SMALL_NUMBERS = ("top_k", "min_tokens", "logprobs", "top_logprobs", "prompt_logprobs", "truncate_prompt_tokens", "n")
_WORDS = ("bad_words", "stop", "stop_sequences", "stop_token_ids", "logprob_token_ids")
# Keys of a JSON schema whose number is unrolled.
_UNROLLED = ("minItems", "maxItems", "minContains", "maxContains", "minProperties", "maxProperties")
_GRAMMARS = ("grammar", "definition")
_JSON_TEXTS = ("json", "structural_tag")
_SCHEMAS = ("schema", "json", "parameters", "input_schema")
_STRING_OR_SEPARATOR = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[,\[{]', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_RULE = re.compile(r"^[ \t]*[?!]?([\w-]+)(?:\.\d+)?[ \t]*(?:::=|:)", re.MULTILINE)
_PART = re.compile(r"[\w-]+|\S")


@dataclass(frozen=True)
class Bounds:
    new_tokens: int
    """Most new tokens of an answer."""
    answers: int
    """Most answers at a time: the server's places."""
    context: int
    """Tokens of prompt and answer together."""
    reads_calls: bool = True
    """Whether the calls of tools that the model writes are told from text."""


@dataclass(frozen=True)
class Wrong:
    """A field that cannot be served, by its path, and why."""

    field: str
    why: str
    reason: str = "wrong_field"


def check(body: bytes, bounds: Bounds, status: int) -> int:
    """Returns how many answers a body asks for.

    Raises Refusal with `status`, which names the field; what is left is the application's to judge.
    """
    if b"\0" in body:  # JSON in another encoding, which its readers guess.
        raise Refusal(status, "wrong_field", "The body is not JSON in UTF-8.")
    if _has_more_values(body, MAX_VALUES + 2 * bounds.context):
        raise Refusal(status, "too_much", f"The body holds more than {MAX_VALUES} values: send a shorter request.")
    try:
        fields = json.loads(body, parse_constant=_no_constant)
    except _NotFiniteError as error:
        raise Refusal(status, "wrong_field", f"{error} is no JSON number: send a finite one.") from None
    except RecursionError:
        raise Refusal(status, "too_much", f"The body is nested more than {MAX_DEPTH} levels deep.") from None
    except ValueError:
        return 1
    if not isinstance(fields, dict):
        return 1
    for wrong in _wrong(fields, body, bounds):
        shown = wrong.field if len(wrong.field) <= 100 else wrong.field[:97] + "..."
        shown = shown.encode("utf-8", "replace").decode()
        raise Refusal(status, wrong.reason, f"{shown}: {wrong.why}.", param=shown)
    return min(_answers(fields), bounds.answers)


def _wrong(fields: Mapping[str, Any], body: bytes, bounds: Bounds) -> Iterator[Wrong]:
    yield from _shape(fields, bool(_SURROGATE.search(body)), bounds)
    yield from _amounts(fields, bounds)
    yield from _constraints(fields)
    if not bounds.reads_calls:
        yield from _calls(fields)
    yield from _small_parts(fields)


class _NotFiniteError(Exception):
    """NaN or an infinity, which Python reads and JSON does not have."""


def _no_constant(name: str) -> float:
    raise _NotFiniteError(name)


def _has_more_values(body: bytes, most: int) -> bool:
    """Tells whether a JSON text holds more values, without parsing it; it may say so of what is no JSON."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") <= most:
        return False
    found = 0
    for match in _STRING_OR_SEPARATOR.finditer(body):
        found += body[match.start()] != 0x22
        if found > most:
            return True
    return False


# --- the shape -------------------------------------------------------------------------------------------------------


def _shape(fields: Mapping[str, Any], may_have_surrogates: bool, bounds: Bounds) -> Iterator[Wrong]:
    """Looks at every value once, deep ones too."""
    values = 0
    todo: list[tuple[str, Any, int]] = [(name, value, 1) for name, value in fields.items()]
    while todo:
        path, value, depth = todo.pop()
        values += 1
        if values > MAX_VALUES:
            yield Wrong(path, f"the request holds more than {MAX_VALUES} values", "too_much")
        if may_have_surrogates and not _is_text(path):
            yield Wrong(path, "its name holds half of a surrogate pair, which is no text")
        match value:
            case str():
                if may_have_surrogates and not _is_text(value):
                    yield Wrong(path, "it holds half of a surrogate pair, which is no text")
            case bool() | None:
                pass
            case int():
                if not -_INT64 <= value < _INT64:
                    yield Wrong(path, "it does not fit into 64 bits")
            case float():
                if not math.isfinite(value):
                    yield Wrong(path, "it is too large for a number")
            case list() | dict() if depth >= MAX_DEPTH:
                yield Wrong(path, f"it is nested more than {MAX_DEPTH} levels deep", "too_much")
            case list():
                if _is_token_ids(path, value):
                    if len(value) > bounds.context:
                        what = f"{len(value)} token ids are more than the context of {bounds.context}"
                        yield Wrong(path, what, "too_much")
                    continue
                if len(value) > MAX_ITEMS:
                    yield Wrong(path, f"{len(value)} items are more than {MAX_ITEMS}", "too_much")
                todo.extend((f"{path}.{at}", part, depth + 1) for at, part in enumerate(value))
            case dict():
                if len(value) > MAX_ITEMS:
                    yield Wrong(path, f"{len(value)} fields are more than {MAX_ITEMS}", "too_much")
                todo.extend((f"{path}.{name}", part, depth + 1) for name, part in value.items())


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_token_ids(path: str, value: list[Any]) -> bool:
    name = path.partition(".")[0]
    return name in _TOKEN_IDS and bool(value) and all(type(part) is int and 0 <= part < _INT32 for part in value)


# --- amounts ---------------------------------------------------------------------------------------------------------


def _amounts(fields: Mapping[str, Any], bounds: Bounds) -> Iterator[Wrong]:
    most = min(bounds.new_tokens, bounds.context)
    for name in _NEW_TOKENS:
        if (asked := _number(fields.get(name))) is not None and asked > most:
            yield Wrong(name, f"{asked:g} is above this server's limit of {most} new tokens", "too_much")
    batch = _batch(fields)
    for name in ("n", "best_of"):
        if (asked := _number(fields.get(name))) is not None and asked * batch > bounds.answers:
            what = f"{asked * batch:g} is above this server's limit of {bounds.answers} answers at a time"
            yield Wrong(name, what, "too_much")
    if batch > bounds.answers:
        yield Wrong("prompt", f"{batch} is above this server's limit of {bounds.answers} prompts at a time", "too_much")


def _answers(fields: Mapping[str, Any]) -> int:
    """Returns how many answers are made at the same time."""
    asked = max((_number(fields.get(name)) or 1 for name in ("n", "best_of")), default=1)
    return max(1, _batch(fields)) * max(1, math.ceil(asked))


def _batch(fields: Mapping[str, Any]) -> int:
    """A list of strings, or of lists of token ids, is a batch; a list of numbers is one prompt."""
    prompts = fields.get("prompt")
    return len(prompts) if isinstance(prompts, list) and not all(_is_number(part) for part in prompts) else 1


def _number(value: Any) -> float | None:
    """Returns a number as vLLM reads it: its models take "500" for 500."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- what an answer must look like -----------------------------------------------------------------------------------


def _constraints(fields: Mapping[str, Any]) -> Iterator[Wrong]:
    asked = fields.get("structured_outputs")
    if asked is not None and not isinstance(asked, dict):
        yield Wrong("structured_outputs", f"it must be an object with one of {', '.join(_CONSTRAINTS)}")
    elif asked is not None:
        yield from _structured_outputs(asked)
    for name in ("structured_outputs", "response_format", "text", "output_format", "output_config"):
        if fields.get(name) is not None:
            yield from _compiled(name, fields[name])
    tools = fields.get("tools")
    if isinstance(tools, list):
        if len(tools) > MAX_TOOLS:
            yield Wrong("tools", f"{len(tools)} are more than {MAX_TOOLS}", "too_much")
        yield from _compiled("tools", tools, MAX_TOOLS_BYTES)


def _calls(fields: Mapping[str, Any]) -> Iterator[Wrong]:
    """Before vLLM says it, by naming options of its own that nobody who sends a request can set."""
    choice = fields.get("tool_choice")
    kind = choice.get("type") if isinstance(choice, dict) else choice
    # The Responses API, which has `input`, takes calls for text.
    if fields.get("tools") and isinstance(fields.get("messages"), list) and kind != "none":
        yield Wrong(
            "tools",
            "the model's chat template writes no calls that this server reads, so it cannot call them. Leave tools "
            "out, send tool_choice: none, or serve a model whose template has calls",
        )


def _structured_outputs(asked: Mapping[str, Any]) -> Iterator[Wrong]:
    for name, value in asked.items():
        path = f"structured_outputs.{name}"
        kinds = _CONSTRAINTS.get(name)
        if kinds is None:
            yield Wrong(path, f"unknown field; known are {', '.join(_CONSTRAINTS)}")
        elif value is not None and not isinstance(value, kinds):
            yield Wrong(path, f"it must be {' or '.join(_KINDS[kind] for kind in kinds)}")
    choices = asked.get("choice")
    if isinstance(choices, list):
        if len(choices) > MAX_CHOICES:
            yield Wrong("structured_outputs.choice", f"{len(choices)} are more than {MAX_CHOICES}", "too_much")
        for at, choice in enumerate(choices):
            if not isinstance(choice, str):
                yield Wrong(f"structured_outputs.choice.{at}", "it must be text")
    if asked.get("whitespace_pattern") is not None:
        yield Wrong("structured_outputs.whitespace_pattern", "it is not supported: leave it out")


_KINDS = {str: "text", dict: "an object", list: "a list of texts", bool: "true or false"}


def _compiled(path: str, value: Any, most: int = MAX_CONSTRAINT_BYTES) -> Iterator[Wrong]:
    """Bounds what is compiled before the first token: its length, and what its repetitions multiply to."""
    size = len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    if size > most:
        yield Wrong(path, f"{size} bytes are more than {most}: make it simpler", "too_much")
    unrolled = 0.0
    todo: list[tuple[str, Any, bool]] = [(path, value, False)]
    while todo:
        at, part, in_schema = todo.pop()
        name = at.rpartition(".")[2]
        if isinstance(part, str) and name in _GRAMMARS:
            yield from _expanded(at, _grammar_rules(part))
        elif isinstance(part, str) and name in _JSON_TEXTS:
            todo.append((at, _parsed(part), False))
        elif isinstance(part, list):
            todo.extend((f"{at}.{number}", inner, in_schema) for number, inner in enumerate(part))
        elif isinstance(part, dict):
            unrolled += max([0, *(part[key] for key in _UNROLLED if _is_number(part.get(key)))])
            if unrolled > MAX_UNROLLED:
                yield Wrong(at, f"the items up to here come to more than {MAX_UNROLLED}: allow fewer", "too_much")
            if name in _SCHEMAS and not in_schema:
                in_schema = True
                if part.get("$ref") == "#":
                    yield Wrong(f"{at}.$ref", "a schema that is only itself has no answer")
                yield from _expanded(at, _schema_rules(part))
            todo.extend((f"{at}.{key}", inner, in_schema) for key, inner in part.items())


def _expanded(path: str, rules: Mapping[str, list[str]]) -> Iterator[Wrong]:
    """Bounds what rules come to when each is written out where it is named: some of them are, and double each time."""
    sizes: dict[str, int] = {}
    under_way: set[str] = set()
    todo = list(rules)
    while todo:
        name = todo[-1]
        if name in sizes:
            todo.pop()
        elif name not in under_way:
            under_way.add(name)
            todo.extend(part for part in set(rules[name]) if part in rules and part not in under_way)
        else:
            todo.pop()
            # What is not known yet is met again on the way down: it is within itself.
            sizes[name] = max(1, sum(sizes.get(part, 1) for part in rules[name]))
            if set(rules[name]) == {name}:
                yield Wrong(path, f"{name} is only itself, and has no answer")
            if sizes[name] > MAX_EXPANDED:
                what = f"{name}, written out, has more than {MAX_EXPANDED} parts: make it simpler"
                yield Wrong(path, what, "too_much")
                return


def _grammar_rules(grammar: str) -> dict[str, list[str]]:
    """Returns the parts of each rule, of which some are names of rules."""
    starts = list(_RULE.finditer(grammar))
    ends = [*(start.start() for start in starts[1:]), len(grammar)]
    return {start.group(1): _PART.findall(grammar[start.end() : end]) for start, end in zip(starts, ends, strict=False)}


def _schema_rules(schema: dict[str, Any]) -> dict[str, list[str]]:
    """Returns, for the schema and all that it refers to, its parts: references, and a blank for everything else."""
    rules: dict[str, list[str]] = {}
    pointers = ["#"]
    while pointers:
        pointer = pointers.pop()
        if pointer not in rules:
            rules[pointer] = _schema_parts(_at(schema, pointer))
            pointers.extend(part for part in rules[pointer] if part)
    return rules


def _schema_parts(node: Any) -> list[str]:
    parts, todo = [], [node]
    while todo:
        part = todo.pop()
        parts.append("")
        if isinstance(part, list):
            todo.extend(part)
        elif isinstance(part, dict):
            if isinstance(part.get("$ref"), str) and part["$ref"].startswith("#"):
                parts.append(part["$ref"])
            todo.extend(inner for key, inner in part.items() if key not in ("$defs", "definitions"))
    return parts


def _at(schema: Any, pointer: str) -> Any:
    for name in pointer.split("/")[1:]:
        key = unquote(name).replace("~1", "/").replace("~0", "~")
        schema = schema.get(key) if isinstance(schema, dict) else None
    return schema


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None  # It is refused where it is compiled.


# --- the rest --------------------------------------------------------------------------------------------------------


def _small_parts(fields: Mapping[str, Any]) -> Iterator[Wrong]:
    for name in _SMALL_NUMBERS:
        if (number := _number(fields.get(name))) is not None and not -_INT32 <= number < _INT32:
            yield Wrong(name, f"{number:g} does not fit into 32 bits")
    for name in _WORDS:
        words = fields.get(name)
        if isinstance(words, list) and len(words) > MAX_WORDS:
            yield Wrong(name, f"{len(words)} are more than {MAX_WORDS}", "too_much")
    if fields.get("background"):
        yield Wrong("background", "an answer without a connection would be outside of the limits: leave it out")
