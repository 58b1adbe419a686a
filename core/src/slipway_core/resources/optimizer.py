"""How a stage's weights follow the gradients: the optimizer, and its learning rate from the first step to the last."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from slipway_core.resources.api import Api, Rule

DEFAULT_WARMUP_RATIO = 0.03
DEFAULT_DECAY_RATIO = 0.2
"""With a fifth of the steps WSD ends where a cosine does, and long runs need less (Hägele et al. 2024, section 3)."""
DEFAULT_MOMENTUM = 0.95
"""Of Jordan et al. 2024, and of all who followed."""


class Optimizer(Api):
    """How the weights follow the gradients."""

    rules: ClassVar = (
        Rule(
            "!has(self.momentum) || (has(self.name) && self.name == 'Muon')",
            "momentum is Muon's; AdamW and AdamW8bit have beta1 and beta2",
            lambda self: self.momentum is None or self.name == "Muon",
            "momentum",
        ),
        Rule(
            "!has(self.decayRatio) || (has(self.schedule) && self.schedule == 'WSD')",
            "decayRatio is the end of the schedule WSD; the others fall all the way, or never",
            lambda self: self.decay_ratio is None or self.schedule == "WSD",
            "decayRatio",
        ),
        Rule(
            f"!has(self.decayRatio) || "
            f"self.decayRatio + (has(self.warmupRatio) ? self.warmupRatio : {DEFAULT_WARMUP_RATIO}) <= 1.0",
            f"warmupRatio ({DEFAULT_WARMUP_RATIO} when left out) and decayRatio are shares of the same steps: together "
            "at most 1",
            lambda self: self.decay_ratio is None or self.decay_ratio + self.warmup_ratio <= 1.0,
            "decayRatio",
        ),
    )

    name: Literal["AdamW", "AdamW8bit", "Muon"] = "AdamW"
    """AdamW8bit keeps the two moments of matrices in 8 bits (bitsandbytes). Muon makes the steps of the blocks'
    matrices orthogonal, at AdamW's learning rate and decay; embeddings, the output layer, norms and biases go by
    AdamW. It runs with zeroStage 0, 1 and 2."""
    learning_rate: float = Field(default=2e-4, gt=0, le=10)
    """Peak learning rate."""
    schedule: Literal["Cosine", "Linear", "Constant", "WSD"] = "Cosine"
    """How the rate falls after the warm-up. WSD (warm-up, stable, decay) stays at the peak until decayRatio of the
    steps is left."""
    decay_ratio: float | None = Field(default=None, gt=0, le=1)
    """Share of all steps in which the rate of WSD falls, with the root of what is left; 0.2 when left out, or what the
    warm-up leaves."""
    min_learning_rate_ratio: float = Field(default=0.0, ge=0, le=1)
    """Where the schedule ends, as a share of learningRate."""
    warmup_ratio: float = Field(default=DEFAULT_WARMUP_RATIO, ge=0, le=1)
    """Share of all steps in which the rate rises from 0."""
    weight_decay: float = Field(default=0.1, ge=0, le=10)
    """Decoupled decay of matrices; norms, biases and embeddings have none."""
    momentum: float | None = Field(default=None, ge=0, lt=1)
    """Of Muon's matrices; 0.95 when left out."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Gradients are scaled down to this norm; 0 leaves them alone."""
