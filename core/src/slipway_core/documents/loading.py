"""From the text of a YAML file to a resource, or to all that is wrong with it, each with its line and its fix."""

# A document is untyped until it is validated, so strict checking has nothing to hold on to here.
# pyright: basic

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from slipway_core.documents import overrides, schema_walk, yaml12
from slipway_core.documents.schema_walk import BOUND_WORDS
from slipway_core.documents.yaml12 import Path
from slipway_core.resources import api, stage, tracking, training_run, uris
from slipway_core.resources import model as models
from slipway_core.resources.api import API_VERSION, Api, RuleError
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.training_run import TrainingRun

KINDS: dict[str, type[TrainingRun] | type[ModelEndpoint]] = {
    "TrainingRun": TrainingRun,
    "ModelEndpoint": ModelEndpoint,
}
_SHOWN = 60
"""Characters of a value that an error shows."""
_FEW = 5
"""Names that a place may have to be told whole, rather than where else a field of this name stands."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and what to do about it."""

    message: str
    field: str = ""
    """Path in the document as it is written there: `spec.stages[0].objective`; empty for the whole."""
    value: Any = None
    line: int | None = None
    fix: str = ""
    source: str = ""
    """File, or override, that it stands in."""
    found: str = ""
    """The values of several fields that do not go together."""

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line is not None and self.source else self.source
        message = f"{self.message} ({self.found})" if self.found else self.message
        head = ": ".join(part for part in (place, self.field, message) if part)
        return f"{head}; {self.fix}" if self.fix else head


class DocumentError(ValueError):
    """The text is no resource; `problems` holds all that was found, in the order of the lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def load(text: str, name: str = "<text>", *, overrides: Sequence[str] = ()) -> TrainingRun | ModelEndpoint:
    """Reads one resource, as strictly as the API server does.

    Args:
        text: YAML 1.2 (or JSON) with one document.
        name: what errors call the text: the path of the file.
        overrides: `path=value` each, see `overrides.apply`; later ones win.

    Raises:
        DocumentError: it is not YAML, not one of the resources, or a field, an override or a rule is wrong.
    """
    return _Loader(name).load(text, overrides)


def load_run(text: str, name: str = "<text>", *, overrides: Sequence[str] = ()) -> TrainingRun:
    """Like `load`, for a TrainingRun alone. Raises DocumentError for another kind too."""
    resource = load(text, name, overrides=overrides)
    if not isinstance(resource, TrainingRun):
        raise DocumentError(
            [Problem("is not a TrainingRun", "kind", resource.kind, source=name, fix="only a TrainingRun can be run")]
        )
    return resource


class _Loader:
    def __init__(self, name: str) -> None:
        self._name = name
        self._problems: dict[Path, list[Problem]] = {}
        self._lines: dict[Path, int] = {}
        self._overridden: dict[Path, str] = {}
        self._value: Any = None
        self._empty: set[Path] = set()
        self._refused: list[Path] = []

    def load(self, text: str, assignments: Sequence[str]) -> TrainingRun | ModelEndpoint:
        self._read(text)
        self._override(assignments)
        model = self._kind()
        _drop_empty(model, self._value, (), self._empty)
        resource = None
        try:
            text = json.dumps(self._value)
            resource = model.model_validate_json(text, by_alias=True, by_name=False, context=api.WRITTEN)
        except ValidationError as error:
            for details in error.errors(include_url=False):
                self._explain(model, details)
        self._check_uris(model)
        if resource is None or self._problems:
            raise DocumentError(self._sorted())
        return resource

    def _read(self, text: str) -> None:
        try:
            document = yaml12.read(text)
        except yaml12.YamlError as error:
            self._problem(error.path, error.message, fix=error.fix, line=error.line)
            raise DocumentError(self._sorted()) from None
        self._value, self._lines = document.value, document.lines
        for error in document.errors:
            self._refused.append(error.path)
            self._problem(error.path, error.message, fix=error.fix, line=error.line)
        if not isinstance(self._value, dict):
            fix = "start it with apiVersion, kind, metadata and spec"
            self._problem((), f"holds {_kind_of(self._value)}, not a resource", fix=fix)
            raise DocumentError(self._sorted())

    def _override(self, assignments: Sequence[str]) -> None:
        for assignment in assignments:
            try:
                path = overrides.apply(self._value, assignment)
            except overrides.OverrideError as error:
                raise DocumentError([Problem(str(error))]) from None
            self._overridden[path] = f"--set {assignment}"
            for stale in [known for known in self._refused if known[: len(path)] == path]:
                self._refused.remove(stale)
                self._problems.pop(stale, None)

    def _kind(self) -> type[TrainingRun] | type[ModelEndpoint]:
        kind, version = self._value.get("kind"), self._value.get("apiVersion")
        if version != API_VERSION:
            message = "is missing" if version is None else f"{_show(version)} is not known"
            self._problem(("apiVersion",), message, fix=f"write apiVersion: {API_VERSION}")
        if kind in KINDS:
            return KINDS[kind]
        near = _nearest(str(kind), KINDS)
        fix = f"did you mean {near}?" if near else f"write kind: {' or '.join(KINDS)}"
        self._problem(("kind",), "is missing" if kind is None else f"{_show(kind)} is not known", fix=fix)
        raise DocumentError(self._sorted())

    def _explain(self, model: type[Api], details: ErrorDetails) -> None:
        path = _real_path(self._value, details["loc"])
        if details["type"] == "missing":
            path = tuple(part for part in details["loc"])
        error = details.get("ctx", {}).get("error")
        if path in self._problems or self._refused_below(path):
            return
        if isinstance(error, RuleError):
            for broken in error.broken:
                place = (*path, broken.rule.field) if broken.rule.field else path
                self._problem(place, broken.rule.message, found=broken.found)
            return
        message, fix = _sentence(model, path, details, self._value, self._empty)
        self._problem(path, message, fix=fix)

    def _refused_below(self, path: Path) -> bool:
        """Whether a value below is no YAML value: without it, nothing can be said about what holds it."""
        return any(known[: len(path)] == path for known in self._refused)

    def _check_uris(self, model: type[Api]) -> None:
        for path, text in schema_walk.texts(model, self._value, api.URI_PATTERN):
            try:
                uris.parse(text)
            except uris.UriError as error:
                self._problems.pop(path, None)
                self._problem(path, str(error))

    def _problem(self, path: Path, message: str, *, fix: str = "", line: int | None = None, found: str = "") -> None:
        source, line = self._place(path, line)
        value = schema_walk.at(self._value, path)
        problem = Problem(message, yaml12.shown(path), value, line, fix, source, found)
        known = self._problems.setdefault(path, [])
        if problem not in known:
            known.append(problem)

    def _place(self, path: Path, line: int | None) -> tuple[str, int | None]:
        """Returns file and line, or the override that made the value."""
        for length in range(len(path), 0, -1):
            if (source := self._overridden.get(path[:length])) is not None:
                return source, None
        for length in range(len(path), -1, -1):
            if line is None:
                line = self._lines.get(path[:length])
        return self._name, line

    def _sorted(self) -> list[Problem]:
        found = [problem for problems in self._problems.values() for problem in problems]
        return sorted(found, key=lambda problem: (problem.line or 0, problem.field))


def _drop_empty(model: Any, value: Any, path: Path, dropped: set[Path]) -> None:
    """Takes away known fields that stand there without a value, as the API server does."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            _drop_empty(model, item, (*path, index), dropped)
    if not isinstance(value, dict):
        return
    fields = schema_walk.fields(model) if schema_walk.is_object(model) else {}
    for key in list(value):
        if key in fields and value[key] is None:
            del value[key]
            dropped.add((*path, key))
        elif key in fields:
            _drop_empty(schema_walk.item(fields[key].annotation), value[key], (*path, key), dropped)


def _real_path(value: Any, loc: Iterable[str | int]) -> Path:
    """Returns where an error stands: pydantic's location without the names of union branches and of keys."""
    path: list[str | int] = []
    for part in loc:
        if (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        ):
            path.append(part)
            value = value[part]  # pyright: ignore[reportCallIssue, reportArgumentType]
        else:
            break
    return tuple(path)


def _sentence(model: type[Api], path: Path, details: ErrorDetails, document: Any, empty: set[Path]) -> tuple[str, str]:
    """Returns what is wrong and what to write instead."""
    value, context = details["input"], details.get("ctx", {})
    match details["type"]:
        case "extra_forbidden":
            return "unknown field", _did_you_mean(model, path)
        case "missing":
            message = "is empty" if path in empty else "is missing"
            return message, _example(model, path)
        case "literal_error" | "enum":
            choices = re.findall(r"'([^']*)'", str(context.get("expected", "")))
            near = _nearest(str(value), choices)
            fix = f"did you mean {near}?" if near else ""
            return f"{_show(value)} is not one of {', '.join(choices)}", fix
        case "string_pattern_mismatch":
            return _pattern_sentence(str(context["pattern"]), value)
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            return _bound_sentence(context, value), ""
        case "too_short" | "too_long":
            few = details["type"] == "too_short"
            bound = context["min_length"] if few else context["max_length"]
            things = f"item{'s' if bound != 1 else ''}"
            return f"has {len(value)} and needs at {'least' if few else 'most'} {bound} {things}", ""
        case "string_too_short" | "string_too_long":
            bound = context.get("min_length", context.get("max_length"))
            least = "min_length" in context
            return f"{_show(value)} must have at {'least' if least else 'most'} {bound} characters", ""
        case "value_error":
            return str(context["error"]), ""
        case "finite_number":
            return f"{_show(value)} is not a finite number", ""
        case _:
            return _type_sentence(model, path, details)


def _type_sentence(model: type[Api], path: Path, details: ErrorDetails) -> tuple[str, str]:
    expected = schema_walk.kinds(schema_walk.annotation_at(model, path)) or [details["msg"]]
    value = details["input"]
    name = str(path[-1]) if path else "it"
    is_number = isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", value.strip())
    if is_number and any("number" in kind for kind in expected):
        fix = f"write {name}: {value.strip()} without quotes"
    elif isinstance(value, bool | int | float) and expected == ["text"]:
        fix = _as_text(model, path, value)
    elif isinstance(value, list) and _pattern_at(model, path) == stage.TARGETS_PATTERN:
        fix = f"write {name}: {','.join(map(str, value))}"
    else:
        fix = _example(model, path)
    return f"{_show(value)} is {_kind_of(value)}, and {' or '.join(expected)} is expected", fix


def _as_text(model: type[Api], path: Path, value: Any) -> str:
    """Returns how a number is written as the text that stands at a place; in quotes, where that would do."""
    text, pattern = json.dumps(value), _pattern_at(model, path)
    if pattern is not None and not re.search(pattern, text):
        return _pattern_sentence(pattern, text)[1]
    return f'write {path[-1] if path else "it"}: "{text}" in quotes'


def _pattern_at(model: type[Api], path: Path) -> str | None:
    """Returns what a text at a place has to match, if anything."""
    schema = TypeAdapter(schema_walk.annotation_at(model, path)).json_schema()
    return next((one["pattern"] for one in (schema, *schema.get("anyOf", ())) if "pattern" in one), None)


def _did_you_mean(model: type[Api], path: Path) -> str:
    """Returns the nearest name at this place; failing that, where a field of this name belongs, or what is known here.

    A place above or below is likely meant. One elsewhere is not, where few names are known: `compute.resources.memory`
    has nothing to do with the `memory` of a stage.
    """
    name = str(path[-1])
    parent = schema_walk.item(schema_walk.annotation_at(model, path[:-1]))
    names = list(schema_walk.fields(parent)) if schema_walk.is_object(parent) else []
    if near := _nearest(name, names, cutoff=0.72):
        return f"did you mean {near}?"
    places = [where for known, where in schema_walk.all_fields(model) if known == name]
    here = re.sub(r"\[\d+\]", "[]", yaml12.shown(path[:-1]))
    kin = [where for where in places if _holds(here, where) or _holds(where, here)]
    if kin or (places and not 0 < len(names) <= _FEW):
        return f"it belongs to {' or '.join((kin or places)[:3])}"
    if near := _nearest(name, names):
        return f"did you mean {near}?"
    return f"known here: {', '.join(names)}" if names else ""


def _holds(outer: str, inner: str) -> bool:
    """Whether the one place is the other or stands around it: spec.stages[] around spec.stages[].optimizer."""
    return inner == outer or inner.startswith((f"{outer}.", f"{outer}["))


def _example(model: type[Api], path: Path) -> str:
    example = schema_walk.example(model, path)
    return f"write it like {example}" if example else ""


def _nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Returns the known word that is most like this one, whatever its case and underscores."""
    plain = {re.sub(r"[-_]", "", name).lower(): name for name in known}
    found = difflib.get_close_matches(re.sub(r"[-_]", "", word).lower(), plain, n=1, cutoff=cutoff)
    return plain[found[0]] if found else None


def _pattern_sentence(pattern: str, value: Any) -> tuple[str, str]:
    match pattern:
        case api.NAME_PATTERN:
            rule = "may hold lower-case letters, digits and '-' alone, and starts and ends with a letter or digit"
            proposal = re.sub(r"[^a-z0-9]+", "-", str(value).lower()).strip("-")
            return f"{_show(value)} {rule}", f"write {proposal}" if proposal else ""
        case api.DURATION_PATTERN:
            return f"{_show(value)} is no duration", "write it like 90s, 15m or 1h30m"
        case api.QUANTITY_PATTERN:
            return f"{_show(value)} is no quantity", "write it like 2, 500m or 4Gi"
        case tracking.PROJECT_PATTERN:
            return f"{_show(value)} may hold no control characters and none of / \\ # ? % :", ""
        case tracking.EXPERIMENT_PATTERN:
            return f"{_show(value)} may hold no control characters", ""
        case tracking.SERVER_PATTERN:
            return f"{_show(value)} is no address of a server", "write it like http://mlflow.ml:5000"
        case stage.TARGETS_PATTERN:
            proposal = re.sub(r"[\s,;]+", ",", str(value).strip(" ,;"))
            fix = f"write {proposal}" if re.search(pattern, proposal) else "write them like q_proj,v_proj"
            return f"{_show(value)} are no names of layers with commas between them", fix
        case models.NEW_TOKEN:
            return f"{_show(value)} begins or ends with a space, or is nothing else", "write the token alone"
        case training_run.PUSH_PATTERN:
            return f"{_show(value)} is no repository of the hub", "write it like hf://org/name"
        case _ if "sha256" in pattern:
            return f"{_show(value)} is no digest", "write sha256: and 64 hexadecimal digits"
        case _:
            return f"{_show(value)} does not match {pattern}", ""


def _bound_sentence(context: dict[str, Any], value: Any) -> str:
    bounds = [f"{word} {_plain(context[key])}" for key, word in BOUND_WORDS.items() if key in context]
    return f"{_show(value)} must be {' and '.join(bounds)}"


def _plain(number: float) -> str:
    return str(int(number) if number == int(number) else number)


def _kind_of(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "a truth value"
        case int():
            return "a whole number"
        case float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "a mapping"


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def problems(text: str, name: str = "<text>", *, overrides: Sequence[str] = ()) -> Iterator[Problem]:
    """Yields what `load` would raise; nothing for a good resource."""
    try:
        load(text, name, overrides=overrides)
    except DocumentError as error:
        yield from error.problems
