"""The loss of preferences: by how much a model finds the chosen answer of a pair likelier than the rejected one."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import logsigmoid

from slipway_core.resources.preference import Preference
from slipway_trainer.batches.collate import Batch
from slipway_trainer.model.model_inputs import model_inputs
from slipway_trainer.model.next_token_loss import output_loss


class PreferenceLoss(nn.Module):
    """A causal language model that returns what its pairs of answers give, summed.

    A reward is what the paper of the loss makes of an answer's log-probability: with a reference beta times what it is
    above that of the reference (DPO, IPO), without one beta times the mean of a token (SimPO).
    """

    def __init__(
        self, model: nn.Module, preference: Preference, *, attention: str, packed: bool = True, sharded: bool = False
    ) -> None:
        """
        Args:
            preference: with its defaults filled in.
            attention: the model's, as transformers calls it.
            packed: whether the documents of a row are told apart by their positions; else a row is one document.
            sharded: whether weights will be there only while the module that has them is called (ZeRO-3).
        """
        super().__init__()
        self.model = model
        self.preference = preference.filled()
        self._attention = attention
        self._packed = packed
        self._output = output_loss(model, attention, sharded=sharded)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Returns float32 [3], summed over pairs: loss, margin of the rewards, how often the chosen one's is higher.

        Of a batch without the reference that the loss asks for, it returns the log-probabilities of all answers
        instead, float32 [2 · pairs] in nats: the chosen and the rejected one of each pair.
        """
        pairs = batch.pairs
        assert pairs is not None, "the batch has no pairs"
        compared = compares(self.preference)
        inputs = model_inputs(batch, attention=self._attention, packed=self._packed)

        def judge(nll: torch.Tensor) -> torch.Tensor:
            said = nll.new_zeros(2 * pairs.count).index_add(0, pairs.answers, -nll)
            if compared and pairs.reference is None:
                return said
            learned = torch.zeros_like(said).index_add(0, pairs.answers, torch.ones_like(nll))
            reference = pairs.reference.view(-1, 2) if compared and pairs.reference is not None else None
            return figures(self.preference, said.view(-1, 2), learned.view(-1, 2), reference)

        return self._output.of(lambda: self.model(**inputs), batch.predicting, batch.targets, judge=judge)


def compares(preference: Preference) -> bool:
    """Whether the loss compares with a reference."""
    return preference.loss != "SimPO"


def figures(
    preference: Preference, said: torch.Tensor, learned: torch.Tensor, reference: torch.Tensor | None
) -> torch.Tensor:
    """Returns float32 [3]: loss, margin and accuracy, summed over pairs; the loss alone has a gradient.

    Args:
        preference: with its defaults filled in.
        said: float32 [pairs, 2], log-probability of the chosen and of the rejected answer, in nats.
        learned: float32 [pairs, 2], tokens of each.
        reference: as `said`, of the reference; None where the loss has none.
    """
    beta: Any = preference.beta
    compared = said / learned.clamp(min=1) if reference is None else said - reference
    apart = compared[:, 0] - compared[:, 1]
    if preference.loss == "DPO":
        loss = -logsigmoid(beta * apart)
    elif preference.loss == "IPO":
        loss = (apart - 1 / (2 * beta)) ** 2
    else:
        assert preference.gamma is not None
        loss = -logsigmoid(beta * apart - preference.gamma)
    told = apart.detach()
    return torch.stack([loss.sum(), beta * told.sum(), (told > 0).float().sum()])
