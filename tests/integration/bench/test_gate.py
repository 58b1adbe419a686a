"""A reckless adapter is stopped by what it has forgotten, and a sane one is not."""

from __future__ import annotations

import pytest
from bench import gate

from slipway_core.resources.status import Verdict

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def base() -> gate.Base:
    return gate.make_base()


@pytest.mark.parametrize("seed", range(3))
def test_A_a_reckless_adapter_is_stopped_by_the_base_and_a_sane_one_passes(base: gate.Base, seed: int) -> None:
    sane, reckless = gate.try_adapter(base, gate.SANE, seed), gate.try_adapter(base, gate.RECKLESS, seed)
    assert sane.base < 3.5, "the base knows the text: eight bits a byte are nothing known"
    assert sane.loss_after < sane.loss_before - 0.3, "it has learned something else meanwhile"
    assert sane.judgement.verdict is Verdict.PASS, sane.judgement.reason
    assert reckless.judgement.verdict is Verdict.FAIL, reckless.judgement.reason
