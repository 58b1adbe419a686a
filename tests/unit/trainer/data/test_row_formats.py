"""Rows of every form become what is learned of them, and a form is never guessed between two."""

import decimal
import json
from collections import Counter

import pyarrow as arrow
import pytest
from pyarrow import parquet

from slipway_trainer.data import rows
from slipway_trainer.data.formats.turns import ToolCall
from slipway_trainer.data.reading import blocks
from slipway_trainer.data.reading.block import Reading
from slipway_trainer.data.rows import Turn
from slipway_trainer.step.errors import BadData

USER, ANSWER = Turn("user", "a"), Turn("assistant", "b")
TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"x": [1, null], "y": "二"}'}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "default": None}}}


def read(tmp_path, *found, parse=rows.conversations, reading=None, name="data.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found), encoding="utf-8")
    return [row for block in blocks.blocks(path, path.name, reading) for row in parse(block)]


CONVERSATIONS = {
    "Messages": ({"messages": TURNS}, (USER, ANSWER)),
    "Messages under its other name": ({"conversations": TURNS}, (USER, ANSWER)),
    "with a system of the row": ({"messages": TURNS, "system": "s"}, (Turn("system", "s"), USER, ANSWER)),
    "ShareGPT": (
        {"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "a"},
                           {"from": "gpt", "value": "b"}]},
        (Turn("system", "s"), USER, ANSWER),
    ),
    "Alpaca": ({"instruction": "a", "output": "b"}, (USER, ANSWER)),
    "Alpaca with all": (
        {"instruction": "a", "input": "i", "output": "b", "system": "s", "history": [["q", "r"]]},
        (Turn("system", "s"), Turn("user", "q"), Turn("assistant", "r"), Turn("user", "a\n\ni"), ANSWER),
    ),
    "Alpaca with empty fields": (
        {"instruction": "a", "input": "", "output": "b", "system": "", "history": []}, (USER, ANSWER),
    ),
    "Alpaca whose input is called context": (
        {"instruction": "a", "context": "c", "output": "b"}, (Turn("user", "a\n\nc"), ANSWER),
    ),
    "Dolly": (
        {"instruction": "a", "context": "c", "response": "b", "category": "closed_qa"},
        (Turn("user", "a\n\nc"), ANSWER),
    ),
    "Dolly without a context": ({"instruction": "a", "context": "", "response": "b"}, (USER, ANSWER)),
    "Dolly with a system": (
        {"instruction": "a", "input": "i", "response": "b", "system": "s"},
        (Turn("system", "s"), Turn("user", "a\n\ni"), ANSWER),
    ),
    "PromptCompletion": ({"prompt": "a", "completion": "b"}, (USER, ANSWER)),
    "PromptCompletion of messages": (
        {"prompt": [*TURNS, {"role": "user", "content": "c"}], "completion": [{"role": "assistant", "content": "d"}]},
        (Turn("user", "a", learned=False), Turn("assistant", "b", learned=False), Turn("user", "c", learned=False),
         Turn("assistant", "d")),
    ),
    "QuestionAnswer": ({"question": "a", "answer": "b"}, (USER, ANSWER)),
    "UserAssistant": ({"user": "a", "assistant": "b", "system": "s"}, (Turn("system", "s"), USER, ANSWER)),
}  # fmt: skip


@pytest.mark.parametrize("form", CONVERSATIONS)
def test_a_row_of_every_form_is_the_conversation_that_it_holds(tmp_path, form):
    row, turns = CONVERSATIONS[form]
    assert [found.turns for found in read(tmp_path, row, row)] == [turns, turns]
    path = tmp_path / "data.parquet"
    parquet.write_table(arrow.Table.from_pylist([row]), path)
    assert [found.turns for block in blocks.blocks(path, path.name) for found in rows.conversations(block)] == [turns]


def test_turns_that_call_tools_reason_or_are_only_seen_keep_all_that_they_say(tmp_path):
    (found,) = read(
        tmp_path,
        {
            "tools": [TOOL],
            "messages": [
                {"role": "developer", "content": "d"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "value": "b"}]},
                {"role": "assistant", "content": None, "tool_calls": [CALL], "thinking": "so"},
                {"role": "tool", "content": "", "tool_call_id": "1", "name": "add"},
                {"role": "assistant", "content": "c", "weight": 0},
                {"role": "assistant", "content": "d", "train": True, "weight": 1},
            ],
        },
    )
    assert found.turns == (
        Turn("developer", "d"),
        Turn("user", "a\nb"),
        Turn("assistant", "", reasoning="so", tool_calls=(ToolCall("add", '{"x": [1, null], "y": "二"}', "1"),)),
        Turn("tool", "", tool_call_id="1", name="add"),
        Turn("assistant", "c", learned=False),
        Turn("assistant", "d"),
    )
    assert json.loads(found.tools) == [TOOL]
    message = found.messages[2]
    assert message["tool_calls"][0]["function"] == {"name": "add", "arguments": {"x": [1, None], "y": "二"}}
    assert message["reasoning"] == message["reasoning_content"] == message["thinking"] == "so"
    assert found.messages[1] == {"role": "user", "content": "a\nb"}


@pytest.mark.parametrize("write", [lambda tools: tools, json.dumps])
def test_tools_are_read_in_the_form_of_the_server_and_what_that_leaves_out_is_counted_once_a_row(tmp_path, write):
    bare = {"parameters": {"required": [], "type": "object"}, "name": "add", "strict": True, "returns": "int"}
    more = {"function": {"name": "sub", "strict": True, "description": None}, "id": 1}
    path = tmp_path / "data.jsonl"
    row = {"messages": TURNS, "tools": write([bare, bare, more])}
    path.write_text("".join(json.dumps(one) + "\n" for one in (row, row, {"messages": TURNS, "tools": write([TOOL])})))
    unused = Counter()
    found = [one for block in blocks.blocks(path, path.name) for one in rows.conversations(block, unused)]
    add = {"type": "function", "function": {"name": "add", "parameters": {"required": [], "type": "object"}}}
    assert found[0].tools == json.dumps([add, add, {"type": "function", "function": {"name": "sub"}}])
    assert unused == {
        "tools.strict": 2, "tools.returns": 2, "tools.id": 2, "tools.function.strict": 2,
    }  # fmt: skip


def test_calls_and_results_of_sharegpt_rows_are_turns_of_assistant_and_tool(tmp_path):
    (found,) = read(
        tmp_path,
        {
            "tools": json.dumps([TOOL]),
            "conversations": [
                {"from": "human", "value": "a"},
                {"from": "function_call", "value": '{"name": "add", "arguments": {"x": 1}}'},
                {"from": "observation", "value": "2"},
                {"from": "gpt", "value": "b"},
            ],
        },
    )
    assert found.turns == (
        USER,
        Turn("assistant", "", tool_calls=(ToolCall("add", '{"x": 1}'),)),
        Turn("tool", "2"),
        ANSWER,
    )
    assert json.loads(found.tools) == [TOOL]


def test_objects_of_a_parquet_file_have_no_fields_that_only_others_of_it_have(tmp_path):
    calls = [{"function": {"name": "add", "arguments": {"x": 1}}}, {"function": {"name": "sub", "arguments": {"y": 2}}}]
    turns = [*TURNS, {"role": "assistant", "content": None, "tool_calls": calls}]
    path = tmp_path / "data.parquet"
    parquet.write_table(arrow.Table.from_pylist([{"messages": turns}]), path)
    (found,) = [row for block in blocks.blocks(path, path.name) for row in rows.conversations(block)]
    assert found.turns[2].tool_calls == (ToolCall("add", '{"x": 1}'), ToolCall("sub", '{"y": 2}'))
    assert found.messages[0] == {"role": "user", "content": "a"}


def test_a_prompt_and_its_completion_are_a_text_of_which_the_end_is_learned(tmp_path):
    (found,) = read(tmp_path, {"prompt": "1 + 1 = ", "completion": "2"}, parse=rows.documents)
    assert (found.text, found.prompt) == ("1 + 1 = 2", len("1 + 1 = "))


PROMPTS = [
    ({"prompt": "a", "answer": "b"}, (USER,), "b"),
    ({"prompt": "a"}, (USER,), None),
    ({"question": "a", "answer": "b"}, (USER,), "b"),
    ({"messages": TURNS}, (USER,), "b"),
    ({"messages": TURNS[:1], "answer": "c"}, (USER,), "c"),
    ({"instruction": "a", "output": "b"}, (USER,), "b"),
    ({"instruction": "a", "context": "c", "response": "b"}, (Turn("user", "a\n\nc"),), "b"),
    ({"prompt": "a", "completion": "b"}, (USER,), "b"),
]


@pytest.mark.parametrize(("row", "turns", "answer"), PROMPTS)
def test_a_row_of_every_form_is_a_prompt_of_the_evaluation_too(tmp_path, row, turns, answer):
    (found,) = read(tmp_path, row, parse=rows.prompts)
    assert (found.turns, found.answer) == (turns, answer)


def test_columns_of_other_names_are_read_where_the_source_names_them(tmp_path):
    asked = Reading(columns=(("user", "query"), ("assistant", "response"), ("system", "role_of")))
    row = {"query": "a", "response": "b", "messages": TURNS, "text": "t"}
    (found, other) = read(tmp_path, row, row | {"role_of": "s"}, reading=asked)
    assert found.turns == (USER, ANSWER)
    assert other.turns == (Turn("system", "s"), USER, ANSWER)
    body = Reading(columns=(("text", "body"),))
    assert read(tmp_path, {"body": "a", "text": "b"}, parse=rows.documents, reading=body)[0].text == "a"
    path = tmp_path / "data.parquet"
    parquet.write_table(arrow.Table.from_pylist([{"body": "a", "more": 1}]), path)
    (block,) = blocks.blocks(path, path.name, body)
    assert rows.documents(block)[0].text == "a"


def test_a_column_that_is_named_and_not_there_is_refused(tmp_path):
    with pytest.raises(BadData, match=r"data\.jsonl:1: columns\.text names 'body', which the row has not: .* 'text'"):
        read(tmp_path, {"text": "a"}, parse=rows.documents, reading=Reading(columns=(("text", "body"),)))


def test_a_row_that_may_be_two_things_is_read_as_its_source_says(tmp_path):
    row = {"question": "a", "answer": "b", "instruction": "c", "output": "d"}
    with pytest.raises(BadData, match=r"may be read as Alpaca or as QuestionAnswer. Say which: format: Alpaca"):
        read(tmp_path, row)
    assert read(tmp_path, row, reading=Reading(format="QuestionAnswer"))[0].turns == (USER, ANSWER)


REFUSED = [
    ([{"messages": TURNS}, {"question": "a", "answer": "b"}], "2: the row is QuestionAnswer and line 1 is Messages"),
    ([{"chosen": "a", "rejected": "b", "prompt": "c"}], "1: the rows are preferences .* objective: Preference learns"),
    ([{"conversations": [{"from": "human", "value": "a"}], "chosen": {"from": "gpt", "value": "b"},
       "rejected": {"from": "gpt", "value": "c"}}], "1: the rows are preferences .* objective: Preference learns from"),
    ([{"messages": [TURNS[0], {"role": "assistant", "content": [{"type": "reasoning", "value": "so"}]}]}],
     'content of turn 2 .assistant. has a part of type "reasoning". Write it into reasoning_content of the turn'),
    ([{"messages": [{"role": "user", "content": [{"type": "text"}]}, TURNS[1]]}],
     'a text part of turn 1 .user. has no text: it is {"type": "text"}'),
    ([{"Frage": "a", "Antwort": "b"}],
     "; where that stands in columns of other names, say which: 'columns: {user: …, assistant: …}' beside the uri"),
    ([{"turns": ["a", "b"], "id": 1}], r"rows\.$"),  # No column is offered that holds something else.
    ([{"text": "a"}], "1: the rows are Text, which objective: CausalLM learns from"),
    ([{"query": "a", "response": "b"}], "add 'columns: {user: query, assistant: response}' beside the uri"),
    ([{"dialog": TURNS}], r"add 'columns: {messages: dialog}' beside the uri\.$"),
    ([{"id": "niv.1", "system_prompt": "s", "question": "a", "response": "b"}],
     r"add 'columns: {system: system_prompt, user: question, assistant: response}' beside the uri\.$"),
    ([{"query": "a", "context": "c", "response": "b", "category": "qa", "notes": None}],
     r"{user: query, assistant: response}' beside the uri \(which reads no 'context'\)\.$"),
    ([{"instruction": "a", "context": "c", "input": "i", "response": "b"}],
     "1: input and context both say something, and one of them stands below the instruction. Leave the other one out"),
    ([{"instruction": "a", "output": "b", "response": "c"}], "may be read as Alpaca or as Dolly. Say which"),
    ([{"instruction": "a", "context": "c", "response": ""}], "the field response is empty"),
    ([{"conversation": [{"input": "a", "output": "b"}]}], r'"user", "assistant"} rows\.$'),
    ([{"messages": [{"role": "assistant", "content": "b", "weight": 0}]}], "every assistant turn has weight 0"),
    ([{"messages": [TURNS[0], {"role": "assistant", "content": [{"type": "image_url"}]}]}],
     'content of turn 2 .assistant. has a part of type "image_url": models of text alone'),
    ([{"messages": [TURNS[0], {"role": "user", "content": "a", "tool_calls": [CALL]}]}], "only the assistant calls"),
    ([{"messages": [TURNS[0] | {"reasoning": "so"}, TURNS[1]]}], "only the assistant's turns have reasoning"),
    ([{"messages": [TURNS[0], TURNS[1] | {"reasoning": "so", "thinking": "no"}]}], "which say different things"),
    ([{"messages": [TURNS[0], {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]}],
     r'the arguments of tool call 1 of turn 2 \(assistant\) is "{", which is no JSON'),
    ([{"messages": [TURNS[0], {"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}]}]}],
     "tool call 1 of turn 2 .assistant. is .*it must be"),
    ([{"messages": TURNS, "tools": "no"}], 'tools is "no", which is no JSON'),
    ([{"messages": TURNS, "tools": {"name": "f"}}], "tools is .*; it must be a list of objects"),
    ([{"messages": TURNS, "tools": [TOOL, {"type": "function", "function": {"description": "d"}}]}],
     r'tools: tool 2 has no name: it is {"description": "d"}. Give it the name'),
    ([{"messages": TURNS, "tools": '[{"name": "f", "parameters": "x"}]'}],
     r'tools: the parameters of tool 1 \("f"\) are "x"; they must be an object'),
    ([{"messages": [{"role": "system", "content": "s"}, *TURNS], "system": "t"}], "two system turns"),
    ([{"conversations": [{"from": "human", "value": "a"}, {"from": "bot", "value": "b"}]}],
     'turn 2 is from "bot", whom nobody knows; use system, human'),
    ([{"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "add(1)"}]}],
     "which is no JSON"),
    ([{"instruction": "a", "output": "b", "history": [["q"]]}], "pair 1 of history is"),
    ([{"instruction": "a", "output": ""}], "the field output is empty"),
    ([{"prompt": "a", "completion": TURNS}], "must both be strings, or both lists"),
]  # fmt: skip


@pytest.mark.parametrize(("found", "message"), REFUSED)
def test_what_cannot_be_read_is_refused_with_what_to_do(tmp_path, found, message):
    with pytest.raises(BadData, match=rf"^data\.jsonl:.*{message}"):
        read(tmp_path, *found)


def test_messages_are_no_text_and_say_which_objective_learns_them(tmp_path):
    with pytest.raises(BadData, match="the rows are Messages, which objective: Chat learns from"):
        read(tmp_path, {"messages": TURNS}, parse=rows.documents)
    with pytest.raises(BadData, match="Messages are learned by objective: Chat"):
        read(tmp_path, {"prompt": TURNS[:1], "completion": TURNS[1:]}, parse=rows.documents)
    with pytest.raises(BadData, match="format: ShareGPT does not fit: CausalLM learns from"):
        read(tmp_path, {"text": "a"}, parse=rows.documents, reading=Reading(format="ShareGPT"))


def test_fields_that_nothing_asks_for_are_counted_and_harmless_ones_are_not(tmp_path):
    found = [{"text": "a", "id": 1, "quality": 3}, {"text": "b", "quality": None}, {"text": "c", "quality": 1}]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    unused = Counter()
    for block in blocks.blocks(path, path.name):
        rows.documents(block, unused=unused)
    assert unused == {"quality": 2}
    parquet.write_table(arrow.Table.from_pylist(found), tmp_path / "data.parquet")
    unused = Counter()
    for block in blocks.blocks(tmp_path / "data.parquet", "data.parquet"):
        rows.documents(block, unused=unused)
    assert unused == {"quality": 3}


def test_preferences_are_checked_and_their_common_beginning_is_the_prompt(tmp_path):
    found = read(
        tmp_path,
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"chosen": TURNS, "rejected": [TURNS[0], {"role": "assistant", "content": "c"}]},
        parse=rows.pairs,
    )
    seen = (Turn("user", "a", learned=False),)
    assert [(row.prompt, row.chosen, row.rejected) for row in found] == [
        (seen, (ANSWER,), (Turn("assistant", "c"),)),
        (seen, (ANSWER,), (Turn("assistant", "c"),)),
    ]
    asked = [{"from": "human", "value": "a"}]
    (other,) = read(
        tmp_path,
        {"conversations": asked, "chosen": {"from": "gpt", "value": "b"}, "rejected": {"from": "gpt", "value": "c"}},
        parse=rows.pairs,
    )
    assert (other.prompt, other.chosen, other.rejected) == (seen, (ANSWER,), (Turn("assistant", "c"),))
    for row, message in (
        ({"chosen": "a", "rejected": "b"}, "are texts, and there is no prompt that they answer"),
        (
            {"chosen": TURNS[1:], "rejected": [TURNS[1] | {"content": "other"}]},
            "no beginning in common and there is no",
        ),
        ({"prompt": "p", "chosen": "a", "rejected": "a"}, "say the same"),
        ({"prompt": "p", "chosen": "a"}, "no 'rejected'"),
        ({"chosen": TURNS, "rejected": TURNS[:1]}, "say the same"),
        ({"prompt": "p", "chosen": TURNS[:1], "rejected": "b"}, "chosen does not end with the assistant's turn"),
    ):
        with pytest.raises(BadData, match=message):
            read(tmp_path, row, parse=rows.pairs)


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ({"conversations": [{"from": ["human"], "value": "a"}]}, r"turn 1 is from \["),
        ({"conversations": [{"from": {"a": 1}, "value": "a"}]}, r"turn 1 is from \{"),
        (
            {"messages": [{"role": "user", "content": [{"type": ["text"], "text": "a"}]}]},
            r"the content of turn 1 .* has ",
        ),
        ({"messages": [{"role": "user", "content": [{"type": {}, "text": "a"}]}]}, "the content of turn 1 .* has"),
    ],
)
def test_a_list_or_an_object_where_a_word_should_be_is_refused(tmp_path, turns, message):
    with pytest.raises(BadData, match=rf"^data\.jsonl:1: {message}"):
        read(tmp_path, turns)


def test_what_json_cannot_hold_of_an_argument_does_not_become_a_text(tmp_path):
    row = {
        "messages": [*TURNS[:1], {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"n": 123456789}}]}]
    }
    assert read(tmp_path, row)[0].turns[1].tool_calls[0].arguments == '{"n": 123456789}'
    (tmp_path / "data.jsonl").write_text(json.dumps(row).replace("123456789", "9" * 5000))
    with pytest.raises(BadData, match=r"the arguments of tool call 1 .* would become a text: a number of thousands"):
        [rows.conversations(block) for block in blocks.blocks(tmp_path / "data.jsonl", "data.jsonl")]
    table = [{"messages": TURNS, "tools": [{"name": "f", "parameters": {"price": decimal.Decimal("1.50")}}]}]
    parquet.write_table(arrow.Table.from_pylist(table), tmp_path / "data.parquet")
    with pytest.raises(BadData, match=r"data\.parquet:1: tools is .* would become a text: .* Write it as a string"):
        [rows.conversations(block) for block in blocks.blocks(tmp_path / "data.parquet", "data.parquet")]
