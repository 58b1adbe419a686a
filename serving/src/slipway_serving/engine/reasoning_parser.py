"""The reasoning of an answer apart from what it says, by the rule that the judge goes by, whole and as it comes.

vLLM's own parsers go by the name of a family. Their rules differ between an answer that comes whole and one that
streams, take an answer without reasoning for reasoning alone, and look for markers that are one token each. Ours has
the markers of the model's own template, and looks at the prompt and at the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.parser.abstract_parser import DelegatingParser
from vllm.reasoning import ReasoningParser, ReasoningParserManager

from slipway_core.protocol import chat_format
from slipway_core.protocol.reasoning import Parts, Splitter, split
from slipway_core.resources.model import TAKEN_ARGUMENTS
from slipway_serving.engine.configuration import REASONING_PARSER

_TAIL = 64
"""Tokens at the end of a prompt, or of what was generated, among which a marker is looked for."""


class SlipwayReasoningParser(ReasoningParser):
    """One request's, of a model whose tokenizer has our chat format."""

    engine_based_streaming = True

    def __init__(
        self, tokenizer: Any, *args: Any, chat_template_kwargs: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(tokenizer, *args, **kwargs)
        self._known = chat_format.of_config(tokenizer.init_kwargs).reasoning
        self._begin(self._prompt_end(chat_template_kwargs or {}))

    def _begin(self, prompt: str) -> None:
        """Gets ready for an answer, given how its prompt ends."""
        self._marks = self._known
        if self._marks is not None and self._marks.closed(prompt):
            self._marks = None
        self._opened = self._marks is not None and self._marks.opened(prompt)
        self._splitter = Splitter(self._marks, opened=self._opened) if self._marks is not None else None

    def adjust_initial_state_from_prompt(self, prompt_token_ids: Sequence[int]) -> None:
        """Takes the prompt itself, for which the template's arguments are no more than a guess: a template may look at
        what is said (`/no_think`), and an answer that a client has begun is not opened by the template."""
        self._begin(self._end(prompt_token_ids))

    @property
    def reasoning_start_str(self) -> str | None:
        return self._marks.start if self._marks is not None else None

    @property
    def reasoning_end_str(self) -> str | None:
        return self._marks.end if self._marks is not None else None

    def adjust_request(self, request: Any) -> Any:
        # Whatever the prompt is, since the judge does so for all prompts.
        if self._known is not None and self._known.has_one_of(self.model_tokenizer.all_special_tokens):
            request.skip_special_tokens = False
        if self._marks is None:
            return request
        if not self._opened and not self._marks.always and hasattr(request, "_grammar_from_parser"):
            # It may answer without reasoning, and then what an answer must look like holds from its first token on.
            request._grammar_from_parser = True
        return request

    def extract_reasoning(self, model_output: str, request: Any) -> tuple[str | None, str | None]:
        parts = self._split(model_output)
        return parts.reasoning or None, parts.answer or None

    def extract_reasoning_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
    ) -> DeltaMessage | None:
        if self._splitter is None:
            return DeltaMessage(content=delta_text)
        return _message(self._splitter.feed(delta_text))

    def has_engine_confirmed_reasoning_end(self) -> bool:
        return self._splitter is None or self._splitter.answering

    def finish_streaming(self) -> DeltaMessage | None:
        return _message(self._splitter.finish()) if self._splitter is not None else None

    def is_reasoning_end(self, input_ids: Sequence[int]) -> bool:
        """Whether a prompt leaves no room for reasoning: what an answer must look like holds from then on."""
        if self._known is None or not input_ids:
            return self._marks is None
        return self._known.closed(self._end(input_ids))

    def is_reasoning_end_streaming(self, input_ids: Sequence[int], delta_ids: Iterable[int]) -> bool:
        if self._marks is None:
            return True
        new = len(list(delta_ids))
        tail = list(input_ids)[-(_TAIL + new) :]
        before = self.model_tokenizer.decode(tail[: len(tail) - new])
        return self.model_tokenizer.decode(tail).count(self._marks.end) > before.count(self._marks.end)

    def extract_content_ids(self, input_ids: list[int]) -> list[int]:
        return []  # The text is what counts.

    def count_reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        thought = self._split(self.model_tokenizer.decode(list(token_ids))).reasoning
        return len(self.model_tokenizer.encode(thought, add_special_tokens=False)) if thought else 0

    def _split(self, text: str) -> Parts:
        return split(text, self._marks, opened=self._opened)

    def _end(self, prompt_token_ids: Sequence[int]) -> str:
        return self.model_tokenizer.decode(list(prompt_token_ids)[-_TAIL:])

    def _prompt_end(self, given: Mapping[str, Any]) -> str:
        """Returns how prompts end under the request's arguments; nothing where the template does not say it."""
        if self._known is None:
            return ""
        arguments = {name: value for name, value in given.items() if name not in TAKEN_ARGUMENTS}
        try:
            text = self.model_tokenizer.apply_chat_template(
                [{"role": "user", "content": "Hello"}], tokenize=False, add_generation_prompt=True, **arguments
            )
        except Exception:
            # A template is a program that may raise anything; the request itself is refused with its words.
            return ""
        return str(text)


def _message(parts: Parts) -> DeltaMessage | None:
    if not parts.reasoning and not parts.answer:
        return None
    return DeltaMessage(reasoning=parts.reasoning or None, content=parts.answer or None)


def _hand_on(self: DelegatingParser, prompt_token_ids: Sequence[int]) -> None:
    """vLLM tells a parser of the prompt before it reads a whole answer, and this kind of parser makes nothing of it."""
    if isinstance(own := self.reasoning_parser, SlipwayReasoningParser):
        own.adjust_initial_state_from_prompt(prompt_token_ids)


DelegatingParser.set_prompt_token_ids = _hand_on
ReasoningParserManager.register_module(REASONING_PARSER, module=SlipwayReasoningParser)
