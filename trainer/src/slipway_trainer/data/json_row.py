"""A line of a JSON file read strictly: nothing of it is lost on the way, and nothing that is not used can break it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, NoReturn

TOO_DEEP = "not a row: brackets are nested too deeply. Write what is in them as one string, or leave the field out"


class RepeatedKey(ValueError):
    """An object has a key twice, of which Python would keep the last."""


class NoNumber(ValueError):
    """NaN or an infinity, which Python reads and JSON has not."""


def decoder(*, finite: bool = False) -> json.JSONDecoder:
    """Returns what reads a line.

    Args:
        finite: raises NoNumber for NaN and infinities.

    Its `decode` raises RepeatedKey that names the key, JSONDecodeError, and RecursionError for brackets that are
    nested too deeply. An integer of more digits than Python converts (`sys.set_int_max_str_digits`) is a Decimal.
    """
    constant = _refused if finite else None
    return json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_constant=constant)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise RepeatedKey(next(key for key in keys if keys.count(key) > 1))
    return found


def _refused(constant: str) -> NoReturn:
    raise NoNumber(constant)


def _integer(digits: str) -> int | Decimal:
    try:
        return int(digits)
    except ValueError:
        return Decimal(digits)
