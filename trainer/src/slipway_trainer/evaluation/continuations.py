"""How likely a model finds what follows a context, and whether it would have written it: what tasks of
lm-evaluation-harness ask for.

Tokens are made as by its `--model hf` with its defaults: the two texts are encoded together with whatever the tokenizer
adds by itself, white space at the end of the context goes to what follows, an empty context is the BOS token (else
EOS), and what is longer than the model takes loses its beginning.

Source: EleutherAI's lm-evaluation-harness 0.4, `TemplateLM._encode_pair`, `HFLM._loglikelihood_tokens`; a test compares
the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from slipway_trainer.evaluation import perplexity
from slipway_trainer.evaluation.perplexity import BATCH_LOGITS, Window
from slipway_trainer.model.exported_model import require_rows

Advance = Callable[[int, int], None]


class Likelihood(NamedTuple):
    log: float
    """Natural logarithm of the probability."""
    greedy: bool
    """Whether each token was the most likely one."""


Compute = Callable[[Sequence[Window]], Iterator[tuple[list[int], list[Likelihood]]]]
"""Computes windows, in whatever order: the numbers of some at a time, with the likelihood of their targets."""


def encoded(words: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Returns the tokens of a context, with those that the tokenizer adds, unless the text begins with them."""
    begins = text.startswith(str(words.decode(perplexity.prefix_token(words))))
    found: Any = words.encode(text, add_special_tokens=False) if begins else words.encode(text)
    return list(found)


def pair(words: PreTrainedTokenizerBase, context: str, follows: str) -> tuple[list[int], list[int]]:
    """Returns the tokens of a context and of what follows it. Raises ValueError where nothing follows."""
    if context == "":
        behind: list[int] = list(words.encode(follows, add_special_tokens=False))  # pyright: ignore[reportArgumentType]
        prefix = perplexity.prefix_token(words)
        before, after = ([prefix], behind) if behind[:1] != [prefix] else (behind[:1], behind[1:])
    else:
        spaces = len(context) - len(context.rstrip())
        if spaces:
            context, follows = context[:-spaces], context[-spaces:] + follows
        whole, before = encoded(words, context + follows), encoded(words, context)
        after = whole[len(before) :]
        # Of white space alone nothing is left.
        before = before or [perplexity.prefix_token(words)]
    if not after:
        raise ValueError(f"no token is left of what follows a context: {follows[:40]!r}")
    return before, after


def likelihoods(
    compute: Compute,
    words: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[str, str]],
    *,
    window: int,
    advance: Advance | None = None,
) -> list[Likelihood]:
    """Returns how likely what follows each context is.

    Args:
        window: longest input in tokens.

    Raises ValueError where nothing follows, or more than a window holds.
    """
    # Once each: choices that are the same are as likely, to the bit.
    asked = list(dict.fromkeys(pairs))
    windows: list[Window] = []
    for context, follows in asked:
        before, after = pair(words, context, follows)
        if len(after) > window:
            raise ValueError(f"an answer of {len(after)} tokens does not fit into the {window} that the model takes")
        whole = (before + after)[-(window + 1) :]
        windows.append(Window(whole[:-1], after))
    found: dict[tuple[str, str], Likelihood] = {}
    for numbers, told in compute(windows):
        found |= {asked[number]: one for number, one in zip(numbers, told, strict=True)}
        if advance:
            advance(len(found), len(asked))
    return [found[one] for one in pairs]


def computed(model: PreTrainedModel) -> Compute:
    """Returns what computes windows with a model in this process.

    It raises BadArtifact when the model has no row for a token of theirs.
    """

    @torch.inference_mode()
    def compute(windows: Sequence[Window]) -> Iterator[tuple[list[int], list[Likelihood]]]:
        require_rows(model, max((max(*one.inputs, *one.targets) for one in windows), default=0))
        # Choices of one token share their input, which is computed once.
        sharing: dict[tuple[int, ...], list[int]] = {}
        for number, one in enumerate(windows):
            sharing.setdefault(tuple(one.inputs), []).append(number)
        inputs = [Window(list(tokens), []) for tokens in sharing]
        for batch in perplexity.batches(inputs, perplexity.batch_tokens(model.config)):
            numbers = [sharing[tuple(one.inputs)] for one in batch]
            told = _likelihoods(model, batch, [[windows[number].targets for number in own] for own in numbers])
            yield [number for own in numbers for number in own], told

    return compute


def _likelihoods(model: PreTrainedModel, batch: list[Window], targets: list[list[Sequence[int]]]) -> list[Likelihood]:
    """Returns the likelihood of each of the targets of each input, one input after the other."""
    width = max(len(one.inputs) for one in batch)
    tokens = torch.tensor([[*one.inputs, *[0] * (width - len(one.inputs))] for one in batch])
    # Padding stands at the right and attention is causal: no scored position sees it, so no mask is needed.
    logits = model(input_ids=tokens.to(model.device), use_cache=False).logits
    found: list[Likelihood] = []
    for row, one, own in zip(logits, batch, targets, strict=True):
        for wanted in own:
            ids = torch.tensor(wanted, device=row.device)
            behind = row[len(one.inputs) - len(wanted) : len(one.inputs)]
            logs, best = [], True
            for place, part in zip(*_parts(ids, behind), strict=True):
                logs.append(torch.log_softmax(part.float(), -1).gather(1, place[:, None]).sum(dtype=torch.float64))
                best = best and bool((part.argmax(-1) == place).all())
            found.append(Likelihood(float(torch.stack(logs).sum()), best))
    return found


def _parts(ids: torch.Tensor, logits: torch.Tensor) -> tuple[Any, Any]:
    """In parts: the log-softmax of a long answer over a large vocabulary takes the memory of its logits thrice."""
    rows = max(1, BATCH_LOGITS // logits.shape[-1])
    return ids.split(rows), logits.split(rows)
