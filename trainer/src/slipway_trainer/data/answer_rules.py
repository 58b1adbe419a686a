"""What rows say that answers have to be like, as something that an answer can be held against: patterns, JSON schemas,
numbers and languages. Each library is imported where a row asks for it.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from typing import Any

_NUMBER = re.compile(r"[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,3})?")


def number_of(text: str) -> Decimal | None:
    """Returns the last number of a text; None where it has none."""
    found = [one[0] for one in _NUMBER.finditer(unicodedata.normalize("NFKC", text)) if any(map(str.isdigit, one[0]))]
    try:
        return Decimal(found[-1].replace(",", "").replace("\u2212", "-")) if found else None
    except InvalidOperation:
        return None


def only_number(text: str) -> Decimal | None:
    """Returns the number that a reference is; None for any other."""
    normal = unicodedata.normalize("NFKC", text).strip()
    return number_of(normal) if normal and _NUMBER.fullmatch(normal) else None


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> Any:
    """Returns a pattern of RE2, which takes time in proportion to the text. Raises ValueError for one that is none."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"RE2 cannot read it: {said}") from None


def found_in(pattern: str, text: str) -> bool:
    """Whether a pattern is found in a text. Half a surrogate pair, which JSON holds and UTF-8 does not, is U+FFFD."""
    try:
        return compiled(pattern).search(text) is not None
    except UnicodeEncodeError:
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return compiled(pattern).search(whole) is not None


@lru_cache(maxsize=4096)
def validator(schema: str) -> Any:
    """Returns what holds a value against a schema: draft 2020-12 unless it says another. Patterns are RE2's, and
    nothing is fetched. Raises ValueError for a schema that is none, or that refers to what is not in it."""
    import jsonschema
    from jsonschema.validators import extend, validator_for
    from referencing import Registry

    document = json.loads(schema)
    dialect = document.get("$schema", "") if isinstance(document, dict) else ""
    if not isinstance(dialect, str):
        raise ValueError("it is no JSON schema: $schema must be a text")
    plain_class: Any = validator_for(document, default=jsonschema.Draft202012Validator)
    try:
        # No format is checked: a pattern would be read as one of Python.
        plain_class.check_schema(document, format_checker=jsonschema.FormatChecker(formats=()))
    except jsonschema.SchemaError as error:
        place = "/".join(map(str, error.absolute_path))
        raise ValueError(f"it is no JSON schema: {error.message}" + (f" (at {place})" if place else "")) from None
    _refuse_what_re2_cannot(document)
    _refuse_what_leads_nowhere(document, plain_class)
    return extend(plain_class, _RULES)(document, registry=Registry())


def _refuse_what_re2_cannot(document: Any) -> None:
    """Tries every pattern, and refuses what the library would look for by itself, with Python's expressions."""
    names: set[str] = set()
    for node in _objects(document):
        names |= node.keys()
        if isinstance(node.get("pattern"), str):
            compiled(node["pattern"])
        for pattern in node["patternProperties"] if isinstance(node.get("patternProperties"), dict) else ():
            compiled(pattern)
    if names >= {"patternProperties", "unevaluatedProperties"}:
        raise ValueError(
            "it has patternProperties and unevaluatedProperties, whose patterns could take for ever; write "
            "additionalProperties beside the patterns instead"
        )


def _refuse_what_leads_nowhere(document: Any, kind: Any) -> None:
    """Follows each reference from where it stands: one to another document, or to nothing, would end an evaluation."""
    import referencing.jsonschema
    from referencing import Registry, Specification
    from referencing.exceptions import Unresolvable

    specification = referencing.jsonschema.specification_with(
        kind.META_SCHEMA.get("$schema", ""), default=Specification.OPAQUE
    )
    root = specification.create_resource(document)
    waiting: list[tuple[Any, Any]] = [(document, Registry().resolver_with_root(root))]
    seen: set[int] = set()
    same_value: dict[int, list[tuple[Any, str]]] = {}
    """By the schema, those that it holds the same value against, and how it comes to each."""
    while waiting:
        node, resolver = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if not isinstance(node, dict | bool):
            raise ValueError(f"it refers to {json.dumps(node, ensure_ascii=False)[:64]}, which is no schema")
        own = specification.create_resource(node)
        waiting += [(one.contents, resolver.in_subresource(one)) for one in own.subresources()]
        said: dict[str, Any] = node if isinstance(node, dict) else {}
        beside = same_value[id(node)] = [] if "$ref" in said and _hides_others(kind) else _applied_at_once(said)
        for reference in (said.get("$ref"), said.get("$dynamicRef"), said.get("$recursiveRef")):
            if not isinstance(reference, str):
                continue
            if not reference.startswith("#"):
                raise ValueError(
                    f"it refers to {reference}, and nothing is fetched: write what is meant into the schema"
                )
            try:
                resolved = resolver.lookup(reference)
            except (Unresolvable, ValueError, LookupError, TypeError):
                raise ValueError(f"it refers to {reference}, and there is no such place in it") from None
            waiting.append((resolved.contents, resolved.resolver))
            beside.append((resolved.contents, reference))
    _refuse_without_end(document, same_value)


def _hides_others(kind: Any) -> bool:
    """Whether a reference is all that counts of a schema that has one, as before draft 2019-09."""
    return "/draft-0" in kind.META_SCHEMA.get("$schema", "")


def _applied_at_once(said: dict[str, Any]) -> list[tuple[Any, str]]:
    """Returns the schemas in a schema that are held against the same value as that, with their keywords."""
    found = [(said[name], name) for name in ("not", "if", "then", "else") if name in said]
    for name in ("allOf", "anyOf", "oneOf"):
        found += [(one, name) for one in said.get(name, ())]
    for name in ("dependentSchemas", "dependencies"):
        found += [(one, name) for one in said.get(name, {}).values() if isinstance(one, dict)]
    return found


def _refuse_without_end(document: Any, same_value: dict[int, list[tuple[Any, str]]]) -> None:
    """Refuses a schema that comes back to itself with the same value, which nothing ends. With a part of the value, as
    trees do, it ends with the value.

    Args:
        same_value: by the id of a schema, those that it holds the same value against.
    """
    done: set[int] = set()
    for start in same_value:
        if start in done:
            continue
        under_way: dict[int, Iterator[tuple[Any, str]]] = {start: iter(same_value[start])}
        while under_way:
            node = next(reversed(under_way))
            following = next(under_way[node], None)
            if following is None:
                done.add(node)
                del under_way[node]
                continue
            schema, how = following
            if id(schema) in under_way:
                raise ValueError(
                    f"it comes back to itself without end, by {how}: the same value is held against the same schema "
                    "again. Write what is meant there, or refer to it from properties or items, which go into the value"
                )
            if id(schema) in same_value and id(schema) not in done and isinstance(schema, dict):
                under_way[id(schema)] = iter(same_value[id(schema)])


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for one in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _objects(one)


def _pattern_rule(_own: Any, pattern: str, value: Any, _schema: Any) -> Any:
    from jsonschema import ValidationError

    if isinstance(value, str) and not found_in(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _properties_rule(own: Any, patterns: dict[str, Any], value: Any, _schema: Any) -> Any:
    for pattern, schema in patterns.items() if isinstance(value, dict) else ():
        for name, held in value.items():
            if found_in(pattern, name):
                yield from own.descend(held, schema, path=name, schema_path=pattern)


def _additional_rule(own: Any, wanted: Any, value: Any, schema: Any) -> Any:
    """The library's own looks for the names of patternProperties with Python's expressions."""
    for name, held in value.items() if isinstance(value, dict) else ():
        known = name in schema.get("properties", {})
        if not known and not any(found_in(pattern, name) for pattern in schema.get("patternProperties", {})):
            yield from own.descend(held, wanted, path=name)


def _multiple_rule(_own: Any, step: Any, value: Any, _schema: Any) -> Any:
    """As both are written: 0.3 is three times 0.1. The library's own divides by it, which a long number overflows."""
    from jsonschema import ValidationError

    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    # What JSON writes as 1e999 is infinite here.
    if (isinstance(value, float) and not math.isfinite(value)) or (
        _as_written(value) / _as_written(step)
    ).denominator != 1:
        yield ValidationError(f"{value!r} is not a multiple of {step}")


def _as_written(number: float) -> Fraction:
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


_RULES = {
    "pattern": _pattern_rule,
    "patternProperties": _properties_rule,
    "additionalProperties": _additional_rule,
    "multipleOf": _multiple_rule,
}


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    found = LanguageIdentifier.from_model_file(MODEL_FILE)
    # Those with a code of two letters: Cantonese and Wu are Chinese then.
    found.set_languages([label for label in found.labels if len(label) == 2])
    return found


def language_of(text: str) -> str:
    """Returns the ISO 639-1 code of the language that a text is most likely in. Few words tell little."""
    return str(_identifier().classify(text)[0])


def languages() -> list[str]:
    """Returns the languages that can be told."""
    return sorted(_identifier().labels)
