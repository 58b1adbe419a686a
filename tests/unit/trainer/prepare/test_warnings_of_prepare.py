"""What prepare finds worth a warning is in its result, and there again where an earlier attempt has done the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.unit.trainer.plans_of_data import causal, chatting, numbered, plan, workspace, write_rows

from slipway_core.plan import Plan
from slipway_core.protocol import step_result
from slipway_trainer.prepare import prepare

NEVER = "evaluation.gates[0] (exact_match) can never pass"


def a_plan(folder: Path, rows: list[dict[str, Any]]) -> Plan:
    prompts = write_rows(folder / "prompts.jsonl", *({"prompt": f"what is {n}?", "answer": f"{n}"} for n in range(9)))
    evaluation = {"prompts": [{"uri": prompts}], "gates": [{"metric": "exact_match", "min": 0.9}]}
    return plan(causal(write_rows(folder / "a.jsonl", *rows)), **evaluation)


def test_a_gate_that_no_model_can_pass_and_rows_left_out_are_in_the_result_of_every_attempt(tmp_path: Path) -> None:
    made = a_plan(tmp_path, [*numbered(60), {"text": "  "}])
    place, said = workspace(tmp_path / "run", made), list[str]()
    first = prepare.run(made, place, attempt=1, workers=1, say=said.append)
    assert first.warnings is not None
    assert first.warnings[0].startswith(NEVER)
    assert any(one.endswith("white space alone, are left out: 1") for one in first.warnings), first.warnings
    assert [line.removeprefix("WARNING: ") for line in said if line.startswith("WARNING: ")] == first.warnings
    again: list[str] = []
    second = prepare.run(made, place, attempt=2, workers=1, say=again.append)
    assert "nothing to do" in again[0], "nothing was prepared anew"
    assert second.warnings == first.warnings
    assert step_result.decode(step_result.encode(second)).warnings == first.warnings


def test_conversations_of_which_most_lose_answers_are_warned_of(tmp_path: Path) -> None:
    def turns(number: int) -> list[dict[str, str]]:
        asked = [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": f"{number}."}]
        return [*asked, {"role": "user", "content": "more"}, {"role": "assistant", "content": "much more " * 60}]

    rows = write_rows(tmp_path / "a.jsonl", *({"messages": turns(number)} for number in range(40)))
    made = plan(chatting(rows, max_length=64))
    result = prepare.run(made, workspace(tmp_path / "run", made), attempt=1, workers=1, say=lambda _: None)
    (warning,) = result.warnings or ()
    assert warning == "stage sft: 100% of the rows lose answers or their end to maxLength 64. Raise maxLength"


def test_a_preparation_without_a_fault_warns_of_nothing(tmp_path: Path) -> None:
    made = plan(causal(write_rows(tmp_path / "a.jsonl", *numbered(60))))
    result = prepare.run(made, workspace(tmp_path / "run", made), attempt=1, workers=1, say=lambda _: None)
    assert result.warnings is None
