"""Conversations rendered by a chat template, and what of the text is the assistant's.

Ours mark answers with `{% generation %}`; a model's own template seldom does, and there the spans follow from rendering
prefixes of the conversation, which must be prefixes of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from slipway_trainer.step.errors import BadModel

Messages = list[dict[str, str]]

_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")


class Unrenderable(ValueError):
    """The template refuses this conversation."""


@dataclass(frozen=True)
class Segment:
    text: str
    learned: bool
    """Whether it is the assistant's: the answer and the end-of-turn token after it."""


@dataclass(frozen=True)
class Renderer:
    """Renders conversations with a template; plain data, so that it can be sent to another process."""

    template: str
    variables: dict[str, str] = field(default_factory=dict)
    """bos_token and the like, as transformers passes them."""
    special_tokens: tuple[str, ...] = ()

    @property
    def marked(self) -> bool:
        return bool(_MARKER.search(self.template))

    def prompt(self, messages: Messages) -> str:
        """Returns a conversation up to where the assistant's next answer starts. Raises Unrenderable."""
        return self._render(messages, add_generation_prompt=True)

    def segments(self, messages: Messages) -> list[Segment]:
        """Returns a conversation in pieces that alternate between prompt and answer; together they are its text.

        It ends with the last answer: what comes after it teaches nothing.

        Raises:
            Unrenderable: the template refuses the conversation.
            BadModel: it is not possible to say what in the text is the assistant's, or nothing ends an answer.
        """
        last = max(index for index, message in enumerate(messages) if message["role"] == "assistant")
        messages = messages[: last + 1]
        text, spans = self._marked_spans(messages) if self.marked else self._prefix_spans(messages)
        segments, end = [], 0
        for (start, stop), message in zip(spans, self._answers(messages), strict=True):
            stop = self._turn_end(text, start, stop, message["content"])
            segments += [Segment(text[end:start], False), Segment(text[start:stop], True)]
            end = stop
        return [segment for segment in segments if segment.text]

    def turn_end(self) -> str:
        """Returns the special token that ends an answer. Raises BadModel when there is none."""
        try:
            segments = self.segments(
                [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
            )
        except Unrenderable as error:
            raise BadModel(f"the chat template cannot render a question and its answer: {error}") from None
        return next(token for token in self._longest_first() if segments[-1].text.endswith(token))

    def _marked_spans(self, messages: Messages) -> tuple[str, list[tuple[int, int]]]:
        text, spans = self._render_marked(messages)
        if len(spans) != len(self._answers(messages)):
            raise BadModel(
                f"the chat template marks {len(spans)} answers of {len(self._answers(messages))} with generation; "
                "set model.chatTemplate to ChatML"
            )
        return text, spans

    def _prefix_spans(self, messages: Messages) -> tuple[str, list[tuple[int, int]]]:
        text = self._render(messages, add_generation_prompt=False)
        spans = []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._render(messages[:index], add_generation_prompt=True)
            after = self._render(messages[: index + 1], add_generation_prompt=False)
            if not (text.startswith(before) and text.startswith(after) and len(before) < len(after)):
                raise BadModel(
                    "the model's own chat template does not render the start of a conversation as the start of its "
                    f"text (turn {index + 1} of {len(messages)}), so it is not certain what of the text is the "
                    "assistant's. Set model.chatTemplate to ChatML, or mark the answers in the template with "
                    "{% generation %}"
                )
            spans.append((len(before), len(after)))
        return text, spans

    def _turn_end(self, text: str, start: int, stop: int, content: str) -> int:
        """Returns where an answer ends: after the first special token that follows its content."""
        place = text.find(content, start)
        after = place + len(content) if 0 <= place < stop else stop
        for token in self._longest_first():
            found = re.compile(r"\s*" + re.escape(token)).match(text, after)
            if found:
                return found.end()
        if any(text[start:stop].rstrip().endswith(token) for token in self.special_tokens):
            return start + len(text[start:stop].rstrip())
        raise BadModel(
            "the chat template writes no special token after an answer, so the model would not learn to stop. "
            "Set model.chatTemplate to ChatML"
        )

    def _longest_first(self) -> Sequence[str]:
        return sorted(self.special_tokens, key=lambda token: (-len(token), token))

    @staticmethod
    def _answers(messages: Messages) -> Messages:
        return [message for message in messages if message["role"] == "assistant"]

    def _render(self, messages: Messages, *, add_generation_prompt: bool) -> str:
        return self._rendered(messages, add_generation_prompt=add_generation_prompt)[0]

    def _render_marked(self, messages: Messages) -> tuple[str, list[tuple[int, int]]]:
        return self._rendered(messages, return_assistant_tokens_mask=True)

    def _rendered(self, messages: Messages, **options: bool) -> tuple[str, list[tuple[int, int]]]:
        # transformers' own, so that training sees what inference will: the same sandbox, filters and globals.
        from jinja2 import TemplateError, TemplateSyntaxError
        from transformers.utils.chat_template_utils import render_jinja_template

        arguments: dict[str, Any] = {"chat_template": self.template, **options, **self.variables}
        try:
            texts, spans = render_jinja_template(conversations=[messages], **arguments)
        except TemplateSyntaxError as error:
            raise BadModel(f"the chat template is not valid jinja: {error.message} (line {error.lineno})") from None
        except (TemplateError, TypeError, KeyError, ValueError) as error:
            raise Unrenderable(str(error)) from None
        return texts[0], cast(list[tuple[int, int]], spans[0] if spans else [])
