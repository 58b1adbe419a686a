"""Slipway's own chat templates: jinja, as transformers and vLLM render it.

They mark answers with `{% generation %}`, so that `apply_chat_template(..., return_assistant_tokens_mask=True)` finds
the same spans as training. ChatML renders tools too, in the form that Hermes models made common and that most parsers
of calls read: definitions in `<tools>`, calls in `<tool_call>`, what comes back in `<tool_response>`.
"""

from __future__ import annotations

import re
from typing import Literal

Style = Literal["ChatML", "Plain", "PlainChinese"]

TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"

_FRAME = """\
{%- for message in messages %}
{%- if message['role'] == 'assistant' %}
{{- ASSISTANT }}
{%- generation %}
{{- message['content'] + END }}
{%- endgeneration %}
{{- '\\n' }}
{%- elif message['role'] == 'system' %}
{{- SYSTEM + message['content'] + SEPARATOR }}
{%- else %}
{{- USER + message['content'] + SEPARATOR }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- ASSISTANT }}
{%- endif %}
"""

# What a tool says has a turn of its own: a user who writes <tool_response> is still the user. White space between an
# answer's words and its calls is the template's: a parser of calls hands it to the client as the end of the words, who
# sends it back.
_FRAME_WITH_TOOLS = """\
{%- if tools %}
{{- SYSTEM }}
{%- if messages and messages[0]['role'] == 'system' %}
{{- messages[0]['content'] + '\\n\\n' }}
{%- endif %}
{{- TOOLS }}
{%- for tool in tools %}
{{- tool | tojson + '\\n' }}
{%- endfor %}
{{- CALLED_SO + SEPARATOR }}
{%- endif %}
{%- for message in messages %}
{%- if message['role'] == 'assistant' %}
{{- ASSISTANT }}
{%- generation %}
{%- if message['tool_calls'] %}
{{- (message['content'] or '').rstrip() }}
{{- '\\n' if (message['content'] or '').strip() else '' }}
{%- for call in message['tool_calls'] %}
{{- CALL + call['function']['name'] | tojson + ARGUMENTS + call['function']['arguments'] | tojson + CALL_END }}
{{- '' if loop.last else '\\n' }}
{%- endfor %}
{{- END }}
{%- else %}
{{- message['content'] + END }}
{%- endif %}
{%- endgeneration %}
{{- '\\n' }}
{%- elif message['role'] == 'system' %}
{%- if not (tools and loop.first) %}
{{- SYSTEM + message['content'] + SEPARATOR }}
{%- endif %}
{%- elif message['role'] == 'tool' %}
{{- TOOL + message['content'] + TOOL_END + SEPARATOR }}
{%- else %}
{{- USER + message['content'] + SEPARATOR }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- ASSISTANT }}
{%- endif %}
"""

# `Assistant:` ends its line: in "Assistant: Hello" a byte-level tokenizer joins the space with the answer's first
# word, which it cannot do at inference, where the prompt ends before the answer is there.
_PLAIN = {"SYSTEM": "System:\n", "USER": "User:\n", "ASSISTANT": "Assistant:\n", "SEPARATOR": "\n"}

_PLAIN_CHINESE = {"SYSTEM": "系统：", "USER": "用户：", "ASSISTANT": "助手：", "SEPARATOR": "\n"}

_CHATML = {
    "SYSTEM": f"{TURN_START}system\n",
    "USER": f"{TURN_START}user\n",
    "ASSISTANT": f"{TURN_START}assistant\n",
    "SEPARATOR": f"{TURN_END}\n",
}

_TOOLS = {
    "TOOLS": (
        "# Tools\n\nYou can call functions. Each line here describes one, with the JSON schema of its parameters:\n"
        "<tools>\n"
    ),
    "CALLED_SO": (
        "</tools>\n\nCall one by writing its name and its arguments as JSON, each call in a block of its own:\n"
        '<tool_call>\n{"name": "...", "arguments": {...}}\n</tool_call>'
    ),
    "CALL": '<tool_call>\n{"name": ',
    "ARGUMENTS": ', "arguments": ',
    "CALL_END": "}\n</tool_call>",
    "TOOL": f"{TURN_START}tool\n<tool_response>\n",
    "TOOL_END": "\n</tool_response>",
}
"""What ChatML writes around tools, their calls and what they answer."""


def template(style: Style, *, turn_end: str, starts_with_bos: bool, tools: bool = True) -> str:
    """Returns a template of ours as jinja.

    Args:
        turn_end: the special token that ends an answer. In ChatML it ends every turn.
        starts_with_bos: whether the tokenizer puts a BOS token before a text; the template then does it too, since
            rendered conversations are tokenised without special tokens.
        tools: whether ChatML renders them. Models that were made before it did keep the template without.
    """
    texts = parts(style, turn_end=turn_end) | {"END": turn_end}
    frame = _FRAME
    if renders_tools(style) and tools:
        frame, texts = _FRAME_WITH_TOOLS, texts | tool_parts(turn_end=turn_end)
    name = re.compile(r"\b(" + "|".join(texts) + r")\b")
    body = name.sub(lambda found: _quoted(texts[found[0]]), frame.rstrip("\n"))
    return "{{- bos_token }}\n" + body if starts_with_bos else body


def renders_tools(style: Style) -> bool:
    """Returns whether a template of ours renders definitions of tools and calls: the plain ones have no marks that an
    answer could not hold as words."""
    return style == "ChatML"


def parts(style: Style, *, turn_end: str) -> dict[str, str]:
    """Returns what a template of ours writes: SYSTEM, USER and ASSISTANT before a turn, SEPARATOR after one that is no
    answer."""
    return {name: part.replace(TURN_END, turn_end) for name, part in _parts(style).items()}


def tool_parts(*, turn_end: str) -> dict[str, str]:
    """Returns what ChatML writes around tools: TOOL before the turn of one, and TOOL_END before its SEPARATOR."""
    return {name: part.replace(TURN_END, turn_end) for name, part in _TOOLS.items()}


def words(style: Style) -> str:
    """Returns what a template of ours writes around the turns, for a tokenizer to be trained on."""
    return _without_marks(_parts(style))


def tool_words(style: Style) -> str:
    """Returns what a template of ours writes around tools, for the same; nothing where it renders none."""
    return _without_marks(_TOOLS) if renders_tools(style) else ""


def _without_marks(parts: dict[str, str]) -> str:
    return "\n".join(parts.values()).replace(TURN_START, "").replace(TURN_END, "")


def _parts(style: Style) -> dict[str, str]:
    return {"ChatML": _CHATML, "Plain": _PLAIN, "PlainChinese": _PLAIN_CHINESE}[style]


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
