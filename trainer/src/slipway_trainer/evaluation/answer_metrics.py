"""How good, varied and repetitive the answers of a model are."""

from __future__ import annotations

from collections.abc import Sequence

from slipway_core.resources.gate_metrics import ANSWER_METRICS, RECALL_METRICS, REFERENCE_METRICS
from slipway_trainer.evaluation import reference_scores
from slipway_trainer.evaluation.estimates.observed import Observed
from slipway_trainer.evaluation.generation import Answer
from slipway_trainer.evaluation.reference_scores import share
from slipway_trainer.evaluation.text_units import units as units

REPETITION_ORDER = 4

METRICS = (*ANSWER_METRICS, *RECALL_METRICS, *REFERENCE_METRICS)
DEFINITIONS = {
    "units": "a Chinese or Japanese character, a word of other scripts, or a punctuation mark",
    "distinct_n": "different n-grams over all n-grams, of all answers together (Li et al. 2016, arXiv:1510.03055)",
    "repetition_rate": f"1 - different / all {REPETITION_ORDER}-grams of an answer, mean over the answers that have "
    "one (seq-rep-4, Welleck et al. 2019, arXiv:1908.04319)",
    "answer": "what follows the reasoning, as the server tells them apart; empty where the reasoning does not end",
    "empty_rate": "answers of white space alone, over all answers",
    **reference_scores.DEFINITIONS,
    "recall": "the answer equals the wanted one after NFC and stripping white space at both ends",
    "decoding": "greedy, as it is served at temperature 0: with the chat template, the repetition penalty and the end "
    "tokens of the artifact",
}


def figures(answers: Sequence[Answer]) -> tuple[dict[str, float], dict[str, str]]:
    """Returns the metrics of `DEFINITIONS`, and for each that cannot be computed the reason."""
    metrics: dict[str, float] = {}
    missing: dict[str, str] = {}
    if not answers:
        return {}, dict.fromkeys(METRICS, "no prompt was answered")
    if unasked := [answer for answer in answers if answer.finish_reason == "no_room"]:
        first = f", such as {unasked[0].prompt.source}" if unasked[0].prompt.source else ""
        reason = f"{len(unasked)} of {len(answers)} prompts could not be asked: each fills the model alone{first}"
        return {}, dict.fromkeys(METRICS, reason)
    texts = [units(answer.said) for answer in answers]
    for order in (1, 2):
        grams = [gram for text in texts for gram in _grams(text, order)]
        if grams:
            metrics[f"distinct_{order}"] = len(set(grams)) / len(grams)
        else:
            missing[f"distinct_{order}"] = f"no answer has {order} unit{'s' if order > 1 else ''} or more"
    if repetitions := [rate for text in texts if (rate := repetition(text)) is not None]:
        metrics["repetition_rate"] = sum(repetitions) / len(repetitions)
    else:
        missing["repetition_rate"] = f"no answer has {REPETITION_ORDER} units or more"
    metrics["empty_rate"] = sum(not answer.said.strip() for answer in answers) / len(answers)
    recalls = [answer for answer in answers if answer.prompt.recall]
    if wanted := [answer for answer in recalls if answer.prompt.answer is not None]:
        metrics["recall_count"] = float(sum(answer.exact is True for answer in wanted))
        metrics["recall_rate"] = metrics["recall_count"] / len(wanted)
    elif recalls:
        reason = f"none of the {len(recalls)} recall prompts has an answer to compare with"
        missing |= {"recall_count": reason, "recall_rate": reason}
    return metrics, missing


def observed(answers: Sequence[Answer], *, all_json: bool = False) -> dict[str, Observed]:
    """Returns what the metrics that are made of single answers are made of, prompt by prompt.

    Args:
        all_json: whether json_valid is asked of every answer, and not only of those with a schema.
    """
    if not answers or any(answer.finish_reason == "no_room" for answer in answers):
        return {}
    rates = [repetition(units(answer.said)) for answer in answers]
    own = {
        "empty_rate": share([float(not answer.said.strip()) for answer in answers]),
        "repetition_rate": share(rates),
    }
    unseen = [place for place, answer in enumerate(answers) if not answer.prompt.recall]
    if not unseen:
        return own
    asked = [answers[place] for place in unseen]
    found = reference_scores.observed(
        [answer.said for answer in asked],
        [answer.references for answer in asked],
        [answer.prompt.checks for answer in asked],
        all_json=all_json,
    )
    return own | {name: one.among(len(answers), unseen) for name, one in found.items()}


def repetition(text: Sequence[str]) -> float | None:
    """Returns the share of an answer's 4-grams that it has had before; None when it has none."""
    grams = _grams(text, REPETITION_ORDER)
    return 1 - len(set(grams)) / len(grams) if grams else None


def _grams(text: Sequence[str], order: int) -> list[tuple[str, ...]]:
    return [tuple(text[start : start + order]) for start in range(len(text) - order + 1)]
