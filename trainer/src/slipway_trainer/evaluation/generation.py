"""What a model answers: greedily, so that it is the same every time, and as it is served at temperature 0.

Served is what vLLM makes of the artifact: with the repetition penalty of its generation_config.json, until one of the
tokens that it names there, and with all the room that the model has.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from slipway_core.protocol.reasoning import Parts, Reasoning, split
from slipway_trainer.data.formats import answer_checks
from slipway_trainer.data.formats.answer_checks import Checks
from slipway_trainer.evaluation.perplexity import MAX_WINDOW, positions
from slipway_trainer.evaluation.scope import NOWHERE, RowOf
from slipway_trainer.model.exported_model import ExportedModel, require_rows
from slipway_trainer.tokens import chat_format
from slipway_trainer.tokens.chat_rendering import Unrenderable
from slipway_trainer.tokens.prompt_tokens import PromptTokens

BATCH_ROWS = 64
BATCH_CACHE_BYTES = 2 << 30
"""Keys and values that a batch of answers may hold."""


@dataclass(frozen=True)
class Prompt:
    messages: list[dict[str, Any]]
    """Turns as a chat template is given them; the last one is not the assistant's."""
    answer: str | None = None
    recall: bool = False
    """Whether the training data is meant to hold the answer."""
    source: str | None = None
    """File and line that it comes from."""
    tools: list[dict[str, Any]] | None = None
    """What the assistant may call."""
    others: tuple[str, ...] = ()
    """Further answers that are as right."""
    checks: Checks = answer_checks.NONE
    """What an answer has to be like."""
    of: RowOf = NOWHERE


@dataclass(frozen=True)
class Answer:
    prompt: Prompt
    text: str
    tokens: int
    finish_reason: Literal["stop", "length", "no_room"]
    """no_room: the prompt alone fills the model."""
    marks: Reasoning | None = None
    """How the model marks its reasoning."""
    opened: bool = False
    """Whether the prompt ends within it."""
    closed: bool = False
    """Whether the prompt has ended it: then all of the answer is what it says."""

    @property
    def parts(self) -> Parts:
        """What it thinks and what it says, as the server tells them apart."""
        return split(self.text, None if self.closed else self.marks, opened=self.opened)

    @property
    def said(self) -> str:
        return self.parts.answer

    @property
    def exact(self) -> bool | None:
        """Whether it says what the wanted answer says; None when none is wanted."""
        if self.prompt.answer is None:
            return None
        return _plain(split(self.prompt.answer, self.marks).answer) == _plain(self.said)

    @property
    def references(self) -> list[str]:
        """What the wanted answers say, without their reasoning."""
        wanted = () if self.prompt.answer is None else (self.prompt.answer, *self.prompt.others)
        return [text for one in wanted if (text := split(one, self.marks).answer).strip()]

    @property
    def row(self) -> dict[str, Any]:
        """Returns the sample as it is written to samples.jsonl."""
        wanted = {} if self.prompt.answer is None else {"wanted": self.prompt.answer, "exact": self.exact}
        source = {} if self.prompt.source is None else {"source": self.prompt.source}
        parts = self.parts
        return {
            **source,
            "conversations": self.prompt.messages,
            "answer": parts.answer,
            **({"reasoning": parts.reasoning} if parts.reasoning else {}),
            **wanted,
            **({"others": list(self.prompt.others)} if self.prompt.others else {}),
            **{name: value for name, value in self.prompt.of._asdict().items() if name != "source" and value},
            **({"of": self.prompt.of.source} if self.prompt.of.source else {}),
            "recall": self.prompt.recall,
            "tokens": self.tokens,
            "finish_reason": self.finish_reason,
        }


GoOn = Callable[[list[list[int]], list[int]], Iterator[tuple[list[int], list[list[int]]]]]
"""Writes on, greedily, from the tokens of prompts, each with its room for new tokens, in whatever order: the numbers of
some prompts at a time, and the new tokens of each, with or without what follows its end; none without room."""


@torch.inference_mode()
def answer(
    exported: ExportedModel,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    advance: Callable[[int, int], None] | None = None,
) -> list[Answer]:
    """Returns the answers in the order of the prompts.

    Raises ValueError when the tokenizer has no chat template, or none of its tokens ends an answer, or the template
    refuses a prompt, and BadArtifact when the model has no row for a token of the prompts.
    """
    limit = positions(exported.model.config, exported.tokenizer) - exported.virtual_tokens
    return answer_by(
        computed(exported),
        exported.tokenizer,
        exported.end_tokens,
        prompts,
        limit=limit,
        max_new_tokens=max_new_tokens,
        advance=advance,
    )


def answer_by(
    go_on: GoOn,
    tokenizer: PreTrainedTokenizerBase,
    end_tokens: Sequence[int],
    prompts: Sequence[Prompt],
    *,
    limit: int,
    max_new_tokens: int,
    advance: Callable[[int, int], None] | None = None,
) -> list[Answer]:
    """Returns the answers by whatever writes on.

    Args:
        limit: tokens of a prompt and its answer.

    Raises ValueError as `answer` does.
    """
    if not tokenizer.chat_template:
        raise ValueError("the tokenizer has no chat template, so prompts cannot be put to the model")
    if not end_tokens:
        raise ValueError("neither generation_config.json nor the tokenizer names a token that ends an answer")
    words = PromptTokens(cast(PreTrainedTokenizerFast, tokenizer))
    rows = [_ids(words, prompt) for prompt in prompts]
    rooms = [max(0, min(max_new_tokens, limit - len(row))) for row in rows]
    answers: dict[int, Answer] = {}
    for batch, made in go_on(rows, rooms):
        for index, tokens in zip(batch, made, strict=True):
            answers[index] = _read(tokenizer, end_tokens, words, prompts[index], tokens, rooms[index])
        if advance:
            advance(len(answers), len(prompts))
    return [answers[index] for index in range(len(prompts))]


def computed(exported: ExportedModel) -> GoOn:
    """Returns what writes on with a model in this process."""
    return lambda rows, rooms: _computed(exported, rows, rooms)


@torch.inference_mode()
def _computed(
    exported: ExportedModel, rows: list[list[int]], rooms: list[int]
) -> Iterator[tuple[list[int], list[list[int]]]]:
    require_rows(exported.model, max(map(max, filter(None, rows)), default=0))
    # Virtual tokens stand before the padding, which would part them from a shorter prompt.
    for batch in _batches(rows, rooms, _rows_at_once(exported), one_length=exported.virtual_tokens > 0):
        room = rooms[batch[0]]
        made = _generate(exported, [rows[index] for index in batch], room) if room else [[] for _ in batch]
        yield batch, made


def _ids(words: PromptTokens, prompt: Prompt) -> list[int]:
    try:
        return words.ids(prompt.messages, prompt.tools)
    except Unrenderable as error:
        # The run's own template was asked before it was trained; the live version may have another.
        raise ValueError(f"{prompt.source or 'a prompt'}: the chat template {error}") from None


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _batches(
    rows: list[list[int]], rooms: list[int], rows_at_once: Callable[[int], int], *, one_length: bool = False
) -> Iterator[list[int]]:
    """Yields indices of prompts of similar length that have room for the same number of tokens.

    Args:
        one_length: of the same length.
    """
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: (-rooms[index], -len(rows[index]))):
        if batch and (
            rooms[index] != rooms[batch[0]]
            or (one_length and len(rows[index]) != len(rows[batch[0]]))
            or len(batch) >= rows_at_once(len(rows[batch[0]]) + rooms[batch[0]])
        ):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _rows_at_once(exported: ExportedModel) -> Callable[[int], int]:
    config = exported.model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", 1)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * heads * size * exported.model.dtype.itemsize

    def rows(length: int) -> int:
        # Rows of unequal lengths need a mask of [rows, length, length].
        return 1 if length > MAX_WINDOW else max(1, min(BATCH_ROWS, BATCH_CACHE_BYTES // (per_token * length)))

    return rows


def _generate(exported: ExportedModel, rows: list[list[int]], room: int) -> list[list[int]]:
    """Returns the new tokens of each row, with what follows its end."""
    width = max(map(len, rows))
    pad = exported.tokenizer.pad_token_id
    pad = pad if isinstance(pad, int) else exported.end_tokens[0]
    device = exported.model.device
    inputs = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    greedy = GenerationConfig(
        max_new_tokens=room, do_sample=False, eos_token_id=exported.end_tokens, pad_token_id=pad, use_cache=True
    )
    penalty = [_RepetitionPenalty(exported.repetition_penalty, mask)] if exported.repetition_penalty != 1 else []
    made: Any = exported.model.generate(  # pyright: ignore[reportCallIssue]
        inputs=inputs,
        attention_mask=mask,
        generation_config=greedy,
        logits_processor=LogitsProcessorList([_Finite(), *penalty]),
    )
    return made[:, width:].tolist()


class _Finite(LogitsProcessor):
    """Ends an answer that a model of NaN would write: the greatest of NaN is the first token, and text as any other."""

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Takes scores [rows, vocabulary] and returns them. Raises ValueError."""
        # Nothing is less than NaN; what can never come may be minus infinite.
        if not bool((scores < torch.inf).all()):
            raise ValueError("the model's scores of the next token are NaN or infinite")
        return scores


class _RepetitionPenalty(LogitsProcessor):
    """Makes every token that the prompt or the answer has had less likely (Keskar et al. 2019, arXiv:1909.05858).

    Not transformers' own: it takes padding for a part of the prompt, so that an answer would depend on its batch.
    """

    def __init__(self, penalty: float, mask: torch.Tensor) -> None:
        self._penalty, self._mask = penalty, mask

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Takes the tokens so far [rows, length] and scores [rows, vocabulary], and returns scores."""
        real = torch.ones_like(input_ids)
        real[:, : self._mask.shape[1]] = self._mask
        had = torch.zeros_like(scores, dtype=real.dtype).scatter_reduce(1, input_ids, real, "amax").bool()
        less = torch.where(scores > 0, scores / self._penalty, scores * self._penalty)
        return torch.where(had, less, scores)  # pyright: ignore[reportReturnType]


def _read(
    tokenizer: PreTrainedTokenizerBase,
    end_tokens: Sequence[int],
    words: PromptTokens,
    prompt: Prompt,
    tokens: list[int],
    room: int,
) -> Answer:
    ends = set(end_tokens)
    stop = next((place for place, token in enumerate(tokens) if token in ends), None)
    marks = chat_format.of(tokenizer).reasoning
    # Special tokens that mark the reasoning must still be there, as in the server.
    hidden = marks is None or not marks.has_one_of(tokenizer.all_special_tokens)
    text = str(tokenizer.decode(tokens[:stop], skip_special_tokens=hidden))
    reason = "no_room" if room == 0 else "length" if stop is None else "stop"
    asked = words.text(prompt.messages, prompt.tools) if marks is not None else ""
    opened, closed = (marks.opened(asked), marks.closed(asked)) if marks is not None else (False, False)
    return Answer(prompt, text, len(tokens) if stop is None else stop + 1, reason, marks, opened, closed)
