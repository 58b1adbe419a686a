"""The judge's key: taken out of the environment, so that no other process of a step has it."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from slipway_core.plan import Plan
from slipway_core.protocol.variables import JUDGE_KEY_VARIABLE
from slipway_trainer.step.errors import BadConfig


def take(plan: Plan, environment: MutableMapping[str, str] = os.environ) -> str | None:
    """Takes the key out of an environment, and returns it as `read` does."""
    return read(plan, out_of(environment))


def out_of(environment: MutableMapping[str, str] = os.environ) -> str:
    """Takes what is called the key out of an environment; empty where nothing is."""
    return environment.pop(JUDGE_KEY_VARIABLE, "")


def read(plan: Plan, said: str) -> str | None:
    """Returns the key that is sent; None where none is. Raises BadConfig where the plan names credentials and there is
    none, or one that no request can carry."""
    judge, key = plan.evaluation.judge, said.strip()
    if judge is None or judge.credentials is None:
        return None
    where = (
        f"evaluation.judge.credentials: {JUDGE_KEY_VARIABLE} is {{}}. Set it in the environment; on a cluster in the "
        f"Secret {judge.credentials}"
    )
    if not key:
        raise BadConfig(where.format("not set"))
    if not all("!" <= one <= "~" for one in key):
        raise BadConfig(where.format("no key: it holds a space or another character that no request can carry"))
    return key
