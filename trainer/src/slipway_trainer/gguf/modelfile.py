"""The Modelfile that Ollama makes a model from: https://github.com/ollama/ollama/blob/main/docs/modelfile.md."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

from slipway_trainer.tokens import chat_templates
from slipway_trainer.tokens.chat_templates import Style

MODEL: Final = "model.gguf"
STYLES: Final[tuple[Style, ...]] = ("ChatML", "Plain", "PlainChinese")
_SAMPLING: Final = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}
_FRAME: Final = """\
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if eq .Role "assistant" }}ASSISTANT{{ .Content }}{{ if not $last }}END
{{ end }}
{{- else if eq .Role "system" }}SYSTEM{{ .Content }}SEPARATOR
{{- else if eq .Role "tool" }}TOOL{{ .Content }}TOOL_END
{{- else }}USER{{ .Content }}SEPARATOR
{{- end }}
{{- if and $last (ne .Role "assistant") }}ASSISTANT{{ end }}
{{- end }}"""
"""The frame of our own templates in Go's words. BOS is put in front by whoever encodes the text. Definitions of tools
are left out: Ollama writes them as JSON of its own, whose fields stand in another order than those learned."""


def make(template: str | None, ends: Sequence[str], sampling: Mapping[str, Any], context: int) -> str:
    """Returns the text of the file.

    Args:
        template: the chat template, in jinja.
        ends: the tokens that end an answer, as text.
        sampling: of generation_config.json.
        context: tokens that the model takes.
    """
    lines = [f"FROM ./{MODEL}"]
    known = _own(template, ends)
    if known is not None:
        lines.append(f'TEMPLATE """{known}"""')
    elif template is not None:
        lines.append("# No TEMPLATE: the chat template is the model's own, and Ollama reads it from the file.")
    lines += [f"PARAMETER stop {_quoted(end)}" for end in ends]
    if not sampling.get("do_sample"):
        lines.append("PARAMETER temperature 0")
    lines += [f"PARAMETER {ours} {sampling[name]}" for name, ours in _SAMPLING.items() if name in sampling]
    lines.append(f"PARAMETER num_ctx {context}")
    return "\n".join(lines) + "\n"


def _own(template: str | None, ends: Sequence[str]) -> str | None:
    """Returns a template of ours in Go's words; None for any other."""
    for style in STYLES:
        for end in ends:
            for bos, tools in itertools.product((True, False), repeat=2):
                if template == chat_templates.template(style, turn_end=end, starts_with_bos=bos, tools=tools):
                    return _in_go(style, end, tools=tools and chat_templates.renders_tools(style))
    return None


def _in_go(style: Style, end: str, *, tools: bool) -> str:
    parts = chat_templates.parts(style, turn_end=end)
    of_tools = chat_templates.tool_parts(turn_end=end) if tools else {"TOOL": parts["USER"], "TOOL_END": ""}
    parts |= {"TOOL": of_tools["TOOL"], "TOOL_END": of_tools["TOOL_END"] + parts["SEPARATOR"]}
    frame = _FRAME
    # A line end before {{- would be trimmed: it is written as a string.
    for name in ("ASSISTANT", "SYSTEM", "USER", "SEPARATOR", "TOOL_END", "TOOL"):
        frame = frame.replace(name, f"{{{{ {_quoted(parts[name])} }}}}")
    return frame.replace("END\n", f"{{{{ {_quoted(end + chr(10))} }}}}")


def _quoted(text: str) -> str:
    """Returns a text as Go and a Modelfile quote it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
