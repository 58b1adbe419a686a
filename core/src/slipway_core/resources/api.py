"""What every part of the two resources is made of: strict frozen models, and rules that two validators share.

A field's docstring becomes its description in the CRD, the API reference and the editor's schema. A rule is written
once as CEL, for the API server, and once as Python, for everybody else; both refuse with the same words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator
from pydantic.alias_generators import to_camel

GROUP = "slipway.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DURATION_PATTERN = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"
QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
URI_PATTERN = r"^(hf|s3|gs|pvc|file|package|run)://.+$"

Name = Annotated[str, Field(pattern=NAME_PATTERN, min_length=1, max_length=63)]
Uri = Annotated[str, Field(pattern=URI_PATTERN, max_length=1024)]
Duration = Annotated[str, Field(pattern=DURATION_PATTERN, min_length=2, max_length=32)]


def _checked_quantity(value: int | str) -> int | str:
    quantity(value)
    return value


Quantity = Annotated[
    int | str,
    AfterValidator(_checked_quantity),
    Field(
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            "pattern": QUANTITY_PATTERN,
            "maxLength": 32,
            "minimum": 0,
        }
    ),
]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)]
TEXT_LIMIT = 4096
Text = Annotated[str, Field(max_length=TEXT_LIMIT)]
ShortText = Annotated[str, Field(min_length=1, max_length=253)]


@dataclass(frozen=True)
class Rule:
    """A condition over several fields of one object. `message` is what a user reads when it does not hold."""

    cel: str
    message: str
    check: Callable[[Any], bool]
    field: str = ""
    """The field, by its YAML name, that an error points at; the object itself when it is empty."""
    found: Callable[[Any], str] | None = None
    """Returns the values that break the rule, for people; the API server says its message alone."""
    of_new: bool = False
    """Whether earlier releases took what breaks it. It is asked of what a user writes (`WRITTEN`), as the API server
    asks it of what is new or changed: what is stored goes on as it began."""


WRITTEN = {"written": True}
"""Context of a validation of what a user writes, by which rules of later releases are asked too."""


@dataclass(frozen=True)
class BrokenRule:
    """A rule that does not hold for one object."""

    rule: Rule
    found: str = ""
    """The values that break it."""


class RuleError(ValueError):
    """Rules of one object that do not hold; `documents` turns each into an error that names the field."""

    def __init__(self, *broken: BrokenRule) -> None:
        super().__init__("; ".join(one.rule.message for one in broken))
        self.broken = broken


class Api(BaseModel):
    """Base of every object in a resource: frozen, no unknown field, no coercion, no NaN, camelCase outside."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _obey_rules(self, info: ValidationInfo) -> Self:
        written = info.context == WRITTEN
        asked = [rule for rule in self.rules if written or not rule.of_new]
        broken = [BrokenRule(rule, rule.found(self) if rule.found else "") for rule in asked if not rule.check(self)]
        if broken:
            raise RuleError(*broken)
        return self

    def to_document(self) -> dict[str, Any]:
        """Returns the object as plain JSON values under its outside names, without the fields that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


_DURATION_UNITS = {"h": 3600, "m": 60, "s": 1}
_QUANTITY_UNITS = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def seconds(duration: str) -> int:
    """Returns the seconds of a duration such as `1h30m`. Raises ValueError for anything else."""
    if len(duration) < 2 or not re.match(DURATION_PATTERN, duration):
        raise ValueError(f"{duration!r} is no duration; write it like 90s, 15m or 1h30m")
    return sum(int(n) * _DURATION_UNITS[unit] for n, unit in re.findall(r"([0-9]+)([hms])", duration))


def in_words(seconds: float) -> str:
    """Returns seconds as a person says them: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def quantity(value: int | str) -> float:
    """Returns a Kubernetes quantity such as `500m` or `4Gi` as a number. Raises ValueError for anything else."""
    found = re.match(r"^([0-9.]+)([A-Za-z]*)$", str(value))
    if not found or not re.match(QUANTITY_PATTERN, str(value)):
        raise ValueError(f"{value!r} is no quantity; write it like 2, 500m or 4Gi")
    return float(found[1]) * _QUANTITY_UNITS[found[2]]
