"""Whether the gate against the base stops a reckless adapter and lets a sane one pass.

    .venv/bin/python -m bench.gate [--seeds 20]

A small model learns package://general-text until it knows it. Then two LoRA adapters learn poems on it, one with a rate
that such a model takes and one with a hundred times that, and both are judged as a run with

    gates: [{metric: bits_per_byte, maxRegression: 0.25, against: Base}]

would be: measured on the general text by the trainer's own code beside the base, and held against the gate by core's.
The training is a plain loop over the trainer's adapters: what is tried is the gate. A line of each adapter goes to the
standard error, the table to the standard output.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch
from bench.samples import rows
from transformers import LlamaConfig, LlamaForCausalLM

from slipway_core.lifecycle import verdict
from slipway_core.lifecycle.verdict import Judgement
from slipway_core.resources.evaluation import Gate
from slipway_core.resources.stage import Stage
from slipway_trainer.evaluation import findings, measure
from slipway_trainer.evaluation.evaluation_data import EvaluationData
from slipway_trainer.evaluation.findings import Other
from slipway_trainer.evaluation.measure import Measured
from slipway_trainer.evaluation.scope import RowOf
from slipway_trainer.evaluation.transformers_engine import TransformersEngine
from slipway_trainer.model import adapter_targets, adapters
from slipway_trainer.model.exported_model import ExportedModel
from slipway_trainer.model.merge import merge_adapter
from slipway_trainer.step.progress import Reporter
from slipway_trainer.tokens import tokenizer

MARGIN = 0.25
SANE, RECKLESS = 1e-3, 1e-1
LENGTH, ROWS = 96, 8
BASE_STEPS, ADAPTER_STEPS = 150, 30
GATE = Gate(metric="bits_per_byte", max_regression=MARGIN, against="Base", confidence=0.95)


@dataclass(frozen=True)
class Base:
    """A model that knows the general text."""

    model: LlamaForCausalLM
    words: Any
    poems: torch.Tensor
    """int64 [rows, LENGTH]: what an adapter learns."""
    measured: Measured
    """On the general text."""


@dataclass(frozen=True)
class Outcome:
    judgement: Judgement
    base: float
    """Bits per byte of the general text."""
    loss_before: float
    """Of the poems, in nats a token."""
    loss_after: float


def texts(name: str) -> list[str]:
    """Returns the documents of a sample of the trainer."""
    return [row["text"] for row in rows(name)]


def make_base(steps: int = BASE_STEPS) -> Base:
    """Trains a model of 0.46 million weights on the general text."""
    torch.manual_seed(0)
    general, poems = texts("general-text"), texts("tang")
    words = tokenizer.train([*general, *poems], vocabulary=1024, max_length=1024)
    tokenizer.give_template(words, "ChatML")
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=1024,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    _learn(model, _rows(words, general), 3e-3, steps, seed=0)
    return Base(model, words, _rows(words, poems), _measure("base", model, words))


def _measure(name: str, model: Any, words: Any) -> Measured:
    """Measures a model on the general text."""
    held_out = texts("general-text")
    data = EvaluationData(held_out, [], "sha256:" + "0" * 64, documents_of=[RowOf()] * len(held_out))
    engine = TransformersEngine(ExportedModel(model.eval(), words, [2]))
    return measure.measure(name, engine, data, Reporter("bench"), max_new_tokens=1)


def try_adapter(base: Base, rate: float, seed: int) -> Outcome:
    """Trains an adapter on the poems and judges the merged model on the general text, beside the base."""
    stage = Stage.model_validate(
        {
            "name": "sft",
            "seed": seed,
            "data": {"train": [{"uri": "package://tang"}]},
            "adapter": {"method": "LoRA", "rank": 8, "alpha": 16},
        }
    )
    model: Any = copy.deepcopy(base.model)
    before = _loss(model, base.poems)
    torch.manual_seed(seed)
    adapted: Any = adapters.add_adapter(model, stage, adapter_targets.resolve(model, stage))
    _learn(adapted, base.poems, rate, ADAPTER_STEPS, seed=seed)
    merged: Any = merge_adapter(adapted)
    after = _loss(merged, base.poems)
    found, beside = _measure("candidate", merged, base.words), base.measured
    figures, estimates, reasons = findings.of_gates(
        [GATE], found.findings, live=Other(None, None), base=Other(beside.findings, None)
    )
    measured = verdict.Measured(
        metrics=found.metrics,
        scored_tokens=found.scored_tokens,
        missing=found.missing,
        estimates=estimates,
        figures=figures,
        reasons=reasons,
    )
    return Outcome(verdict.judge([GATE], measured), beside.metrics["bits_per_byte"], before, after)


def _rows(words: Any, documents: list[str]) -> torch.Tensor:
    """Returns all tokens of some documents, each with its ends, in rows: int64 [rows, LENGTH]."""
    ids = [id_ for text in documents for id_ in [*words(text)["input_ids"], words.eos_token_id]]
    return torch.tensor(ids[: len(ids) // LENGTH * LENGTH]).view(-1, LENGTH)


def _learn(model: Any, rows: torch.Tensor, rate: float, steps: int, *, seed: int) -> None:
    order = torch.Generator().manual_seed(seed)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate)
    model.train()
    for _ in range(steps):
        batch = rows[torch.randint(len(rows), (ROWS,), generator=order)]
        model(input_ids=batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()


def _loss(model: Any, rows: torch.Tensor) -> float:
    with torch.inference_mode():
        return float(model.eval()(input_ids=rows[:32], labels=rows[:32]).loss)


def told_of(outcome: Outcome, rate: float, seed: int) -> Outcome:
    """Tells how it came out."""
    difference = outcome.judgement.metrics[0].difference or 0.0
    print(
        f"rate {rate:g}, seed {seed}: {outcome.judgement.verdict.value}, {difference:+.3f}", file=sys.stderr, flush=True
    )
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)  # Beside other work, threads that spin while they wait cost more than they compute.
    base = make_base()
    print(f"the base took {time.process_time():.0f} CPU-seconds", flush=True)
    lines = [
        "| rate | passed | failed | inconclusive | worse by, least to most | loss on the poems, before and after |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for rate in (SANE, RECKLESS):
        found = [told_of(try_adapter(base, rate, seed), rate, seed) for seed in range(options.seeds)]
        told = [one.judgement.verdict.value for one in found]
        worse = sorted(one.judgement.metrics[0].difference or 0.0 for one in found)
        losses = f"{found[0].loss_before:.2f}, {sum(one.loss_after for one in found) / len(found):.2f}"
        counts = " | ".join(str(told.count(name)) for name in ("Pass", "Fail", "Inconclusive"))
        lines.append(f"| {rate:g} | {counts} | {worse[0]:.3f} to {worse[-1]:.3f} | {losses} |")
    print("\n".join(lines))
    print(f"{base.model.num_parameters() / 1e6:.2f}M weights, {time.process_time():.0f} CPU-seconds in all")


if __name__ == "__main__":
    main()
