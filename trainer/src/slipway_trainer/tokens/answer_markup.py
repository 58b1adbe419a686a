"""What a chat template writes around the reasoning of an answer and around its calls of tools.

Found by rendering a conversation that has both and looking at what stands where: never by the name of a model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from slipway_core.protocol.reasoning import Reasoning
from slipway_trainer.tokens.chat_rendering import Renderer, Unrenderable

_QUESTION: Final = {"role": "user", "content": "Who wrote it?"}
_SAID: Final = "Li Bai wrote it."
_THOUGHT: Final = "Moonlight is his."
_KEYS: Final = ("reasoning_content", "reasoning", "thinking")
_MARK: Final = re.compile(r"(<[^<>\s]+>|\[[^\[\]\s]+\])\s*$")
"""At the end of a text."""
_OPENINGS: Final = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
}
"""Of templates that open a block in the prompt and render none: what follows is not theirs to say."""
_NAME: Final = "find_poet"
TOOL: Final = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "Finds the poet.",
        "parameters": {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]},
    },
}
CALL: Final = {"name": _NAME, "arguments": {"title": "Moon"}}
"""What is called in the conversation that is rendered."""


@dataclass(frozen=True)
class _ToolShape:
    """How calls look that a parser of vLLM reads."""

    parser: str
    pattern: re.Pattern[str]
    tokens: tuple[str, ...] = ()
    """Without which in its vocabulary the parser does not start."""


_ARGUMENTS: Final = r"\{\s*\"title\":\s*\"Moon\"\s*\}"
_JSON: Final = rf"\{{\s*\"name\":\s*\"{_NAME}\",\s*\"arguments\":\s*{_ARGUMENTS}\s*\}}"
_SHAPES: Final = (
    _ToolShape("hermes", re.compile(rf"<tool_call>\s*{_JSON}\s*</tool_call>")),
    _ToolShape(
        "qwen3_coder",
        re.compile(rf"<tool_call>\s*<function={_NAME}>\s*<parameter=title>\s*Moon\s*</parameter>\s*</function>"),
        ("<tool_call>", "</tool_call>"),
    ),
    _ToolShape(
        "glm45",
        re.compile(rf"<tool_call>\s*{_NAME}\s*<arg_key>title</arg_key>\s*<arg_value>Moon</arg_value>\s*</tool_call>"),
        ("<tool_call>", "</tool_call>"),
    ),
    _ToolShape("mistral", re.compile(rf"\[TOOL_CALLS\]\s*(\[\s*{_JSON[:-2]}|{_NAME}(\[ARGS\])?{{)"), ("[TOOL_CALLS]",)),
    _ToolShape(
        "llama3_json",
        re.compile(rf"^\s*(<\|python_tag\|>)?\s*\{{\s*\"name\":\s*\"{_NAME}\",\s*\"parameters\":\s*{_ARGUMENTS}"),
        ("<|python_tag|>",),
    ),
    _ToolShape("lfm2", re.compile(rf"<\|tool_call_start\|>\[{_NAME}\("), ("<|tool_call_start|>", "<|tool_call_end|>")),
)


def reasoning_of(renderer: Renderer) -> Reasoning | None:
    """Returns how answers mark their reasoning; None where the template writes nothing that would tell it apart."""
    thoughtful = {"role": "assistant", "content": _SAID, **dict.fromkeys(_KEYS, _THOUGHT)}
    try:
        prompt = renderer.text([_QUESTION], add_generation_prompt=True)
        whole = renderer.text([_QUESTION, thoughtful])
        plain = renderer.text([_QUESTION, {"role": "assistant", "content": _SAID}])
    except Unrenderable:
        return None
    thought = whole.rfind(_THOUGHT)
    said = whole.find(_SAID, thought + len(_THOUGHT)) if thought >= 0 else -1
    if said < 0:
        return _opened_alone(prompt)
    start = _start(prompt, whole[:thought])
    end = whole[thought + len(_THOUGHT) : said].strip()
    before = plain[len(prompt) : plain.find(_SAID)].strip() if plain.startswith(prompt) and _SAID in plain else ""
    if not start or not end:
        return None
    own = before if before and not before.startswith((start, end)) else None
    try:
        return Reasoning(start=start, end=end, plain=own, always=before.startswith((start, end)))
    except ValidationError:
        return None  # Longer than any marker is.


def _start(prompt: str, before: str) -> str | None:
    """Returns what stands before the reasoning: in the answer, or at the end of the prompt."""
    if before.startswith(prompt) and (own := before[len(prompt) :].strip()):
        return own
    found = _MARK.search(before)
    return found[1] if found else None


def _opened_alone(prompt: str) -> Reasoning | None:
    found = _MARK.search(prompt)
    end = _OPENINGS.get(found[1]) if found else None
    return Reasoning(start=found[1], end=end, always=True) if found and end else None


def tool_parser_of(renderer: Renderer, vocabulary: Collection[str]) -> str | None:
    """Returns vLLM's name for how the template writes calls; None where it writes none that one of them reads."""
    try:
        text = call_text(renderer)
    except Unrenderable:
        return None
    fit = (shape for shape in _SHAPES if all(token in vocabulary for token in shape.tokens))
    return next((shape.parser for shape in fit if shape.pattern.search(text)), None)


def call_text(renderer: Renderer) -> str:
    """Returns how an answer that calls a tool is written. Raises Unrenderable."""
    function: dict[str, Any] = dict(CALL)
    calls = [{"id": "abcdef123", "type": "function", "function": function}]
    tools = json.dumps([TOOL])
    prompt = renderer.text([_QUESTION], tools, add_generation_prompt=True)
    whole = renderer.text([_QUESTION, {"role": "assistant", "content": "", "tool_calls": calls}], tools)
    # Of a template that drops what it opens the prompt with, the last turn is what the tools' list does not have.
    return whole[len(prompt) :] if whole.startswith(prompt) else whole[whole.rfind(_QUESTION["content"]) :]
