"""Walks the models beside a document: which fields may stand where, and what they may hold."""

# A document is untyped until it is validated, so strict checking has nothing to hold on to here.
# pyright: basic

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from slipway_core.documents.yaml12 import Path
from slipway_core.resources.api import DURATION_PATTERN, URI_PATTERN, Api

BOUND_WORDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
"""Constraints of pydantic on a number, as a person says them."""


def is_object(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Api)


def fields(model: type[Api]) -> dict[str, FieldInfo]:
    """Returns the fields of an object by their outside names."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def branches(annotation: Any) -> list[Any]:
    """Returns what a value may be, without None and without what Annotated adds."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return branches(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [inner for branch in get_args(annotation) if branch is not type(None) for inner in branches(branch)]
    return [annotation]


def item(annotation: Any) -> Any:
    """Returns what stands in a field in the end: the object of a list of objects, the object itself otherwise."""
    for branch in branches(annotation):
        if get_origin(branch) is list:
            return item(get_args(branch)[0])
        if get_origin(branch) is dict:
            return item(get_args(branch)[1])
        return branch
    return annotation


def annotation_at(model: Any, path: Path) -> Any:
    """Returns what may stand at a path, or None where the models have no such place."""
    annotation: Any = model
    for part in path:
        annotation = next((inner for b in branches(annotation) for inner in _step(b, part)), None)
    return annotation


def _step(branch: Any, part: str | int) -> Iterator[Any]:
    if is_object(branch) and part in (known := fields(branch)):
        yield known[str(part)].rebuild_annotation()
    elif get_origin(branch) is list and isinstance(part, int):
        yield get_args(branch)[0]
    elif get_origin(branch) is dict:
        yield get_args(branch)[1]


def at(value: Any, path: Path) -> Any:
    """Returns the value at a path of a document, or None where there is none."""
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value


def all_fields(model: type[Api]) -> list[tuple[str, str]]:
    """Returns every field below `spec` and where it belongs: ("learningRate", "spec.stages[].optimizer")."""
    found: list[tuple[str, str]] = []

    def visit(object_: type[Api], where: str, seen: tuple[type[Api], ...]) -> None:
        for name, field in fields(object_).items():
            found.append((name, where))
            inner = item(field.annotation)
            if is_object(inner) and inner not in seen:
                many = any(get_origin(branch) is list for branch in branches(field.annotation))
                visit(inner, f"{where}.{name}{'[]' if many else ''}", (*seen, inner))

    visit(model.model_fields["spec"].annotation, "spec", ())  # pyright: ignore[reportArgumentType]
    return found


def texts(model: Any, value: Any, pattern: str, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yields the texts of a document that stand where the models ask for this pattern."""
    if isinstance(value, dict) and is_object(item(model)):
        for name, field in fields(item(model)).items():
            if name not in value:
                continue
            if isinstance(value[name], str):
                if pattern_of(field.rebuild_annotation()) == pattern:
                    yield (*path, name), value[name]
            else:
                yield from texts(field.annotation, value[name], pattern, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from texts(item(model), inner, pattern, (*path, index))


def pattern_of(annotation: Any) -> str | None:
    """Returns the regular expression that a text has to match, or None."""
    if get_origin(annotation) is Annotated:
        for extra in get_args(annotation)[1:]:
            inner = extra.metadata if isinstance(extra, FieldInfo) else [extra]
            for constraint in inner:
                if (pattern := getattr(constraint, "pattern", None)) is not None:
                    return pattern
        return pattern_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return next((found for branch in get_args(annotation) if (found := pattern_of(branch))), None)
    return None


def kinds(annotation: Any) -> list[str]:
    """Returns what a value may be in words."""
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    named: list[str] = []
    for branch in branches(annotation):
        origin = get_origin(branch)
        if origin is Literal:
            named.append(f"one of {', '.join(str(choice) for choice in get_args(branch))}")
        elif origin is list:
            named.append("a list")
        elif origin is dict or is_object(branch):
            named.append("a mapping")
        elif branch in words:
            named.append(words[branch])
    return named


_EXAMPLES = {
    ("metadata", "name"): "name: my-first-run",
    ("model",): "model: {from: hf://org/name}",
    ("data",): "data: {train: [{uri: file://corpus.jsonl}]}",
    ("train",): "train: [{uri: file://corpus.jsonl}]",
    ("stages",): "stages: [{name: pretrain, data: {train: [{uri: file://corpus.jsonl}]}}]",
    ("tokenizer",): "tokenizer: {train: {vocabSize: 4096}}",
    ("metric",): "metric: perplexity",
    ("endpoint",): "endpoint: chat",
    ("uri",): "uri: file://corpus.jsonl",
    ("metadata",): "metadata: {name: my-first-run}",
    ("name",): "name: pretrain",
    ("gates",): "gates: [{metric: perplexity, max: 20, minTokens: 1000}]",
    ("evaluation",): "evaluation: {data: [{uri: file://heldout.jsonl}]}",
}


def example(model: Any, path: Path) -> str:
    """Returns `field: value` as it could stand at a path, or nothing where none is worth showing."""
    names = tuple(part for part in path if isinstance(part, str))
    for length in (2, 1):
        if (found := _EXAMPLES.get(names[-length:])) is not None:
            return found
    annotation = annotation_at(model, path)
    if annotation is None or not path or isinstance(path[-1], int):
        return ""
    if pattern_of(annotation) == DURATION_PATTERN:
        return f"{path[-1]}: 15m"
    if pattern_of(annotation) == URI_PATTERN:
        return f"{path[-1]}: file://folder"
    if (default := _default(model, path)) is not None:
        return f"{path[-1]}: {default}"
    values = {bool: "true", int: "1", float: "1", str: "text"}
    first = branches(annotation)[0]
    return f"{path[-1]}: {values[first]}" if first in values else ""


def _default(model: Any, path: Path) -> str | None:
    parent = item(annotation_at(model, path[:-1]))
    field = fields(parent).get(str(path[-1])) if is_object(parent) else None
    default = field.default if field is not None else None
    if isinstance(default, bool):
        return "true" if default else "false"
    return str(default) if isinstance(default, int | float | str) else None


def objects(model: type[Api]) -> list[type[Api]]:
    """Returns every object that a resource is made of, the resource first.

    Raises ValueError when two of them have the same name: generated files could not tell them apart.
    """
    found: dict[str, type[Api]] = {}
    waiting = [model]
    while waiting:
        current = waiting.pop(0)
        if found.setdefault(current.__name__, current) is not current:
            raise ValueError(f"two objects are called {current.__name__}")
        for field in current.model_fields.values():
            inner = item(field.annotation)
            if is_object(inner) and inner not in found.values() and inner not in waiting:
                waiting.append(inner)
    return list(found.values())
