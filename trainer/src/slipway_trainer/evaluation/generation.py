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
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

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
PART_TOKENS = 16
"""After so many new tokens the rows that have ended are taken out of a batch."""
_ROW_BY_ROW = (DynamicLayer, DynamicSlidingWindowLayer)


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
    if full := [index for index, room in enumerate(rooms) if room == 0]:
        yield full, [[] for _ in full]
    asked = [index for index, room in enumerate(rooms) if room]
    if not asked:
        return
    parts = _lets_rows_go(exported, min((rows[index] for index in asked), key=len))
    # Virtual tokens stand before the padding, which would part them from a shorter prompt.
    one_length = exported.virtual_tokens > 0
    for batch in _batches(asked, rows, rooms, _rows_at_once(exported), one_length=one_length, one_room=not parts):
        write = _write_in_parts if parts else _write_at_once
        yield batch, write(exported, [rows[index] for index in batch], [rooms[index] for index in batch])


def _ids(words: PromptTokens, prompt: Prompt) -> list[int]:
    try:
        return words.ids(prompt.messages, prompt.tools)
    except Unrenderable as error:
        # The run's own template was asked before it was trained; the live version may have another.
        raise ValueError(f"{prompt.source or 'a prompt'}: the chat template {error}") from None


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _batches(
    asked: list[int],
    rows: list[list[int]],
    rooms: list[int],
    rows_at_once: Callable[[int], int],
    *,
    one_length: bool = False,
    one_room: bool = False,
) -> Iterator[list[int]]:
    """Yields indices of prompts of similar length.

    Args:
        asked: the indices.
        one_length: of the same length.
        one_room: which have room for the same number of tokens.
    """
    batch: list[int] = []
    for index in sorted(asked, key=lambda index: (-rooms[index] if one_room else 0, -len(rows[index]))):
        if batch and (
            (one_room and rooms[index] != rooms[batch[0]])
            or (one_length and len(rows[index]) != len(rows[batch[0]]))
            # A shorter prompt may have more room.
            or len(batch) >= rows_at_once(len(rows[batch[0]]) + max(rooms[index], rooms[batch[0]]))
        ):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _rows_at_once(exported: ExportedModel) -> Callable[[int], int]:
    config = exported.model.config.get_text_config()
    queries = getattr(config, "num_attention_heads", None)
    if queries is None:  # It keeps states of one size, however long the text is.
        return lambda length: BATCH_ROWS
    heads = getattr(config, "num_key_value_heads", None) or queries
    size = getattr(config, "head_dim", None) or config.hidden_size // queries
    per_token = 2 * config.num_hidden_layers * heads * size * exported.model.dtype.itemsize

    def rows(length: int) -> int:
        # Rows of unequal lengths need a mask of [rows, length, length].
        return 1 if length > MAX_WINDOW else max(1, min(BATCH_ROWS, BATCH_CACHE_BYTES // (per_token * length)))

    return rows


def _lets_rows_go(exported: ExportedModel, row: list[int]) -> bool:
    """Tells, by one token behind a prompt, whether what a model keeps of its tokens is keys and values row by row: then
    a row can be taken out of it. States of another kind, and caches of a model's own, are left alone."""
    if exported.virtual_tokens:
        return False
    cache = getattr(_generate(exported, *_padded(exported, [row]), room=1), "past_key_values", None)
    layers = getattr(cache, "layers", ())
    return type(cache) is DynamicCache and bool(layers) and all(type(one) in _ROW_BY_ROW for one in layers)


def _write_at_once(exported: ExportedModel, rows: list[list[int]], rooms: list[int]) -> list[list[int]]:
    """Returns the new tokens of rows that have the same room, with what follows their end."""
    inputs, mask = _padded(exported, rows)
    return _generate(exported, inputs, mask, room=rooms[0]).sequences[:, inputs.shape[1] :].tolist()


def _write_in_parts(exported: ExportedModel, rows: list[list[int]], rooms: list[int]) -> list[list[int]]:
    """Returns the new tokens of rows, with what follows their end. Rows that have ended are taken out every few tokens:
    else all would be computed for as long as the longest answer takes."""
    inputs, mask = _padded(exported, rows)
    made: list[list[int]] = [[] for _ in rows]
    going, ends, cache = list(range(len(rows))), set(exported.end_tokens), None
    while going:
        room = min(PART_TOKENS, *(rooms[row] - len(made[row]) for row in going))
        told = _generate(exported, inputs, mask, room=room, cache=cache)
        new = told.sequences[:, inputs.shape[1] :]
        for row, tokens in zip(going, new.tolist(), strict=True):
            made[row] += tokens
        kept = [
            place
            for place, row in enumerate(going)
            if len(made[row]) < rooms[row] and ends.isdisjoint(made[row][-new.shape[1] :])
        ]
        going, cache = [going[place] for place in kept], told.past_key_values
        chosen = torch.tensor(kept, dtype=torch.long, device=inputs.device)
        if len(kept) < len(mask):
            cache.batch_select_indices(chosen)
        inputs, mask = told.sequences[chosen], torch.cat([mask, torch.ones_like(new)], dim=1)[chosen]
    return made


def _padded(exported: ExportedModel, rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns rows with padding at their left, int64 [rows, length], and a mask of that shape: 1 for their tokens."""
    width, pad, device = max(map(len, rows)), _pad(exported), exported.model.device
    inputs = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return inputs, mask


def _pad(exported: ExportedModel) -> int:
    pad = exported.tokenizer.pad_token_id
    return pad if isinstance(pad, int) else exported.end_tokens[0]


def _generate(
    exported: ExportedModel, inputs: torch.Tensor, mask: torch.Tensor, *, room: int, cache: Any = None
) -> Any:
    """Returns what transformers tells of at most `room` new tokens of each row: `sequences` is the inputs with them.

    Args:
        cache: of all tokens but the last one of each row, from an earlier call.
    """
    greedy = GenerationConfig(
        max_new_tokens=room,
        do_sample=False,
        eos_token_id=exported.end_tokens,
        pad_token_id=_pad(exported),
        use_cache=True,
        return_dict_in_generate=True,
    )
    penalty = [_RepetitionPenalty(exported.repetition_penalty, mask)] if exported.repetition_penalty != 1 else []
    return exported.model.generate(  # pyright: ignore[reportCallIssue]
        inputs=inputs,
        attention_mask=mask,
        generation_config=greedy,
        logits_processor=LogitsProcessorList([_Finite(), *penalty]),
        **({} if cache is None else {"past_key_values": cache}),
    )


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
