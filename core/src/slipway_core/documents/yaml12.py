"""YAML 1.2 as the API server would read it: plain values, and the line of each.

What YAML 1.2 and kubectl (which reads YAML 1.1 in part) understand differently is refused rather than guessed.
"""

# A document is untyped until it is validated, so strict checking has nothing to hold on to here.
# pyright: basic

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

Path = tuple[str | int, ...]
"""Where a value stands: keys of mappings and indexes of lists, from the top."""

SIZE_LIMIT = 1 << 20
"""Bytes; what is longer is data, and the API server would not take it either."""
_NODE_LIMIT = 100_000
"""Values after aliases are followed; a few lines of nested aliases can stand for billions."""
_DEPTH_LIMIT = 64

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = re.compile(r"[yYnN]|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
_OTHER_NUMBER = re.compile(r"[-+]?0[0-9]+|[-+]?0[xX][0-9a-fA-F]+|[-+]?0[oO][0-7]+|[-+]?0b[01]+")
_TAG = "tag:yaml.org,2002:"


class YamlError(ValueError):
    """The text is not YAML that can be read, or that every reader would read alike."""

    def __init__(self, message: str, *, line: int | None = None, path: Path = (), fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.path = path
        self.fix = fix


@dataclass(frozen=True)
class Document:
    value: Any
    """Mappings, lists, texts, numbers, booleans and None."""
    lines: dict[Path, int]
    """Line, from 1, of each value's key, or of the value where it has none."""
    errors: list[YamlError] = field(default_factory=list)
    """Values that were left out of `value`, with the reason."""


def read(text: str) -> Document:
    """Reads the one document of a text. Raises YamlError when it is not one YAML document."""
    node = _compose(text)
    reader = _Reader(text)
    value = reader.value(node, ())
    return Document(value, reader.lines, reader.errors)


def scalar(text: str) -> Any:
    """Reads one value as it would stand behind `key:`. Raises YamlError."""
    document = read(text) if text.strip() else Document(None, {})
    if document.errors:
        raise document.errors[0]
    return document.value


def _compose(text: str) -> Node:
    if len(text) > SIZE_LIMIT:
        raise YamlError(
            f"is {len(text)} characters long, and at most {SIZE_LIMIT} are read: this looks like data, "
            "not like a resource"
        )
    yaml = YAML(typ="rt", pure=True)
    try:
        nodes: list[Node] = []
        for node in yaml.compose_all(StringIO(text)):
            if nodes:
                raise YamlError(
                    "holds more than one document",
                    line=node.start_mark.line + 1,
                    fix="keep one resource a file: take out what follows the line ---",
                )
            nodes.append(node)
    except RecursionError:
        raise YamlError("is nested too deeply") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        raise YamlError(f"is not YAML: {error.problem or error.context}", line=line, fix=_advice(error)) from None
    except ReaderError as error:
        # Its own words give the place as a number of characters from the start.
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        raise YamlError(
            f"is not YAML: holds the control character U+{code:04X}", line=line, fix="remove it; it is no text"
        ) from None
    except YAMLError as error:
        raise YamlError(f"is not YAML: {' '.join(str(error).split())}") from None
    if not nodes or nodes[0] is None:
        raise YamlError("is empty", fix="start it with apiVersion, kind, metadata and spec")
    return nodes[0]


def _advice(error: MarkedYAMLError) -> str:
    problem = error.problem or ""
    if "'\\t'" in problem:
        return "indent with spaces; YAML has no tabs"
    if "mapping values are not allowed" in problem:
        return "check the indentation, and put quotes around a text that holds ': '"
    return "check the indentation, brackets and quotes here and in the line above"


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._open: set[int] = set()
        self._count = 0
        self.lines: dict[Path, int] = {}
        self.errors: list[YamlError] = []

    def value(self, node: Node, path: Path) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        self._count += 1
        if self._count > _NODE_LIMIT:
            raise YamlError(f"stands for more than {_NODE_LIMIT} values", fix="use fewer aliases (*name)")
        if id(node) in self._open:
            raise YamlError("an alias holds itself", line=self.lines[path], path=path)
        if len(path) > _DEPTH_LIMIT:
            raise YamlError("is nested too deeply", line=self.lines[path])
        self._open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, path)
            if isinstance(node, SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._scalar(node, path)  # pyright: ignore[reportArgumentType]
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if isinstance(key_node, ScalarNode) and key_node.style is None and key_node.value == "<<":
                merged = {**self._merge(value_node, path), **merged}
                continue
            line = key_node.start_mark.line + 1
            key = self._key(key_node, path)
            if key in own:
                first = self.lines[(*path, key)]
                self._refuse("stands here twice", line, (*path, key), f"keep one; the first is in line {first}")
                continue
            self.lines[(*path, key)] = line
            own[key] = self.value(value_node, (*path, key))
        return {**merged, **own}

    def _merge(self, node: Node, path: Path) -> dict[str, Any]:
        sources = node.value if isinstance(node, SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in reversed(sources):
            if not isinstance(source, MappingNode):
                raise YamlError("<< takes mappings alone", line=node.start_mark.line + 1, path=path)
            merged.update(self.value(source, path))
        return merged

    def _key(self, node: Node, path: Path) -> str:
        if not isinstance(node, ScalarNode):
            raise YamlError("a key must be a text", line=node.start_mark.line + 1, path=path)
        if (key := _joined(node.value)) is None:
            raise YamlError("a key holds a NUL or half of a surrogate pair", line=node.start_mark.line + 1, path=path)
        if node.style is None and _is_ambiguous(key):
            self._refuse_ambiguous(node, (*path, key))
        return key

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        text = _joined(node.value)
        if text is None:
            return self._refuse("holds a NUL or half of a surrogate pair", self.lines[path], path)
        explicit = self._text[node.start_mark.index : node.start_mark.index + 1] == "!"
        if explicit and node.tag not in (f"{_TAG}str", "!"):
            return self._refuse(f"has the tag {node.tag}", self.lines[path], path, "leave the tag out")
        return text if explicit or node.style is not None else self._plain(node, text, path)

    def _plain(self, node: ScalarNode, text: str, path: Path) -> Any:
        if _NULL.fullmatch(text):
            return None
        if _BOOL.fullmatch(text):
            return text.lower() == "true"
        if _is_ambiguous(text):
            return self._refuse_ambiguous(node, path)
        if _NOT_FINITE.fullmatch(text):
            return self._refuse(f"{text} is not a finite number", self.lines[path], path)
        if len(text) > 64:
            return text
        if _INT.fullmatch(text):
            return self._whole(int(text, 0), text, path)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if not math.isfinite(number):
                return self._refuse(f"{text} is too large for a number", self.lines[path], path)
            # As kubectl hands it on: JSON has no other way to write 1e3 and 3.0 than the whole number.
            return int(number) if number.is_integer() and abs(number) < 1e21 else number
        return text

    def _whole(self, number: int, text: str, path: Path) -> int | None:
        if -(2**63) <= number < 2**63:
            return number
        return self._refuse(f"{text} is too large for a whole number", self.lines[path], path)

    def _refuse_ambiguous(self, node: ScalarNode, path: Path) -> None:
        text = node.value
        word = text[0].isalpha()
        fix = f'write true or false, or "{text}" for the text' if word else f'write the number out, or "{text}"'
        reason = f"{text} is a {'truth value' if word else 'number'} for kubectl and not for YAML 1.2"
        self._refuse(reason, node.start_mark.line + 1, path, fix)

    def _refuse(self, message: str, line: int, path: Path, fix: str = "") -> None:
        self.errors.append(YamlError(message, line=line, path=path, fix=fix))


def _is_ambiguous(text: str) -> bool:
    """Whether kubectl's reader (go-yaml) makes a truth value or a number of what YAML 1.2 calls a text, or another one.

    Found by giving both 30,000 short random texts: underscores between digits, leading zeros, and other bases.
    """
    if _WORDS.fullmatch(text):
        return True
    digits = text.replace("_", "")
    if text != digits and (_INT.fullmatch(digits) or _FLOAT.fullmatch(digits)):
        return True
    return bool(_OTHER_NUMBER.fullmatch(digits)) and not _INT.fullmatch(text)


def _joined(text: str) -> str | None:
    """Joins the surrogate pairs that JSON escapes; None for what no UTF-8 text or file name can hold."""
    if "\0" in text:
        return None
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        return None


def shown(path: Path) -> str:
    """Returns a path as people write it: `spec.stages[0].name`."""
    return "".join(_parts(path)).lstrip(".")


def _parts(path: Path) -> Iterator[str]:
    for part in path:
        if isinstance(part, int):
            yield f"[{part}]"
        elif re.fullmatch(r"[\w-]+|", part):
            yield f".{part}"
        else:
            yield f'["{part}"]'
