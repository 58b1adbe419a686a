"""Slipway's own chat templates: jinja, as transformers and vLLM render it.

They mark answers with `{% generation %}`, so that `apply_chat_template(..., return_assistant_tokens_mask=True)` finds
the same spans as training.
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


def template(style: Style, *, turn_end: str, starts_with_bos: bool) -> str:
    """Returns a template of ours as jinja.

    Args:
        turn_end: the special token that ends an answer. In ChatML it ends every turn.
        starts_with_bos: whether the tokenizer puts a BOS token before a text; the template then does it too, since
            rendered conversations are tokenised without special tokens.
    """
    texts = parts(style, turn_end=turn_end) | {"END": turn_end}
    body = re.sub(
        r"\b(SYSTEM|USER|ASSISTANT|SEPARATOR|END)\b", lambda found: _quoted(texts[found[0]]), _FRAME.rstrip("\n")
    )
    return "{{- bos_token }}\n" + body if starts_with_bos else body


def parts(style: Style, *, turn_end: str) -> dict[str, str]:
    """Returns what a template of ours writes: SYSTEM, USER and ASSISTANT before a turn, SEPARATOR after one that is no
    answer."""
    return {name: part.replace(TURN_END, turn_end) for name, part in _parts(style).items()}


def words(style: Style) -> str:
    """Returns what a template of ours writes around the turns, for a tokenizer to be trained on."""
    return "\n".join(part for part in _parts(style).values()).replace(TURN_START, "").replace(TURN_END, "")


def _parts(style: Style) -> dict[str, str]:
    return {"ChatML": _CHATML, "Plain": _PLAIN, "PlainChinese": _PLAIN_CHINESE}[style]


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
