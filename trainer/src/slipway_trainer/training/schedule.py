"""How the learning rate moves from the first step of a stage to the last."""

from __future__ import annotations

import math

from slipway_core.resources.optimizer import DEFAULT_DECAY_RATIO, Optimizer


def learning_rate(step: int, total: int, settings: Optimizer) -> float:
    """Returns the rate of optimizer step `step`, counted from 0, of `total`.

    It rises linearly to the peak, which the last step of the warm-up reaches, and then falls to `minLearningRateRatio`
    of the peak, where the step after the last would be: no step learns nothing. Cosine falls along half a cosine,
    Linear along a line. Constant stays at the peak. WSD stays there too, until `decayRatio` of the steps is left, and
    then falls by the root of how much of them is done ("1-sqrt", Hägele et al. 2024, equation 2).
    """
    peak = settings.learning_rate
    warmup = math.ceil(total * settings.warmup_ratio)
    if step < warmup:
        return peak * (step + 1) / warmup
    falling = _falling(total, total - warmup, settings)
    done = (step - (total - falling) + 1) / (falling + 1)
    if done <= 0:
        return peak
    lowest = settings.min_learning_rate_ratio
    return peak * (lowest + (1 - lowest) * _left(min(1.0, done), settings))


def _falling(total: int, after_warmup: int, settings: Optimizer) -> int:
    """Returns how many steps at the end have a rate below the peak."""
    if settings.schedule == "Constant":
        return 0
    if settings.schedule != "WSD":
        return after_warmup
    share = DEFAULT_DECAY_RATIO if settings.decay_ratio is None else settings.decay_ratio
    return min(math.ceil(total * share), after_warmup)


def _left(done: float, settings: Optimizer) -> float:
    """Returns the rate as a share of its way down, where `done` of the falling steps is over."""
    if settings.schedule == "Cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1 - math.sqrt(done) if settings.schedule == "WSD" else 1 - done
