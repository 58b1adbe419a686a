"""Held-out data is judged as it stands in its file: a template writes fields in the order in which it is given them."""

import json

from tests.unit.trainer.plans_of_data import write_rows

from slipway_core.protocol.workspace import Workspace
from slipway_trainer.data import rows
from slipway_trainer.data.held_out import HeldOut, HeldPrompt
from slipway_trainer.data.reading import blocks
from slipway_trainer.prepare import held_out_copies


def test_what_a_prompt_is_rendered_of_keeps_the_order_of_its_fields(tmp_path):
    schema = {"type": "object", "required": ["unit", "place"], "properties": {"unit": {}, "place": {}}}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": schema}}]
    call = {"function": {"name": "weather", "arguments": {"unit": "C", "place": "Bern"}}}
    turns = [
        {"role": "user", "content": "What is it there?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "17"},
    ]
    write_rows(tmp_path / "p.jsonl", {"messages": turns, "tools": tools, "answer": "Warm."})
    (prompt,) = [row for block in blocks.blocks(tmp_path / "p.jsonl", "p.jsonl") for row in rows.prompts(block)]
    held_out_copies.copy(HeldOut([], [HeldPrompt("p.jsonl", prompt, False)]), Workspace(tmp_path))
    copied = json.loads(Workspace(tmp_path).evaluation_prompts.read_text())
    assert json.dumps(copied["conversations"]) == json.dumps(prompt.messages)
    assert json.dumps(copied["tools"]) == json.dumps(tools)
    assert copied["answer"] == "Warm."
