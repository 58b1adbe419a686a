"""The loss of preferences, held against the formulas of the papers on transformers' own logits.

TRL is not among the tools of the tests: what is compared with is the formula of each paper, of log-probabilities that
transformers' own logits give, one text at a time.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.unit.trainer.tiny_model import make_model, make_tokenizer

from slipway_core.resources.preference import Preference
from slipway_trainer.batches import collate, packing
from slipway_trainer.batches.collate import Batch
from slipway_trainer.model import logit_transform, output_loss
from slipway_trainer.model.preference_loss import PreferenceLoss

MOST = 40


class Pairs:
    """Shards of three pairs; of each text the last tokens are learned."""

    def __init__(self) -> None:
        random = np.random.default_rng(3)
        self.parts = [[random.integers(5, 200, size) for size in sizes] for sizes in ((9, 12), (11, 6), (14, 14))]
        self.chosen = np.array([len(chosen) for chosen, _ in self.parts])
        self.lengths = np.array([len(chosen) + len(rejected) for chosen, rejected in self.parts])

    def texts(self, index: int) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(tokens, np.arange(len(tokens)) >= 4) for tokens in self.parts[index]]


PAIRS = Pairs()
REFERENCE = np.array([[-30.0, -40.0], [-41.0, -12.0], [-55.0, -54.0]], np.float32)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(5)
    return make_model(make_tokenizer())


def batch_of(*, packed: bool = True, reference: np.ndarray | None = REFERENCE) -> Batch:
    bins = packing.pack(PAIRS.lengths, MOST)
    assert sorted(bins.documents.tolist()) == [0, 1, 2]
    return collate.batch(
        PAIRS,
        bins,
        range(len(bins)),
        max_length=MOST,
        pad_id=0,
        packed=packed,
        reference=reference,  # type: ignore[arg-type]
    )


def said(model: Any) -> torch.Tensor:
    """Returns [pairs, 2] in double precision, one text at a time."""
    rows = []
    for index in range(len(PAIRS.parts)):
        for tokens, learn in PAIRS.texts(index):
            ids = torch.from_numpy(tokens)[None]
            found = model(input_ids=ids).logits[0].double().log_softmax(-1)
            each = found[:-1].gather(1, ids[0, 1:, None])[:, 0]
            rows.append(each[torch.from_numpy(learn[1:])].sum())
    return torch.stack(rows).view(-1, 2)


def expected(settings: Preference, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns loss and difference of the rewards of each pair, by the papers."""
    filled = settings.filled()
    beta = filled.beta or 0.0
    if settings.loss == "SimPO":
        counts = torch.tensor([[len(chosen) - 4, len(rejected) - 4] for chosen, rejected in PAIRS.parts])
        apart = (own / counts)[:, 0] - (own / counts)[:, 1]
        return -torch.log(torch.sigmoid(beta * apart - (filled.gamma or 0.0))), beta * apart
    ratio = own - torch.from_numpy(REFERENCE).double()
    apart = ratio[:, 0] - ratio[:, 1]
    if settings.loss == "IPO":
        return (apart - 1 / (2 * beta)) ** 2, beta * apart
    return -torch.log(torch.sigmoid(beta * apart)), beta * apart


SETTINGS = [
    Preference(),
    Preference(loss="DPO", beta=0.5),
    Preference(loss="IPO", beta=0.2),
    Preference(loss="SimPO"),
    Preference(loss="SimPO", beta=2.5, gamma=0.3),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s.loss}-{s.beta}")
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("whole_logits", [False, True])
def test_loss_and_gradients_are_those_of_the_paper(
    model: Any, monkeypatch: pytest.MonkeyPatch, settings: Preference, packed: bool, whole_logits: bool
) -> None:
    # Fewer tokens at once than there are: the weight of each is known after all parts have gone through.
    monkeypatch.setattr(output_loss, "rows_at_once", lambda *_: 7)
    if whole_logits:
        monkeypatch.setattr(logit_transform, "of_model", lambda *_: None)
    ours = copy.deepcopy(model)
    module = PreferenceLoss(ours, settings, attention=ours.config._attn_implementation, packed=packed)
    found = module(batch_of(packed=packed))
    (found[0] / 3).backward()
    model.zero_grad()
    losses, margins = expected(settings, said(model))
    losses.mean().backward()
    assert float(found[0].detach()) == pytest.approx(float(losses.sum().detach()), rel=1e-5)
    assert float(found[1].detach()) == pytest.approx(float(margins.sum().detach()), rel=1e-4, abs=1e-5)
    assert float(found[2].detach()) == float((margins > 0).sum())
    for own, theirs in zip(ours.parameters(), model.parameters(), strict=True):
        assert own.grad is not None
        assert float((own.grad - theirs.grad).norm()) < 1e-4 * float(theirs.grad.norm())


def test_without_its_reference_a_batch_gives_log_probabilities(model: Any) -> None:
    ours = copy.deepcopy(model)
    module = PreferenceLoss(ours, Preference(), attention=ours.config._attn_implementation)
    with torch.no_grad():
        found = module(batch_of(reference=None))
        own = collate.batch(PAIRS, packing.Bins.empty(), [], max_length=MOST, pad_id=0)  # type: ignore[arg-type]
        nothing = module(own)
    order = packing.pack(PAIRS.lengths, MOST).documents
    torch.testing.assert_close(found.view(-1, 2).double(), said(model)[order].detach(), rtol=1e-5, atol=1e-5)
    # A rank without pairs goes through the model with the others.
    assert nothing.tolist() == [0.0, 0.0, 0.0]


def test_a_model_at_its_reference_has_the_loss_of_a_coin(model: Any) -> None:
    ours = copy.deepcopy(model)
    module = PreferenceLoss(ours, Preference(), attention=ours.config._attn_implementation)
    with torch.no_grad():
        found = module(batch_of(reference=said(model).float().numpy()))
    assert float(found[0]) == pytest.approx(3 * math.log(2), abs=1e-4)
    assert float(found[1]) == pytest.approx(0, abs=1e-4)
