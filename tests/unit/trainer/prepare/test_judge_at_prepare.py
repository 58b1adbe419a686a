"""A judge that will not judge is found before anything is fetched or trained, by prepare and by a preview."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import judge_server
from tests.unit.trainer.judge_server import Server, listed, refusing
from tests.unit.trainer.plans_of_data import causal, numbered, plan, workspace, write_rows

from slipway_core.plan import Plan
from slipway_trainer.prepare import prepare
from slipway_trainer.preview import preview
from slipway_trainer.preview.beside import Beside
from slipway_trainer.preview.preview import Wanted
from slipway_trainer.step.errors import BadConfig

KEY = "sk-judge"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", "")


def a_plan(folder: Path, url: str, **judge: Any) -> Plan:
    prompts = write_rows(folder / "prompts.jsonl", *({"prompt": f"what is {n}?", "answer": f"{n}"} for n in range(9)))
    asked = {"url": url, "model": "rules", "criteria": "Be short.", "credentials": "judge-key", **judge}
    evaluation = {
        "prompts": [{"uri": prompts}],
        "judge": {name: value for name, value in asked.items() if value is not None},
        "gates": [{"metric": "judge_score", "min": 0.5}],
    }
    return plan(causal(write_rows(folder / "a.jsonl", *numbered(60))), **evaluation)


def prepared(folder: Path, made: Plan, key: str = KEY) -> list[str]:
    os.environ["JUDGE_API_KEY"] = key
    said: list[str] = []
    prepare.run(made, workspace(folder / "run", made), attempt=1, say=said.append)
    return said


def previewed(made: Plan, key: str = KEY) -> Any:
    with Beside(apart=False) as beside:
        return preview.of_plan(made, Wanted(device="H100"), beside, lambda _: None, judge_key=key)


def refused(folder: Path, made: Plan, key: str = KEY) -> str:
    """Returns why prepare refuses a plan, which is what a preview says too."""
    with pytest.raises(BadConfig) as caught:
        prepared(folder, made, key)
    assert "JUDGE_API_KEY" not in os.environ, "no process that prepare starts has it"
    assert not (folder / "run" / "fetched").exists(), "nothing is fetched for a run that cannot be judged"
    assert previewed(made, key).problems == [str(caught.value)]
    return str(caught.value)


def test_a_key_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with judge_server.serving() as server:
        said = refused(tmp_path, a_plan(tmp_path, server.url), "")
    assert said.startswith(
        "evaluation.judge.credentials: JUDGE_API_KEY is not set. Set it in the environment; on a cluster in"
    )
    assert not server.inquiries


@pytest.mark.parametrize("credentials", ["judge-key", None])
def test_a_key_that_the_server_does_not_take_is_refused(tmp_path: Path, credentials: str | None) -> None:
    with judge_server.serving(models=refusing(), empty=refusing()) as server:
        said = refused(tmp_path, a_plan(tmp_path, server.url, credentials=credentials))
    assert said.startswith("evaluation.judge")
    assert "401" in said
    assert KEY not in said


@pytest.mark.parametrize("server", [{"models": lambda: listed("another")}, None], ids=["another model", "no server"])
def test_what_may_be_there_by_then_is_a_warning(tmp_path: Path, server: dict[str, Any] | None) -> None:
    def warned(url: str) -> list[str]:
        made = a_plan(tmp_path, url)
        lines = [line for line in prepared(tmp_path, made) if line.startswith("WARNING: evaluation.judge")]
        seen = previewed(made)
        assert seen.problems == []
        assert [f"WARNING: {one}" for one in seen.warnings if "evaluation.judge" in one] == lines
        return lines

    if server is None:
        assert "does not answer" in warned("http://127.0.0.1:9/v1")[0]
        return
    with judge_server.serving(**server) as running:
        assert "does not list rules: it has another" in warned(running.url)[0]


def test_what_was_prepared_before_asks_nobody_again(tmp_path: Path) -> None:
    with judge_server.serving() as running:
        made = a_plan(tmp_path, running.url)
        prepared(tmp_path, made)
        assert_inquired(running, 2)
        prepared(tmp_path, made)
        assert_inquired(running, 2)


def assert_inquired(server: Server, times: int) -> None:
    assert len(server.inquiries) == times
    assert {key for _, key in server.inquiries} == {f"Bearer {KEY}"}
