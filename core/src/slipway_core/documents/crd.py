"""CustomResourceDefinitions made from the models: structural schemas that refuse what the models refuse.

No `default:` is written: the plan fills defaults in, and a default that the API server stored would outlive a change of
the models. Every list, map and text has a bound, since the API server estimates the cost of CEL rules from them.
"""

# A JSON schema is untyped, so strict checking has nothing to hold on to here.
# pyright: basic

from __future__ import annotations

from typing import Any

from pydantic.alias_generators import to_camel

from slipway_core.documents import schema_walk
from slipway_core.resources.api import GROUP, NAME_PATTERN, VERSION, Api
from slipway_core.resources.compute import PLACEMENT

Schema = dict[str, Any]

_TEXT_LIMIT = 4096
_LIST_LIMIT = 64
_MAP_LIMIT = 64

_COPIED = (
    "pattern", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minimum", "maximum",
    "enum", "x-kubernetes-int-or-string",
)  # fmt: skip

_EDITABLE = ("suspend", "retention", "serving", "tracking")
"""Fields of a run's spec that may change after it was planned."""


def training_run(model: type[Api]) -> dict[str, Any]:
    """Returns the CustomResourceDefinition of TrainingRun."""
    columns = [
        _column("Phase", ".status.phase"),
        _column("Stage", '.status.stages[?(@.state=="Running")].name'),
        _column("Progress", '.status.stages[?(@.state=="Running")].progress.step', "integer"),
        _column("Of", '.status.stages[?(@.state=="Running")].progress.total', "integer"),
        _column("Loss", '.status.stages[?(@.state=="Running")].progress.loss', "number"),
        _column("Verdict", ".status.evaluation.verdict"),
        _column("Warnings", ".status.warnings", "integer"),
        _column("Endpoint", ".status.endpoint.name"),
        _column("URL", ".status.endpoint.url", priority=1),
        _column("Digest", ".status.artifact.digest", priority=1),
        _column("Age", ".metadata.creationTimestamp", "date"),
    ]
    return _definition(model, "trainingruns", "tr", columns, _immutable(model))


def model_endpoint(model: type[Api]) -> dict[str, Any]:
    """Returns the CustomResourceDefinition of ModelEndpoint."""
    columns = [
        _column("Phase", ".status.phase"),
        _column("Version", ".status.live.version", "integer"),
        _column("Run", ".status.live.run"),
        _column("Candidate", ".status.candidate.version", "integer"),
        _column("URL", ".status.url"),
        _column("Digest", ".status.live.digest", priority=1),
        _column("Age", ".metadata.creationTimestamp", "date"),
    ]
    return _definition(model, "modelendpoints", "me", columns, [])


def _definition(
    model: type[Api], plural: str, short: str, columns: list[Schema], transitions: list[Schema]
) -> dict[str, Any]:
    kind = model.__name__
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": _root(model, transitions)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["slipway"],
            },
            "versions": [version],
        },
    }


def _column(name: str, path: str, type_: str = "string", priority: int = 0) -> Schema:
    column = {"name": name, "type": type_, "jsonPath": path}
    return {**column, "priority": priority} if priority else column


def _root(model: type[Api], transitions: list[Schema]) -> Schema:
    """The API server allows no more of metadata than its type, so its name is checked by a rule from outside."""
    schema = Schemas(model).root()
    schema["properties"]["apiVersion"] = {"type": "string"}
    schema["properties"]["kind"] = {"type": "string"}
    schema["properties"]["metadata"] = {"type": "object"}
    schema["required"] = ["spec"]
    name = {
        "rule": f"self.metadata.name.size() <= 63 && self.metadata.name.matches('{NAME_PATTERN}')",
        "message": "the name must have at most 63 lower-case letters, digits and '-'",
    }
    schema["x-kubernetes-validations"] = [name, *transitions]
    return schema


_PLANNED = "has(oldSelf.status) && has(oldSelf.status.planDigest)"
_AT_REST = (
    "(has(self.spec.suspend) && self.spec.suspend) || (has(oldSelf.spec.suspend) && oldSelf.spec.suspend) || "
    "!has(oldSelf.status.stages) || !oldSelf.status.stages.exists(s, has(s.attempt) && s.attempt > 0)"
)
"""Whether a planned run is suspended, or was until now, or has not begun."""


def _immutable(model: type[Api]) -> list[Schema]:
    """A planned run's spec stays as it is, but where it runs may be edited while nothing of it does; one rule a field,
    so that the error names the one that changed."""
    spec = schema_walk.item(model.model_fields["spec"].annotation)
    rules: list[Schema] = []
    for name, field in schema_walk.fields(spec).items():
        if name in _EDITABLE:
            continue
        if name == "compute":
            rules += _placement(schema_walk.item(field.annotation))
            continue
        same = f"self.spec.{name} == oldSelf.spec.{name}" if field.is_required() else _same(name)
        rules.append(_unless(_PLANNED, same, f"{name} {_NEVER}", name))
    return rules


_NEVER = "cannot change once the run is planned; delete the run, or make one of another name"


def _placement(compute: type[Api]) -> list[Schema]:
    editable = {to_camel(name) for name in PLACEMENT}
    rules: list[Schema] = []
    for name in schema_walk.fields(compute):
        same = _same("compute", name)
        if name in editable:
            words = "cannot change while the run is under way: set suspend: true, edit it, and set suspend: false"
            rules.append(_unless(f"{_PLANNED} && !({_AT_REST})", same, f"compute.{name} {words}", f"compute.{name}"))
        else:
            rules.append(_unless(_PLANNED, same, f"compute.{name} {_NEVER}", f"compute.{name}"))
    return rules


def _same(*path: str) -> str:
    """Returns whether a field that may be left out, or below one that may, is as it was."""
    new, old = (_has(root, path) for root in ("self.spec", "oldSelf.spec"))
    field = ".".join(path)
    return f"({new}) == ({old}) && (!({new}) || self.spec.{field} == oldSelf.spec.{field})"


def _has(root: str, path: tuple[str, ...]) -> str:
    return " && ".join(f"has({root}.{'.'.join(path[: depth + 1])})" for depth in range(len(path)))


def _unless(when: str, same: str, message: str, field: str) -> Schema:
    return {"rule": f"!({when}) || ({same})", "message": message, "fieldPath": f".spec.{field}"}


class Schemas:
    """Structural schemas of one resource, out of the JSON schema that pydantic writes."""

    def __init__(self, model: type[Api]) -> None:
        self._model = model
        self._document = model.model_json_schema(by_alias=True)
        self._classes = {found.__name__: found for found in schema_walk.objects(model)}

    def root(self) -> Schema:
        return self._object(self._document, self._model)

    def _object(self, schema: Schema, class_: type[Api] | None) -> Schema:
        out: Schema = {"type": "object"}
        if schema.get("description"):
            out["description"] = _one_line(schema["description"])
        required = [name for name in schema.get("required", []) if name in schema["properties"]]
        if required:
            out["required"] = required
        out["properties"] = {name: self.field(inner) for name, inner in schema["properties"].items()}
        if class_ is not None and class_.rules:
            out["x-kubernetes-validations"] = [_rule(rule) for rule in class_.rules]
        return out

    def field(self, schema: Schema) -> Schema:
        """Returns the structural schema of one field, its description and its default included."""
        out = self._value(schema)
        description = _one_line(schema.get("description", "") or out.get("description", ""))
        if (default := _default(schema)) is not None:
            description = f"{description} Default: {default}.".strip()
        return (
            {"description": description, **{k: v for k, v in out.items() if k != "description"}} if description else out
        )

    def _value(self, schema: Schema) -> Schema:
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[-1]
            definition = self._document["$defs"][name]
            if "properties" in definition:
                return self._object(definition, self._classes[name])
            return self._value(definition)
        if "anyOf" in schema:
            return self._union(schema)
        out: Schema = {}
        if "const" in schema:
            out = {"type": "string", "enum": [schema["const"]]}
        elif "type" in schema:
            out["type"] = schema["type"]
        out.update({key: schema[key] for key in _COPIED if key in schema})
        _exclusive(schema, out)
        match out.get("type"):
            case "array":
                out["items"] = self._value(schema["items"])
                out.setdefault("maxItems", _LIST_LIMIT)
                _as_map(out)
            case "object":
                values = schema.get("additionalProperties")
                out["additionalProperties"] = self._value(values) if isinstance(values, dict) else {"type": "string"}
                out.setdefault("maxProperties", _MAP_LIMIT)
            case "string" if "enum" not in out:
                out.setdefault("maxLength", _TEXT_LIMIT)
            case "integer":
                out["format"] = "int64"
            case _:
                pass
        return out

    def _union(self, schema: Schema) -> Schema:
        """A union is a value that may be left out, or a number or text; there are no others."""
        branches = [branch for branch in schema["anyOf"] if branch.get("type") != "null"]
        if schema.get("x-kubernetes-int-or-string") or any(b.get("x-kubernetes-int-or-string") for b in branches):
            source = next((b for b in branches if b.get("x-kubernetes-int-or-string")), schema)
            out: Schema = {"x-kubernetes-int-or-string": True}
            out.update({key: source[key] for key in ("pattern", "maxLength", "minimum") if key in source})
            out.setdefault("maxLength", 32)
            return out
        if len(branches) != 1:
            raise ValueError(f"a CRD cannot hold this union: {schema}")
        rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default", "title")}
        return self._value({**branches[0], **rest})


def _rule(rule: Any) -> Schema:
    out = {"rule": rule.cel, "message": rule.message}
    if rule.field:
        out["fieldPath"] = f".{rule.field}"
    return out


def _exclusive(schema: Schema, out: Schema) -> None:
    """OpenAPI 3.0, which CRDs speak, marks an open bound by a flag."""
    for side in ("Minimum", "Maximum"):
        if (bound := schema.get(f"exclusive{side}")) is not None:
            out[side.lower()] = bound
            out[f"exclusive{side}"] = True


def _as_map(out: Schema) -> None:
    """Conditions are merged by their type, so that two writers keep each other's."""
    if "lastTransitionTime" in out["items"].get("properties", {}):
        out["x-kubernetes-list-type"] = "map"
        out["x-kubernetes-list-map-keys"] = ["type"]


def _default(schema: Schema) -> str | None:
    default = schema.get("default")
    if default is None or isinstance(default, dict | list) or default == "":
        return None
    if isinstance(default, bool):
        return "true" if default else "false"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _one_line(text: str) -> str:
    return " ".join(text.split())
