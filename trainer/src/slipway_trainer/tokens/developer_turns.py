"""Turns of the developer, as the server puts them to a template.

vLLM gives a template that does not know the role `developer` a system turn in its place, and then one system turn
alone, at the start. Training and judging have to do the same: a role that the server never writes would be learned.
"""

from __future__ import annotations

from typing import Any

_KNOWN = ('"developer"', "'developer'")


def as_served(messages: list[dict[str, Any]], template: str) -> list[dict[str, Any]]:
    """Returns the turns that the template is given: the same ones where it knows the role, or no turn has it."""
    if not any(message["role"] == "developer" for message in messages) or any(word in template for word in _KNOWN):
        return messages
    turns = [message | {"role": "system"} if message["role"] == "developer" else message for message in messages]
    system = [turn for turn in turns if turn["role"] == "system"]
    if len(system) == 1 and turns[0] is system[0]:
        return turns
    said = [turn["content"] for turn in system if turn["content"]]
    return [{"role": "system", "content": "\n\n".join(said)}, *(turn for turn in turns if turn["role"] != "system")]
