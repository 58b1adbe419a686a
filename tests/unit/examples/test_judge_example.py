"""The example with a judge, judged by one that goes by rules on a tiny model that has learned nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.examples.evaluated import evaluated
from tests.unit.trainer import judge_server
from tests.unit.trainer.judge_server import Fields, Response, by_rules, parts, says

from slipway_core.resources.status import Verdict


def by_every_character(asked: Fields) -> Response:
    """The answers of a model that has learned nothing are as long as each other: a rule that goes by their length would
    tell few of them apart, and be asked to prove that it can."""
    shown = parts(asked)
    return says(mark=1 + sum(map(ord, shown["answer"])) % 10) if "answer" in shown else by_rules(asked)


def test_every_gate_of_the_example_is_told_by_a_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", "sk-judge")
    with judge_server.serving(by_every_character, models=lambda: judge_server.listed("judge")) as server:
        changed = [f"evaluation.judge.url={server.url}", "evaluation.maxNewTokens=4", "evaluation.engine=Transformers"]
        changed.append("model.scratch.tokenizer.train.vocabSize=512")
        found = evaluated("judge.yaml", tmp_path, changed, positions=256)
    assert not [line for line in found.said if "WARNING" in line]
    (questions,) = [line for line in found.said if "questions" in line]
    assert all(one.value is not None for one in found.judgement.metrics)
    assert found.judgement.metrics[0].verdict is Verdict.PASS
    assert f"at most {len(server.asked):,} questions" in questions
