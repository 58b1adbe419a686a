"""The API reference and the editor's JSON schema, made from the models."""

# A JSON schema is untyped, so strict checking has nothing to hold on to here.
# pyright: basic

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from slipway_core.documents import schema_walk
from slipway_core.documents.schema_walk import BOUND_WORDS
from slipway_core.resources.api import API_VERSION, DURATION_PATTERN, NAME_PATTERN, URI_PATTERN, Api

_HEAD = f"""# API reference

<!-- Written by `make generate` from the models in core/. Edit those. -->

The resources of `{API_VERSION}`. A field that this page does not name is refused, and so is
what a rule below calls not built yet. A field without a default may be left out, unless it is required.

- **text**, **name** (at most 63 lower-case letters, digits and `-`), **URI** (`hf://org/name`, `s3://bucket/path`,
  `gs://bucket/path`, `pvc://claim/path`, `file://path`, `package://name`, `run://name`), **duration** (`90s`, `15m`,
  `1h30m`), **quantity** (`2`, `500m`, `4Gi`).
- YAML is read as YAML 1.2: `2e-4` is a number. `yes`, `on` and `0123`, which kubectl reads differently, are refused.
"""


def api_reference(models: dict[str, type[Api]]) -> str:
    """Returns the reference as Markdown: a section for each resource, a table for each object in it."""
    parts = [_HEAD]
    seen: set[type[Api]] = set()
    for kind, model in models.items():
        parts.append(f"\n## {kind}\n\n{_text(model.__doc__)}\n")
        for part in ("spec", "status"):
            top = schema_walk.item(model.model_fields[part].annotation)
            for object_ in schema_walk.objects(top):
                if object_ not in seen:
                    seen.add(object_)
                    parts.append(_object(object_))
    return "".join(parts)


def _object(model: type[Api]) -> str:
    lines = [f"\n### {model.__name__}\n"]
    if own := _own_docstring(model):
        lines.append(f"\n{_text(own)}\n")
    lines.append("\n| Field | Type | Default | |\n|---|---|---|---|\n")
    lines += [_row(name, field) for name, field in schema_walk.fields(model).items()]
    if model.rules:
        lines.append("\nRules:\n")
        lines += [f"- {f'`{rule.field}`: ' if rule.field else ''}{rule.message}\n" for rule in model.rules]
    return "".join(lines)


def _own_docstring(model: type[Api]) -> str:
    return (model.__dict__.get("__doc__") or "").strip()


def _row(name: str, field: FieldInfo) -> str:
    bounds = ", ".join(_bounds(field.rebuild_annotation()))
    description = _text(field.description or "")
    note = " ".join(part for part in (description, f"({bounds})" if bounds else "") if part)
    kind = _type(field.rebuild_annotation()).replace("|", "\\|")
    return f"| `{name}` | {kind} | {_default(field)} | {note.replace('|', chr(92) + '|')} |\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    default = field.default
    if isinstance(default, bool):
        return "`true`" if default else "`false`"
    if isinstance(default, float):
        return f"`{default:g}`"
    return f"`{default}`" if isinstance(default, int | str) and default != "" else ""


def _type(annotation: Any) -> str:
    pattern = schema_walk.pattern_of(annotation)
    named = {NAME_PATTERN: "name", URI_PATTERN: "URI", DURATION_PATTERN: "duration"}
    words = {bool: "boolean", int: "integer", float: "number", str: "text"}
    names: list[str] = []
    for branch in schema_walk.branches(annotation):
        origin, inner = get_origin(branch), get_args(branch)
        if origin is Literal:
            names.append(" or ".join(f"`{choice}`" for choice in inner))
        elif origin is list:
            names.append(f"list of {_type(inner[0])}")
        elif origin is dict:
            names.append(f"map of {_type(inner[1])}")
        elif schema_walk.is_object(branch):
            names.append(f"[{branch.__name__}](#{branch.__name__.lower()})")
        elif hasattr(branch, "__members__"):
            names.append(" or ".join(f"`{member.value}`" for member in branch))
        else:
            names.append(named.get(pattern or "", words.get(branch, "text")) if branch is str else words[branch])
    return "quantity" if names == ["integer", "text"] and _is_quantity(annotation) else " or ".join(names)


def _is_quantity(annotation: Any) -> bool:
    return any(type(extra).__name__ == "AfterValidator" for extra in _metadata(annotation))


def _bounds(annotation: Any) -> Iterator[str]:
    for extra in _metadata(annotation):
        for key, word in BOUND_WORDS.items():
            if (bound := getattr(extra, key, None)) is not None:
                yield f"{word} {int(bound) if bound == int(bound) else bound}"


def _metadata(annotation: Any) -> Iterator[Any]:
    """Yields the constraints of a field or of what it may be when it is not left out; not those of list items."""
    if get_origin(annotation) is Annotated:
        yield from _metadata(get_args(annotation)[0])
        for extra in get_args(annotation)[1:]:
            yield from extra.metadata if isinstance(extra, FieldInfo) else (extra,)
    elif get_origin(annotation) in (Union, types.UnionType):
        for branch in get_args(annotation):
            yield from _metadata(branch)


def _text(text: str | None) -> str:
    """Joins lines; what looks like HTML in a docstring would vanish from the page."""
    return " ".join((text or "").split()).replace("<", "&lt;")


def editor_schema(models: dict[str, type[Api]]) -> str:
    """Returns a JSON schema (2020-12) that an editor's YAML support checks and completes either resource with."""
    definitions: dict[str, Any] = {}
    for kind, model in models.items():
        schema = model.model_json_schema(by_alias=True, ref_template="#/$defs/{model}")
        definitions.update(schema.pop("$defs", {}))
        schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
        definitions[kind] = schema
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://slipway.dev/schema/slipway.schema.json",
        "title": f"Slipway {API_VERSION}",
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": list(models)}},
        # One branch a kind, rather than oneOf: an editor then shows the errors of the kind that was meant.
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                "then": {"$ref": f"#/$defs/{kind}"},
            }
            for kind in models
        ],
        "$defs": dict(sorted(definitions.items())),
    }
    return json.dumps(_untitled(document), ensure_ascii=False, indent=2) + "\n"


def _untitled(value: Any) -> Any:
    """Takes away the titles that pydantic makes out of the names of fields: an editor shows the names anyway."""
    if isinstance(value, dict):
        return {
            key: _untitled(inner)
            for key, inner in value.items()
            if not (key == "title" and isinstance(inner, str) and "$schema" not in value)
        }
    return [_untitled(item) for item in value] if isinstance(value, list) else value
