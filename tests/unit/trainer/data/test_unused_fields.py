"""What a row asks for and would not get is refused by name; what asks for nothing stays harmless."""

import json

import pyarrow as arrow
import pytest
from pyarrow import parquet

from slipway_trainer.data import rows
from slipway_trainer.data.reading import blocks
from slipway_trainer.step.errors import BadData

CALL = {"function": {"name": "add", "arguments": "{}"}}


def conversation(*, user=None, assistant=None, **row):
    turns = [{"role": "user", "content": "a"} | (user or {}), {"role": "assistant", "content": "b"} | (assistant or {})]
    return {"conversations": turns} | row


def read(tmp_path, row, parse=rows.conversations):
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(conversation() | {"text": "a"}) + "\n" + json.dumps(row) + "\n")
    return [found for block in blocks.blocks(path, path.name) for found in parse(block)]


RENDERED = [
    (conversation(functions=[CALL]), "functions"),
    (conversation(documents=[{"text": "a"}]), "documents"),
    (conversation(chat_template_kwargs={"enable_thinking": False}), "chat_template_kwargs"),
    (conversation(assistant={"function_call": CALL}), "function_call of turn 2"),
    (conversation(assistant={"thinking_blocks": ["Two and two."]}), "thinking_blocks of turn 2"),
    (conversation(assistant={"tools": [CALL], "prefix": True}, documents=[CALL]),
     "documents, tools of turn 2 and prefix of turn 2"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "names"), RENDERED)
@pytest.mark.parametrize("parse", [rows.conversations, rows.prompts])
def test_what_no_template_is_given_is_refused_by_name_and_line(tmp_path, row, names, parse):
    with pytest.raises(BadData, match=rf"^data\.jsonl:2: {names} would be lost: .* set it to null, or remove the row"):
        read(tmp_path, row, parse)


@pytest.mark.parametrize("parse", [rows.conversations, rows.prompts])
def test_pictures_are_refused_since_models_of_text_are_trained(tmp_path, parse):
    with pytest.raises(BadData, match=r"^data\.jsonl:2: images would be lost: models of text alone are trained"):
        read(tmp_path, conversation(images=["a.png"]), parse)


LEARNED = [
    (conversation(assistant={"weight": 0.5}), r"weight 0\.5 of turn 2"),
    (conversation(assistant={"weight": "0"}), r"weight '0' of turn 2"),
    (conversation(assistant={"train": 2}), "train 2 of turn 2"),
    (conversation(assistant={"loss": False}), "loss false of turn 2"),
    (conversation(user={"train": True}), "train true of turn 1"),
    (conversation(assistant={"train_detail": [{"train": False}]}), "train_detail .* of turn 2"),
    (conversation(user={"weight": 1}, assistant={"weight": 2}), "weight 1 of turn 1 and weight 2 of turn 2"),
    (conversation(weight=2), "weight 2"),
]


@pytest.mark.parametrize(("row", "names"), LEARNED)
def test_a_turn_that_is_to_be_learned_otherwise_is_refused_by_name_and_line(tmp_path, row, names):
    with pytest.raises(BadData, match=rf"^data\.jsonl:2: {names} would be lost: every answer is learned as much"):
        read(tmp_path, row)
    assert len(read(tmp_path, row, rows.prompts)) == 2


@pytest.mark.parametrize(("field", "value"), [("weight", 0), ("weight", "1"), ("train", False), ("loss", 0.0)])
def test_a_document_that_is_to_be_learned_otherwise_is_refused_by_name_and_line(tmp_path, field, value):
    with pytest.raises(BadData, match=rf"^data\.jsonl:2: {field} .* would be lost: every text is learned as much"):
        read(tmp_path, {"text": "a", field: value}, rows.documents)


HARMLESS = [
    conversation(tools=None, system="", documents=[], weight=None),
    conversation(user={"function_call": None, "weight": 0}, assistant={"prefix": "", "weight": 1.0}),
    conversation(user={"train": False, "loss": False}, assistant={"train": True, "loss": True, "loss_mask": []}),
    conversation(weight=1, train=True, id=7, source={"tools": [1]}, name="a set", model="gpt"),
    conversation(user={"id": 1}, assistant={"timestamp": "2026"}),
]


@pytest.mark.parametrize("row", HARMLESS)
@pytest.mark.parametrize("parse", [rows.conversations, rows.prompts])
def test_a_field_that_says_nothing_or_what_is_done_anyway_is_harmless(tmp_path, row, parse):
    assert len(read(tmp_path, row, parse)) == 2


@pytest.mark.parametrize(
    ("row", "parse"),
    [
        (conversation(label=False), rows.conversations),
        ({"prompt": "a", "completion": "b", "label": False}, rows.conversations),
        ({"prompt": "a", "completion": "b", "label": False}, rows.documents),
    ],
)
def test_an_answer_that_is_an_example_of_a_bad_one_is_not_learned(tmp_path, row, parse):
    for path in (tmp_path / "data.jsonl", tmp_path / "data.parquet"):
        if path.suffix == ".jsonl":
            path.write_text("".join(json.dumps({**row, "label": good}) + "\n" for good in (True, False)))
        else:
            parquet.write_table(arrow.Table.from_pylist([{**row, "label": good} for good in (True, False)]), path)
        with pytest.raises(BadData, match=rf"^{path.name}:2: label false says that its answer is not a good one"):
            [parse(block) for block in blocks.blocks(path, path.name)]
    assert len(read(tmp_path, conversation(label=False), rows.prompts)) == 2
    assert len(read(tmp_path, conversation(label="false"))) == 2
    assert len(read(tmp_path, {"text": "a", "label": False}, rows.documents)) == 2


def test_what_is_not_rendered_of_a_text_is_the_users_own(tmp_path):
    row = {"text": "a", "images": ["a.png"], "tools": [1], "name": "b", "system": "c", "weight": 1}
    assert len(read(tmp_path, row, rows.documents)) == 2


def test_null_that_a_parquet_file_fills_in_is_harmless_and_what_stands_there_is_refused(tmp_path):
    path = tmp_path / "data.parquet"
    given = [
        conversation(),
        conversation(assistant={"function_call": None, "weight": None}),
        conversation(documents=[CALL]),
    ]
    schema = arrow.Table.from_pylist(
        [*given[2:], conversation(assistant={"function_call": CALL, "weight": 1.0})]
    ).schema
    for count in (2, 3):
        parquet.write_table(arrow.Table.from_pylist(given[:count], schema), path)
        found = list(blocks.blocks(path, path.name))
        if count == 2:
            assert len(rows.conversations(found[0])) == 2
        else:
            with pytest.raises(BadData, match=r"^data\.parquet:3: documents would be lost"):
                rows.conversations(found[0])
