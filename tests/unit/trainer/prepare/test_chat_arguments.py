"""Arguments of a chat template are learned with, kept with the tokenizer, and handed on to what starts from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.plans_of_data import causal, chat, chatting, plan, text, workspace, write_rows

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import Workspace
from slipway_trainer.prepare import prepare
from slipway_trainer.step.errors import BadConfig, BadModel
from slipway_trainer.tokens import chat_format, tokenizer

POEM = "床前明月光，疑是地上霜。"
ASKS_TO_THINK = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if thinking is not defined or thinking %}<think>\n"
    "{% endif %}{% if style %}{{ style }}\n{% endif %}{% endif %}"
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    made = tokenizer.train([POEM] * 10, vocabulary=300, max_length=64)
    made.chat_template = ASKS_TO_THINK
    tokenizer.save(made, folder)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 64}))
    return folder


def prepared(folder: Path, made: Plan) -> tuple[Workspace, dict[str, Any], list[str]]:
    said: list[str] = []
    found = workspace(folder, made)
    prepare.run(made, found, attempt=1, say=said.append)
    return found, json.loads(found.prepared.read_text()), said


def learning(folder: Path, base: Path, arguments: dict[str, str] | None = None, **model: Any) -> Plan:
    uri = write_rows(folder / "a.jsonl", chat("Who?", POEM))
    given = {} if arguments is None else {"chatTemplateArguments": arguments}
    return plan(chatting(uri), model={"from": f"file://{base}", **given, **model})


def test_a_template_that_asks_otherwise_than_it_writes_is_refused_with_the_argument_that_helps(
    tmp_path: Path, base: Path
) -> None:
    with pytest.raises(BadModel, match="does not begin turn 2 as it begins an answer") as caught:
        prepared(tmp_path / "run", learning(tmp_path, base))
    assert str(caught.value).endswith('Set model.chatTemplateArguments to {thinking: "false"}')


def test_arguments_decide_what_is_learned_and_are_kept_with_the_tokenizer(tmp_path: Path, base: Path) -> None:
    found, report, said = prepared(tmp_path / "run", learning(tmp_path, base, {"thinking": "false"}))
    assert chat_format.of(tokenizer.load(found)).arguments == {"thinking": False}
    assert report["tokenizer"]["chat_format"]["arguments"] == {"thinking": False}
    assert 'the chat template is given {"thinking": false}' in said


def test_a_run_that_starts_from_a_model_takes_over_its_arguments_until_it_sets_its_own(
    tmp_path: Path, base: Path
) -> None:
    found, _, _ = prepared(tmp_path / "first", learning(tmp_path, base, {"thinking": "false"}))
    (found.tokenizer / "config.json").write_text(json.dumps({"max_position_embeddings": 64}))
    again, _, said = prepared(tmp_path / "again", learning(tmp_path, found.tokenizer))
    assert chat_format.of(tokenizer.load(again)).arguments == {"thinking": False}
    assert 'the chat template is given {"thinking": false}, as in its training before' in said
    with pytest.raises(BadModel, match="does not begin turn 2"):
        prepared(tmp_path / "none", learning(tmp_path, found.tokenizer, {}))
    other, _, _ = prepared(tmp_path / "other", learning(tmp_path, found.tokenizer, chatTemplate="ChatML"))
    assert chat_format.of(tokenizer.load(other)).arguments == {}


def test_what_a_template_opens_is_kept_as_what_marks_its_reasoning(tmp_path: Path, base: Path) -> None:
    uri = write_rows(tmp_path / "a.jsonl", text(POEM))
    found, report, said = prepared(tmp_path / "run", plan(causal(uri), model={"from": f"file://{base}"}))
    marks = chat_format.of(tokenizer.load(found)).reasoning
    assert marks is not None
    assert (marks.start, marks.end) == ("<think>", "</think>")
    assert report["tokenizer"]["chat_format"]["tool_parser"] is None
    assert "answers have their reasoning between <think> and </think>, apart from what they say" in said


def test_an_argument_that_the_template_does_not_read_is_refused_with_those_that_it_reads(
    tmp_path: Path, base: Path
) -> None:
    with pytest.raises(BadConfig, match=r"reads no enable_thinking, .*\. It reads style, thinking: mend the name"):
        prepared(tmp_path / "run", learning(tmp_path, base, {"enable_thinking": "false"}))
    with pytest.raises(BadConfig, match="It reads none"):
        prepared(tmp_path / "chatml", learning(tmp_path, base, {"thinking": "false"}, chatTemplate="ChatML"))


def test_values_are_read_as_json_where_they_are_json(tmp_path: Path, base: Path) -> None:
    for value, read in (
        ("12", 12),
        ('["a"]', ["a"]),
        ("Infinity", "Infinity"),
        # What tokenizer_config.json could not hold.
        ("[1e999]", "[1e999]"),
        (r'"\ud800"', r'"\ud800"'),
        (r'"\u6708"', "月"),
        ("brief", "brief"),
        ("[" * 1000, "[" * 1000),
    ):
        model = learning(tmp_path, base, {"style": value}).model
        assert model.template_arguments == {"style": read}
