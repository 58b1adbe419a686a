"""What a gate with bounds can show with as many rows as it has: told before anything is trained.

Of shares it is exact: the bounds of k right answers of n are known before they are given. Of figures of texts nothing
is known yet of how much documents differ, so a spread is assumed, and said.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slipway_core.lifecycle.verdict import FEWEST_CLUSTERS, by_bounds, is_point, threshold
from slipway_core.plan import Plan
from slipway_core.resources.evaluation import POINT, Gate
from slipway_core.resources.gate_metrics import (
    CORPUS_METRICS,
    HIGHER_IS_BETTER,
    JUDGE_METRICS,
    RECALL_METRICS,
    SCORED_METRICS,
    TEXT_METRICS,
    is_share,
    titled,
    unit,
)
from slipway_trainer.bounds import intervals, student
from slipway_trainer.bounds.intervals import Array
from slipway_trainer.data.held_out import HeldConversation, HeldDocument, HeldOut, HeldPrompt, HeldTask
from slipway_trainer.prepare import gate_rows

SPREAD = {
    "bits_per_byte": 0.2,
    "byte_perplexity": 0.2,
    "chat_bits_per_byte": 0.2,
    "perplexity": 0.1,
    "chat_perplexity": 0.1,
    "word_perplexity": 0.3,
}
"""Assumed standard deviation of documents' figures, as a share of the figure, of a perplexity of its logarithm.
Measured by the bounds of a model of 1.7 million weights that had learned of each kind: a byte 0.09 (verse), 0.07
(English prose), 0.11 to 0.17 (Chinese prose) and 0.22 of all three together; a token 0.05, 0.02 and 0.05, since a rare
word has more of them; a word 0.16 to 0.20, 0.10 and 0.32, since Chinese writes hardly any spaces. One that has learned
one of two languages had 0.38 a byte of both."""
PAIRED_SPREAD = 0.1
"""Assumed standard deviation of how much worse documents get, in bits a byte, or of a perplexity in nats a token.
Measured for LoRA on such a model: 0.03 to 0.05 bits a byte of verse and of answers, 0.07 to 0.16 of prose; after a
stage that trained all weights 0.06 and 0.09 to 0.2; of a perplexity 0.06 to 0.3 and 0.1 to 0.2 nats a token."""
CORPUS_SPREAD = {"chrf": 0.5, "bleu": 0.75}
"""Assumed standard deviation of what answers add to a figure of the corpus, as a share of what it is where each answer
is wholly right or wholly wrong: sqrt(f (100 - f)) points of a figure f. Measured by how far the lower bound lies below
the figure, chrF: 0.23 to 0.27 of what tiny models say (f of 1.7 to 2.5), and of references of which words or characters
were replaced 0.3 where all are as bad, 0.7 where they differ, 1.1 where each is right or wrong; BLEU: 0.5 to 0.7, and
0.4, 0.8 and 1.1 (`bench/gate_spread.py`)."""
CORPUS_LEAST = 15.0
"""Assumed standard deviation, in points, that the bounds of such a figure have upwards whatever is answered: the
imagined prompt that is wholly right makes it. Measured of the same models: chrF 11 to 22, BLEU 7 to 20."""
CORPUS_PAIRED = 20.0
"""Assumed standard deviation of how much worse answers get, in points. Measured: 6 to 19 of a tiny model and its base,
where the imagined prompts make nearly all of it; 24 to 28 of references that were spoilt twice, each time anew."""
_GRADED = frozenset({"token_f1", "rouge_l", "repetition_rate", *JUDGE_METRICS})
"""Scores between 0 and 1; those of other shares are one of the two. So may be what a document of a task scores."""
_BITS = frozenset({"bits_per_byte", "chat_bits_per_byte"})
_MOST = 1 << 20
"""Rows from which on nobody asks for more."""

Held = HeldDocument | HeldConversation | HeldPrompt | HeldTask


@dataclass(frozen=True)
class Power:
    gate: str
    """The metric with the rows that count, and what is asked."""
    says: str
    """What can be shown with these rows."""
    named: str
    """Its place in the manifest, and the metric."""
    never: str | None = None
    """Why no model can pass, and what to do; None where one can."""
    too_few: bool = False
    """Whether it is inconclusive whatever is measured, for want of rows: `gate_rows` warns of that."""
    of_texts: bool = True
    """Whether it rests on rows that a run may leave out (onOverlap: Drop): on no prompts."""

    @property
    def passable(self) -> bool:
        return self.never is None and not self.too_few


def of_gates(plan: Plan, held: HeldOut, words: Any = None, *, whole: HeldOut | None = None) -> list[Power]:
    """Returns what each gate can show; nothing of one on a task whose rows were not read.

    Args:
        held: what is judged by.
        words: a tokenizer of transformers, by which tokens are counted where a gate asks for some.
        whole: the same with what is left out since it was learned, to tell a gate that nothing is left of.
    """
    found: list[Power] = []
    for number, gate in enumerate(plan.evaluation.gates):
        rows = gate_rows.all_of(gate, held)
        before = rows if whole is None else gate_rows.all_of(gate, whole)
        if not before:
            continue  # That is refused.
        title = titled(gate.metric, gate.source, gate.slice, gate.task)
        power = _power(gate, rows) if rows else _of_none(gate, before)
        if power is None:
            continue
        says, never = power
        never = (_too_few_tokens(gate, rows, words) if rows else None) or never
        asked = f"{title} {threshold(gate, plan.evaluation.win_rate_over)}"
        named = f"evaluation.gates[{number}] ({title})"
        why = None if never is None else f"{named} can never pass: {never}"
        too_few = not rows or (by_bounds(gate) and len(_sizes(rows)) < FEWEST_CLUSTERS)
        found.append(Power(asked, says, named, why, too_few, not isinstance(before[0], HeldPrompt)))
    return found


def warnings(plan: Plan, held: HeldOut, words: Any = None) -> list[str]:
    """Returns a sentence for each gate that no model can pass with these rows."""
    return [one.never for one in of_gates(plan, held, words) if one.never is not None]


def _is_graded(gate: Gate) -> bool:
    return gate.task is not None or gate.metric in _GRADED


def _power(gate: Gate, rows: Sequence[Held]) -> tuple[str, str | None] | None:
    """Returns what is said of a gate, and why it can never pass; None of a metric of which nothing is known."""
    if is_point(gate):
        return _of_figure(gate, rows)
    sizes = _sizes(rows)
    count = f"{len(sizes):,} {_unit(gate, rows, sizes)}"
    if not by_bounds(gate):
        return f"{count}; the figure is taken as it is", None
    if len(sizes) < FEWEST_CLUSTERS:
        return f"{count}: inconclusive whatever is measured, {FEWEST_CLUSTERS} are the fewest", None
    if is_share(gate.metric, gate.task):
        told = _share_regression(gate, sizes) if gate.max_regression is not None else _share(gate, sizes)
    elif gate.metric in CORPUS_METRICS:
        told = _corpus(gate, sizes)
    elif gate.metric in SCORED_METRICS:
        told = _scored(gate, sizes)
    else:
        return None
    return f"{count}: {told[0]}", told[1]


def _of_none(gate: Gate, before: Sequence[Held]) -> tuple[str, str | None]:
    return (
        f"none of its {len(before):,} {unit(gate.metric, gate.task)} is left: inconclusive whatever is measured",
        None,
    )


def _of_figure(gate: Gate, rows: Sequence[Held]) -> tuple[str, str | None]:
    """A list that is asked in whole has no bounds."""
    says = f"{len(rows):,} prompts; the figure is taken as it is"
    most = {"recall_count": len(rows), "recall_rate": 1}.get(gate.metric)
    if gate.metric in RECALL_METRICS and gate.min is not None and most is not None and gate.min > most:
        return says, f"{len(rows):,} prompts have recall: true, and min is {gate.min:g}. Ask for {most} or less"
    return says, None


def _sizes(rows: Sequence[Held]) -> Array:
    """Returns float64 [clusters]: how many prompts each cluster has, or bytes of text."""
    sizes: dict[Any, float] = defaultdict(float)
    for row in rows:
        cluster = None if isinstance(row, HeldTask) else row.row.labels.cluster
        sizes[cluster or id(row)] += _size(row)
    return np.array(list(sizes.values()), np.float64)


def _size(row: Held) -> float:
    if isinstance(row, HeldDocument):
        return float(max(1, len(row.row.text.encode(errors="surrogatepass"))))
    if isinstance(row, HeldConversation):
        learned = [turn.content or "" for turn, own in zip(row.row.turns, row.row.learned, strict=True) if own]
        return float(max(1, sum(len(text.encode(errors="surrogatepass")) for text in learned)))
    return 1.0


def _unit(gate: Gate, rows: Sequence[Held], sizes: Array) -> str:
    name = unit(gate.metric, gate.task)
    return name if len(sizes) == len(rows) else f"clusters of {len(rows):,} {name}"


# ------------------------------------------------------------------------------------------------------- shares


def _share(gate: Gate, sizes: Array) -> tuple[str, str | None]:
    """Returns how many have to score 1, or may. Scores between 0 and 1 of the same mean have narrower bounds."""
    confidence, n = gate.confidence or POINT, len(sizes)
    if gate.min is not None:
        asked = gate.min
        least = _fewest(n, lambda k: intervals.of_share(_first(sizes, k), sizes, confidence).lower >= asked)
        if least is None:
            best = intervals.of_share(sizes, sizes, confidence).lower
            right = "at their best" if _is_graded(gate) else "right"
            more = _more(lambda m: intervals.of_share(np.ones(m), np.ones(m), confidence).lower >= asked, gate)
            return "no model can pass", (
                f"with all {n:,} {right} the lower bound is {best:.3g}, below min: {asked:g}. {more}"
            )
        if least == 0:
            return "passes whatever is answered", None
        if _is_graded(gate):
            return f"passes for certain with a mean of {_part(sizes, least):.3g} or more", None
        return f"passes only with {least:,} of {n:,} right{'' if least == n else ' or more'}", None
    assert gate.max is not None
    asked = gate.max
    over = _fewest(n, lambda k: intervals.of_share(_first(sizes, k, largest=False), sizes, confidence).upper > asked)
    if over == 0:
        best = intervals.of_share(np.zeros(n), sizes, confidence).upper
        more = _more(lambda m: intervals.of_share(np.zeros(m), np.ones(m), confidence).upper <= asked, gate)
        return "no model can pass", (f"with 0 of {n:,} the upper bound is {best:.3g}, above max: {asked:g}. {more}")
    if over is None:
        return "passes whatever is answered", None
    most = over - 1
    if _is_graded(gate):
        return f"passes for certain with a mean of {_part(sizes, most, largest=False):.3g} or less", None
    return f"passes only with {most:,} of {n:,}{' or fewer' if most else ''}", None


def _share_regression(gate: Gate, sizes: Array) -> tuple[str, str | None]:
    """Returns how many may have become wrong where none has become right."""
    confidence, n = gate.confidence or POINT, len(sizes)
    assert gate.max_regression is not None
    allowed = gate.max_regression
    over = _fewest(n, lambda k: intervals.of_share_difference(_first(sizes, k), sizes, confidence).upper > allowed)
    if over == 0:
        same = intervals.of_share_difference(np.zeros(n), sizes, confidence).upper
        return (
            f"a model that answers the same does not pass, its bound is {same:.3g}: it takes one that is better, or "
            "more of them"
        ), None
    if over is None:
        return "passes whatever is answered", None
    most = over - 1
    worse = "worse" if _is_graded(gate) or gate.metric not in HIGHER_IS_BETTER else "wrong that was right"
    return f"where none gets better, passes with {most:,} of {n:,} that became {worse}{' or fewer' * (most > 0)}", None


def _first(sizes: Array, count: int, *, largest: bool = True) -> Array:
    """Returns the sums of scores where `count` of the clusters score 1, the largest or the smallest ones, and the
    others 0."""
    sums = np.zeros(len(sizes))
    chosen = np.argsort(-sizes if largest else sizes, kind="stable")[:count]
    sums[chosen] = sizes[chosen]
    return sums


def _part(sizes: Array, count: int, *, largest: bool = True) -> float:
    return float(_first(sizes, count, largest=largest).sum() / sizes.sum())


def _fewest(most: int, holds: Callable[[int], Any]) -> int | None:
    """Returns the smallest number up to `most` of which something holds that holds of all larger ones; None where it
    holds of none."""
    if not holds(most):
        return None
    low, high = -1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _more(enough: Callable[[int], Any], gate: Gate) -> str:
    """Returns what to do where there are too few rows even for a model without a fault."""
    way_out = "ask for less, or take the figure as it is with confidence: 0.5"
    rows = _fewest(_MOST, lambda m: m > 0 and enough(m))
    if rows is None:
        return f"No number of {unit(gate.metric, gate.task)} shows that: {way_out}"
    return f"Have {rows:,} {unit(gate.metric, gate.task)} or more, {way_out}"


# -------------------------------------------------------------------------------------- texts, and corpus scores


def _scored(gate: Gate, sizes: Array) -> tuple[str, str | None]:
    half = _half_width(sizes, gate.confidence or POINT)
    if gate.max_regression is not None:
        assumed = f"assumed that it differs by {PAIRED_SPREAD:g}"
        wide = half * PAIRED_SPREAD
        if gate.metric not in _BITS:
            return (
                f"how much worse is told to ± {wide:.0%} of the figure ({assumed} nats a token from {_each(gate)})",
                None,
            )
        left = gate.max_regression - wide
        need = f"worse by {left:.3g} or less" if left >= 0 else f"better by {-left:.3g} or more"
        return f"passes where it is {need} ({assumed} bits a byte from {_each(gate)})", None
    asked = gate.max if gate.max is not None else gate.min
    assert asked is not None
    sign, spread = -1 if gate.max is not None else 1, SPREAD[gate.metric]
    if gate.metric in _BITS:
        needed = asked * (1 + sign * half * spread)
    else:
        needed = math.exp(math.log(asked) * (1 + sign * half * spread)) if asked > 1 else asked
    way = "less" if sign < 0 else "more"
    return (
        f"passes with about {needed:.3g} or {way} (assumed that {_each(gate, plural=True)} differ by {spread:.0%})",
        None,
    )


def _each(gate: Gate, *, plural: bool = False) -> str:
    units = unit(gate.metric)
    return units if plural else f"{units.removesuffix('s')} to {units.removesuffix('s')}"


def _corpus(gate: Gate, sizes: Array) -> tuple[str, str | None]:
    half = _half_width(sizes, gate.confidence or POINT)
    if gate.max_regression is not None:
        left = gate.max_regression - half * CORPUS_PAIRED
        need = f"worse by {left:.3g} or less" if left >= 0 else f"better by {-left:.3g} or more"
        return f"passes where it is {need} (assumed that it differs by {CORPUS_PAIRED:g} points)", None
    share = CORPUS_SPREAD[gate.metric]
    if gate.max is not None:
        needed = _largest(gate.max, lambda f: f + half * math.hypot(share * _all_or_nothing(f), CORPUS_LEAST))
        assumed = (
            f"assumed that answers differ by {math.hypot(share * _all_or_nothing(needed), CORPUS_LEAST):.2g} points"
        )
        if needed == 0:
            return f"hardly passes whatever is answered ({assumed})", None
        return f"passes with about {needed:.3g} or less ({assumed})", None
    assert gate.min is not None
    if gate.min > 100:
        return "no model can pass", f"{gate.metric} is 100 at most, and min is {gate.min:g}"
    # Turned around, what is asked of the rest is that it is no more.
    needed = 100 - _largest(100 - gate.min, lambda f: f + half * share * _all_or_nothing(f))
    assumed = f"assumed that answers differ by {share * _all_or_nothing(needed):.2g} points"
    return f"passes with about {needed:.3g} or more ({assumed})", None


def _all_or_nothing(figure: float) -> float:
    """Returns the standard deviation of answers of 100 and of 0 points whose mean is a figure."""
    return math.sqrt(figure * (100 - figure))


def _largest(limit: float, upper: Callable[[float], float]) -> float:
    """Returns the largest figure from 0 to a limit whose upper bound is not above it; 0 where there is none."""
    low, high = 0.0, limit
    if upper(low) > limit:
        return low
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if upper(middle) <= limit else (low, middle)
    return low


def _half_width(sizes: Array, confidence: float) -> float:
    """Returns how far a bound is from a mean, in standard deviations of what clusters of these sizes say: Student's t
    for Kish's effective number of them, as `intervals` has it."""
    effective = float(sizes.sum() ** 2 / (sizes**2).sum())
    return student.quantile(max(1.0, effective - 1), confidence) / math.sqrt(effective)


def _too_few_tokens(gate: Gate, rows: Sequence[Held], words: Any) -> str | None:
    """Returns why a gate on texts is inconclusive for want of tokens; None where there are enough, or nothing tells."""
    texts = [row.row.text for row in rows if isinstance(row, HeldDocument)]
    if gate.metric not in TEXT_METRICS or gate.min_tokens == 1 or words is None:
        return None
    tokens = sum(map(len, words(texts, add_special_tokens=False)["input_ids"]))
    if tokens >= gate.min_tokens:
        return None
    return (
        f"its documents have {tokens:,} tokens, and minTokens is {gate.min_tokens:,}. Add documents to "
        "evaluation.data, or ask for fewer tokens"
    )
