"""What a stage makes of preferences: which loss, and how strongly."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from slipway_core.resources.api import Api, Rule

PreferenceLossName = Literal["DPO", "IPO", "SimPO"]
DEFAULT_BETA: dict[PreferenceLossName, float] = {"DPO": 0.1, "IPO": 0.1, "SimPO": 2.0}
"""Of the papers: SimPO's is of a mean over tokens and not of a sum, hence larger."""
DEFAULT_GAMMA = 1.0
"""Half of SimPO's beta, as its paper has it."""


class Preference(Api):
    """How a stage learns to prefer one answer to another."""

    rules: ClassVar = (
        Rule(
            "!has(self.gamma) || (has(self.loss) && self.loss == 'SimPO')",
            "gamma is SimPO's margin: leave it out with DPO and IPO",
            lambda self: self.gamma is None or self.loss == "SimPO",
            "gamma",
        ),
    )

    loss: PreferenceLossName = "DPO"
    """DPO (Rafailov et al. 2023) and IPO (Azar et al. 2023) compare with the model as the stage found it; SimPO (Meng
    et al. 2024) needs no reference, and compares mean log-probabilities of a token."""
    beta: float | None = Field(default=None, gt=0, le=1000)
    """What the log-probabilities are multiplied by: a larger one keeps a model of DPO or IPO nearer to the reference.
    0.1 of DPO and IPO (whose paper calls it tau), 2 of SimPO, when left out."""
    gamma: float | None = Field(default=None, ge=0, le=1000)
    """Of SimPO: by how much the reward of the chosen answer is to be above that of the rejected one; 1 when left
    out."""

    def filled(self) -> Preference:
        """Returns the same with its defaults."""
        gamma = self.gamma if self.gamma is not None or self.loss != "SimPO" else DEFAULT_GAMMA
        return self.model_copy(
            update={"beta": self.beta if self.beta is not None else DEFAULT_BETA[self.loss], "gamma": gamma}
        )
