"""What rows say that answers have to be like, as something that an answer can be held against: patterns, JSON schemas,
numbers and languages. Each library is imported where a row asks for it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from decimal import Decimal, InvalidOperation
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


@lru_cache(maxsize=4096)
def validator(schema: str) -> Any:
    """Returns what holds a value against a schema: draft 2020-12 unless it says another. Patterns are RE2's, and
    nothing is fetched. Raises ValueError for a schema that is none, or that refers to what is not in it."""
    import jsonschema
    from jsonschema.validators import extend, validator_for
    from referencing import Registry

    document = json.loads(schema)
    plain_class = validator_for(document, default=jsonschema.Draft202012Validator)
    try:
        plain_class.check_schema(document)
    except jsonschema.SchemaError as error:
        place = "/".join(map(str, error.absolute_path))
        raise ValueError(f"it is no JSON schema: {error.message}" + (f" (at {place})" if place else "")) from None
    _refuse_what_re2_cannot(document)
    return extend(plain_class, {"pattern": _pattern_rule, "patternProperties": _properties_rule})(
        document, registry=Registry()
    )


def _refuse_what_re2_cannot(node: Any) -> None:
    if isinstance(node, list):
        for one in node:
            _refuse_what_re2_cannot(one)
    elif isinstance(node, dict):
        if isinstance(node.get("pattern"), str):
            compiled(node["pattern"])
        for pattern in node["patternProperties"] if isinstance(node.get("patternProperties"), dict) else ():
            compiled(pattern)
        reference = node.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#"):
            raise ValueError(f"it refers to {reference}, and nothing is fetched: write what is meant into the schema")
        for one in node.values():
            _refuse_what_re2_cannot(one)


def _pattern_rule(_own: Any, pattern: str, value: Any, _schema: Any) -> Any:
    from jsonschema import ValidationError

    if isinstance(value, str) and compiled(pattern).search(value) is None:
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _properties_rule(own: Any, patterns: dict[str, Any], value: Any, _schema: Any) -> Any:
    for pattern, schema in patterns.items() if isinstance(value, dict) else ():
        for name, held in value.items():
            if compiled(pattern).search(name) is not None:
                yield from own.descend(held, schema, path=name, schema_path=pattern)


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
