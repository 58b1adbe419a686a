"""Conversations rendered by a chat template, and what of the text is the assistant's.

Ours mark answers with `{% generation %}`; a model's own template seldom does, and there the spans follow from rendering
prefixes of the conversation, which must be prefixes of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from slipway_trainer.step.errors import BadModel, first_line

Messages = list[dict[str, str]]

_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")


class Unrenderable(ValueError):
    """The template refuses this conversation, or loses a part of it: what it does, after "the chat template"."""


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
        text = self._render(messages, add_generation_prompt=True)
        _refuse_loss(text, messages)
        return text

    def segments(self, messages: Messages) -> list[Segment]:
        """Returns a conversation in pieces that alternate between prompt and answer; together they are its text.

        It ends with the last answer: what comes after it teaches nothing. An answer that opens the conversation is
        part of the prompt where the template cannot say where it starts.

        Raises:
            Unrenderable: the template refuses the conversation, or leaves a turn of it out.
            BadModel: it is not possible to say what in the text is the assistant's, or nothing ends an answer.
        """
        last = max(index for index, message in enumerate(messages) if message["role"] == "assistant")
        messages = messages[: last + 1]
        text, spans = self._marked_spans(messages) if self.marked else self._prefix_spans(messages)
        segments, end = [], 0
        # The spans of the last answers: one that opens the conversation may have none.
        for (start, stop), message in zip(spans, self._answers(messages)[-len(spans) :], strict=True):
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
            raise BadModel(f"asked for a question and its answer, the chat template {error}") from None
        return next(token for token in self._longest_first() if segments[-1].text.endswith(token))

    def _marked_spans(self, messages: Messages) -> tuple[str, list[tuple[int, int]]]:
        text, spans = self._render_marked(messages)
        _refuse_loss(text, messages)
        if len(spans) != len(self._answers(messages)):
            raise BadModel(
                f"the chat template marks {len(spans)} answers of {len(self._answers(messages))} with generation; "
                "set model.chatTemplate to ChatML"
            )
        return text, spans

    def _prefix_spans(self, messages: Messages) -> tuple[str, list[tuple[int, int]]]:
        text = self._render(messages, add_generation_prompt=False)
        # First, since it may be why the text does not begin as its start is rendered.
        _refuse_loss(text, messages)
        spans = []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._before(messages, index)
            if before is None:
                continue
            after = self._render(messages[: index + 1], add_generation_prompt=False)
            if not (text.startswith(before) and text.startswith(after) and len(before) < len(after)):
                raise BadModel(
                    "the model's own chat template does not render the start of a conversation as the start of its "
                    f"text (turn {index + 1} of {len(messages)}), so it is not certain what of the text is the "
                    "assistant's. Set model.chatTemplate to ChatML, or mark the answers in the template with "
                    "{% generation %}"
                )
            spans.append((len(before), len(after)))
        if not spans:
            raise Unrenderable(
                "cannot render what stands before its only answer, which opens it. Put a user turn before that answer"
            )
        return text, spans

    def _before(self, messages: Messages, index: int) -> str | None:
        """Returns what stands before an answer; None when it opens the conversation and that cannot be rendered.

        Many templates look at the first turn: they render a greeting with what follows, and not the nothing before it.
        Nobody asks a model for a greeting, so it is read and not learned.
        """
        try:
            return self._render(messages[:index], add_generation_prompt=True)
        except Unrenderable:
            if any(message["role"] == "user" for message in messages[:index]):
                raise
            return None

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
        from jinja2 import TemplateSyntaxError
        from transformers.utils.chat_template_utils import render_jinja_template

        arguments: dict[str, Any] = {"chat_template": self.template, **options, **self.variables}
        try:
            texts, spans = render_jinja_template(conversations=[messages], **arguments)
        except TemplateSyntaxError as error:
            raise BadModel(f"the chat template is not valid jinja: {error.message} (line {error.lineno})") from None
        except MemoryError:
            raise
        except Exception as error:
            # A template is a program of somebody else's: it may raise anything.
            raise Unrenderable(f"refuses this conversation: {first_line(error)}") from None
        return texts[0], cast(list[tuple[int, int]], spans[0] if spans else [])


def _refuse_loss(text: str, messages: Messages) -> None:
    """Raises Unrenderable when the text does not hold what the system, or a user, says.

    White space apart, which templates take away. What the assistant said before may be written otherwise.
    """
    rendered = _squeezed(text)
    for number, message in enumerate(messages, 1):
        if message["role"] != "assistant" and _squeezed(message["content"]) not in rendered:
            where = "the first user turn" if message["role"] == "system" else "another turn"
            raise Unrenderable(
                f"leaves turn {number} ({message['role']}) out, so it would be lost. Write what it says into {where}, "
                "or set model.chatTemplate to ChatML"
            )


def _squeezed(text: str) -> str:
    return "".join(text.split())
