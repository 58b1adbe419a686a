"""Conversations rendered by a chat template, and what of the text is the assistant's.

Ours mark answers with `{% generation %}`; a model's own template seldom does, and there the spans follow from rendering
prefixes of the conversation, which must be prefixes of the whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from slipway_core.protocol.control_tokens import ControlTokens, NotQuotable, Quoted
from slipway_trainer.step.errors import BadModel, first_line
from slipway_trainer.tokens import developer_turns, template_variables

Messages = list[dict[str, Any]]
"""As a chat template is given them: role, content, and perhaps tool_calls, reasoning and more."""

_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")


class Unrenderable(ValueError):
    """The template refuses this conversation, or loses a part of it: what it does, after "the chat template"."""


@dataclass(frozen=True)
class Segment:
    text: str
    learned: bool
    """Whether it is the assistant's: the answer and the end-of-turn token after it."""
    turn: int | None = field(default=None, compare=False)
    """Of an answer, which turn of the conversation it is, from 0."""


@dataclass(frozen=True)
class _Span:
    """Where an answer stands in a text."""

    start: int
    stop: int
    ends_with: str = ""
    """What of the next turn ends it, where nothing of its own does."""


@dataclass(frozen=True)
class Renderer:
    """Renders conversations with a template; plain data, so that it can be sent to another process."""

    template: str
    variables: dict[str, str] = field(default_factory=dict)
    """bos_token and the like, as transformers passes them."""
    special_tokens: tuple[str, ...] = ()
    arguments: dict[str, Any] = field(default_factory=dict)
    """model.chatTemplateArguments, as the server gives them to the template too."""
    control: ControlTokens = field(default_factory=ControlTokens)
    quoting: bool = False
    """Whether what it renders holds stand-ins for control tokens; its texts hold them too."""

    def quoted(self, messages: Messages, tools: str | None = None) -> tuple[Renderer, Quoted] | None:
        """Returns a conversation in which somebody wrote a control token out, with stand-ins, and what renders it; None
        for any other. Its `others` is what `tools` is. Raises Unrenderable."""
        try:
            found = self.control.quote(messages, json.loads(tools) if tools else None)
        except NotQuotable as error:
            raise Unrenderable(f"is not asked, since {error}") from None
        if found is None:
            return None
        others = json.dumps(found.others, ensure_ascii=False) if tools else None
        return replace(self, quoting=True), replace(found, others=others)

    @property
    def marked(self) -> bool:
        return bool(_MARKER.search(self.template))

    def prompt(self, messages: Messages, tools: str | None = None) -> str:
        """Returns a conversation up to where the assistant's next answer starts. Raises Unrenderable."""
        text = self._render(messages, tools, add_generation_prompt=True)
        _refuse_loss(text, messages, tools)
        return text

    def text(self, messages: Messages, tools: str | None = None, *, add_generation_prompt: bool = False) -> str:
        """Returns a conversation as it is rendered, whatever of it that leaves out. Raises Unrenderable."""
        return self._render(messages, tools, add_generation_prompt=add_generation_prompt)

    def renderings(
        self, messages: Messages, *, tools: str | None = None, learned: Sequence[bool] | None = None
    ) -> list[list[Segment]]:
        """Returns the texts by which a conversation is learned, each in pieces of prompt and answer.

        One text has all answers where the start of the conversation is rendered as the start of its text. Where it is
        not, since the template drops earlier reasoning or ends the last turn otherwise, each answer has a text of its
        own: the prompt that the server would make at that turn, and the answer. A text ends with its last answer that
        is learned: what comes after it teaches nothing. An answer that opens the conversation is part of the prompt
        where the template cannot say where it starts.

        Args:
            tools: what the assistant may call, as a JSON list.
            learned: of each message, whether it is learned if it is the assistant's; all are when left out.

        Raises:
            Unrenderable: the template refuses the conversation, or leaves a part of it out.
            BadModel: it is not possible to say what in the text is the assistant's, or nothing ends an answer.
        """
        learned = [True] * len(messages) if learned is None else learned
        answers = [n for n, message in enumerate(messages) if message["role"] == "assistant" and learned[n]]
        messages = messages[: answers[-1] + 1]
        if self.marked:
            text, spans = self._marked_spans(messages, tools)
            return [self._segments(text, {number: spans[number] for number in answers}, messages)]
        text, prefixes = self._prefix_spans(messages, tools)
        if prefixes is not None:
            # One that opens the conversation has no place.
            own = {number: prefixes[number] for number in answers if number in prefixes}
            return [self._segments(text, own, messages)]
        found = [self._by_itself(messages[: answer + 1], tools) for answer in answers]
        return [segments for segments in found if segments]

    def _by_itself(self, messages: Messages, tools: str | None) -> list[Segment]:
        """Returns what the server would be asked at the last turn, and that turn; nothing where it opens."""
        before = self._before(messages, len(messages) - 1, tools)
        if before is None:
            return []
        after = self._render(messages, tools, add_generation_prompt=False)
        _refuse_loss(before, messages[:-1], tools)
        if not (after.startswith(before) and len(before) < len(after)):
            raise BadModel(
                f"the model's own chat template does not begin turn {len(messages)} as it begins an answer that is to "
                f"come ({_difference(before, after)}), so what is learned would not be what is asked for. "
                f"{self._way_out(messages, tools)}"
            )
        last = len(messages) - 1
        return self._segments(after, {last: self._answer(after, (len(before), len(after)), messages, tools)}, messages)

    def _way_out(self, messages: Messages, tools: str | None) -> str:
        """Returns what would make the last turn begin as the prompt for it does."""
        known = sorted(template_variables.read_by(self.template))
        for name, value in ((name, value) for name in known for value in (False, True)):
            other = replace(self, arguments=self.arguments | {name: value})
            try:
                before = other._render(messages[:-1], tools, add_generation_prompt=True)
                after = other._render(messages, tools, add_generation_prompt=False)
            except Unrenderable:
                continue
            if after.startswith(before):
                return f'Set model.chatTemplateArguments to {{{name}: "{json.dumps(value)}"}}'
        reads = f"the template reads {', '.join(known)}, " if known else "the template reads none that would help, "
        return (
            f"No model.chatTemplateArguments of true or false changes that ({reads}beside the conversation). Set "
            "model.chatTemplate to ChatML, or mark the answers in the template with {% generation %}"
        )

    def _segments(self, text: str, answers: dict[int, _Span], messages: Messages) -> list[Segment]:
        segments, end = [], 0
        for number, found in answers.items():
            answer = text[found.start : found.stop] + found.ends_with
            _refuse_lost_answer(answer, messages[number], number + 1)
            segments += [Segment(text[end : found.start], False), Segment(answer, True, number)]
            end = found.stop + len(found.ends_with)
        return [segment for segment in segments if segment.text]

    def turn_end(self) -> str:
        """Returns the special token that ends an answer. Raises BadModel when there is none."""
        try:
            segments = self.renderings(
                [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
            )[0]
        except Unrenderable as error:
            raise BadModel(f"asked for a question and its answer, the chat template {error}") from None
        return next(token for token in self._longest_first() if segments[-1].text.endswith(token))

    def _marked_spans(self, messages: Messages, tools: str | None) -> tuple[str, dict[int, _Span]]:
        text, spans = self._rendered(messages, tools, return_assistant_tokens_mask=True)
        _refuse_loss(text, messages, tools)
        answers = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
        if len(spans) != len(answers):
            raise BadModel(
                f"the chat template marks {len(spans)} answers of {len(answers)} with generation; "
                "set model.chatTemplate to ChatML"
            )
        found = zip(answers, spans, strict=True)
        return text, {number: self._answer(text, span, messages[: number + 1], tools) for number, span in found}

    def _prefix_spans(self, messages: Messages, tools: str | None) -> tuple[str, dict[int, _Span] | None]:
        """Returns the text and, by their number, where the answers stand in it; no places where its start is not that
        of the text of the first turns."""
        text = self._render(messages, tools, add_generation_prompt=False)
        # First, since it may be why the text does not begin as its start is rendered.
        _refuse_loss(text, messages, tools)
        spans = {}
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._before(messages, index, tools)
            if before is None:
                continue
            after = self._render(messages[: index + 1], tools, add_generation_prompt=False)
            if not (after.startswith(before) and len(before) < len(after)):
                return text, None
            # What follows an answer may be written otherwise once more is said, but not what ends it.
            found = self._answer(after, (len(before), len(after)), messages[: index + 1], tools)
            whole = after[: found.stop] + found.ends_with
            if not text.startswith(whole if index + 1 < len(messages) else after[: found.stop]):
                return text, None
            spans[index] = found
        if not spans:
            raise Unrenderable(
                "cannot render what stands before its only answer, which opens it. Put a user turn before that answer"
            )
        return text, spans

    def _before(self, messages: Messages, index: int, tools: str | None) -> str | None:
        """Returns what stands before an answer; None when it opens the conversation and that cannot be rendered.

        Many templates look at the first turn: they render a greeting with what follows, and not the nothing before it.
        Nobody asks a model for a greeting, so it is read and not learned.
        """
        try:
            return self._render(messages[:index], tools, add_generation_prompt=True)
        except Unrenderable:
            if any(message["role"] == "user" for message in messages[:index]):
                raise
            return None

    def _answer(self, text: str, place: tuple[int, int], messages: Messages, tools: str | None) -> _Span:
        """Returns where the last answer of a conversation stands, up to the token that ends it.

        That is the first special token that follows its content; in templates that have none (GLM 4) the one with which
        the next turn begins, which is the only sign of an end that a model can give there.

        Raises BadModel when nothing ends an answer.
        """
        (start, stop), message = place, messages[-1]
        content = message["content"]
        # Its reasoning may say the same before it, and tool calls stand behind it.
        found = text.rfind(content, start, stop) if content and not message.get("tool_calls") else -1
        if found >= 0 and (end := self._special_at(text, found + len(content))) is not None:
            return _Span(start, end)
        if any(text[start:stop].rstrip().endswith(token) for token in self.special_tokens):
            return _Span(start, start + len(text[start:stop].rstrip()))
        if (end := self._special_at(text, stop)) is not None:
            return _Span(start, end)
        if (next_turn := self._next_turn(text, messages, tools)) is not None:
            return _Span(start, stop, next_turn)
        raise BadModel(
            "the chat template writes no special token after an answer, so the model would not learn to stop. "
            "Set model.chatTemplate to ChatML"
        )

    def _next_turn(self, text: str, messages: Messages, tools: str | None) -> str | None:
        """Returns the special token with which the user's next turn begins; None when it begins with none."""
        try:
            longer = self._render([*messages, {"role": "user", "content": "next"}], tools, add_generation_prompt=False)
        except Unrenderable:
            return None
        end = self._special_at(longer, len(text)) if longer.startswith(text) else None
        return None if end is None else longer[len(text) : end]

    def _special_at(self, text: str, place: int) -> int | None:
        """Returns where the special token ends that begins there, after white space perhaps; None for none."""
        for token in self._longest_first():
            if found := re.compile(r"\s*" + re.escape(token)).match(text, place):
                return found.end()
        return None

    def _longest_first(self) -> Sequence[str]:
        return sorted(self.special_tokens, key=lambda token: (-len(token), token))

    def _render(self, messages: Messages, tools: str | None, *, add_generation_prompt: bool) -> str:
        return self._rendered(messages, tools, add_generation_prompt=add_generation_prompt)[0]

    def _rendered(self, messages: Messages, tools: str | None, **options: bool) -> tuple[str, list[tuple[int, int]]]:
        text, spans = self._transformed(messages, tools, **options)
        if self.quoting:
            self._refuse_difference(text, messages, tools, **options)
        return text, spans

    def _refuse_difference(self, quoted: str, messages: Messages, tools: str | None, **options: bool) -> None:
        """Raises Unrenderable where a text with stand-ins is not the conversation's own text with stand-ins."""
        restored = self.control.restored(messages)
        callable_ = self.control.restored(json.loads(tools)) if tools else None
        own, _ = self._transformed(restored, json.dumps(callable_, ensure_ascii=False) if tools else None, **options)
        if not self.control.is_quoted(own, quoted):
            found = self.control.quote(restored, callable_)
            what = found.first if found else "a turn holds a control token"
            raise Unrenderable(
                f"renders this conversation otherwise because {what}, which is text there and no control token. Take "
                "it out, or write it otherwise"
            )

    def _transformed(self, messages: Messages, tools: str | None, **options: bool) -> tuple[str, list[tuple[int, int]]]:
        # transformers' own, so that training sees what inference will: the same sandbox, filters and globals.
        from jinja2 import TemplateSyntaxError
        from transformers.utils.chat_template_utils import render_jinja_template

        arguments: dict[str, Any] = {
            "chat_template": self.template,
            **options,
            **self.variables,
            **self.arguments,
        }
        try:
            texts, spans = render_jinja_template(
                conversations=[developer_turns.as_served(messages, self.template)],
                tools=json.loads(tools) if tools else None,
                **arguments,
            )
        except TemplateSyntaxError as error:
            raise BadModel(f"the chat template is not valid jinja: {error.message} (line {error.lineno})") from None
        except MemoryError:
            raise
        except Exception as error:
            # A template is a program of somebody else's: it may raise anything.
            raise Unrenderable(f"refuses this conversation: {first_line(error)}") from None
        return texts[0], cast(list[tuple[int, int]], spans[0] if spans else [])


def _refuse_loss(text: str, messages: Messages, tools: str | None) -> None:
    """Raises Unrenderable when the text does not hold what anybody but the assistant says, or what it may call.

    White space apart, which templates take away. What the assistant said before may be written otherwise.
    """
    rendered = _squeezed(text)
    for number, message in enumerate(messages, 1):
        if message["role"] != "assistant" and _squeezed(message["content"]) not in rendered:
            where = "the first user turn" if message["role"] in ("system", "developer") else "another turn"
            raise Unrenderable(
                f"leaves turn {number} ({message['role']}) out, so it would be lost. Write what it says into {where}, "
                "or set model.chatTemplate to ChatML"
            )
    for tool in json.loads(tools) if tools else ():
        name = str((tool.get("function") or tool).get("name", ""))
        if name not in text:
            raise Unrenderable(
                f"leaves the tool {name!r} out, so the model would not learn when it is there. Take a model whose "
                "template renders tools, set model.chatTemplate to ChatML, or remove the field tools"
            )


def _refuse_lost_answer(text: str, message: dict[str, Any], number: int) -> None:
    """Raises Unrenderable when a learned answer lacks what its turn says beside its content."""
    reasoning = message.get("reasoning")
    if reasoning and _squeezed(reasoning) not in _squeezed(text):
        raise Unrenderable(
            f"leaves the reasoning of turn {number} out, so it would not be learned. Take a model whose template "
            "renders it, or remove the reasoning"
        )
    for call in message.get("tool_calls") or ():
        if call["function"]["name"] not in text:
            raise Unrenderable(
                f"leaves the tool calls of turn {number} out, so they would not be learned. Take a model whose "
                "template renders them, set model.chatTemplate to ChatML, or remove the turn"
            )


def _difference(one: str, other: str) -> str:
    place = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return f"{other[place : place + 20]!r} in place of {one[place : place + 20]!r}"


def _squeezed(text: str) -> str:
    return "".join(text.split())
