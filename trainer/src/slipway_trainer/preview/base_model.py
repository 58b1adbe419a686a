"""The base model of a plan, as far as it is looked at: without its weights."""

from __future__ import annotations

from pathlib import Path

from slipway_core.plan import Plan
from slipway_core.resources import uris
from slipway_fetching import model_cache
from slipway_trainer.model.model_folder import model_folder
from slipway_trainer.step.progress import Say
from slipway_trainer.step.requester import requester


def of_plan(plan: Plan, cache: Path, say: Say) -> Path | None:
    """Returns its folder; None when the plan makes a new model.

    Args:
        cache: where a model of an object store or the hub is put.

    Raises BadModel, and a FetchError when it cannot be fetched.
    """
    uri = plan.model.from_
    if uri is None:
        return None
    if uris.parse(uri).remote:
        # Without its weights: nothing is computed with it.
        return model_cache.fetch(uri, requester("model.from"), cache, weights=False, say=say)
    return model_folder(uri)
