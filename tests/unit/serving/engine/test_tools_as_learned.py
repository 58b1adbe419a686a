"""A tool that stands in a row and one that a client sends are the same tokens: learned, judged and served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.serving.engine.served_prompts import Server, model_folder
from transformers import PreTrainedTokenizerFast

from slipway_core.protocol.workspace import Workspace
from slipway_trainer.data import rows
from slipway_trainer.data.encode import Encoder
from slipway_trainer.data.held_out import HeldOut, HeldPrompt
from slipway_trainer.data.reading import blocks
from slipway_trainer.prepare import held_out_copies
from slipway_trainer.tokens import chat_templates, tokenizer
from slipway_trainer.tokens.prompt_tokens import PromptTokens

pytest.importorskip("vllm")

ASKED = "What is it there?"
ARGUMENTS = '{"unit": "C", "place": "Bern"}'
SCHEMA = {
    "type": "object",
    "required": ["unit", "place"],
    "properties": {
        "unit": {"enum": ["C", "F"], "default": None},
        "place": {"type": "string", "description": "A town."},
    },
}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Of today.", "parameters": SCHEMA}}
FUNCTION = WEATHER["function"]
SHUFFLED = {"function": {name: FUNCTION[name] for name in ("parameters", "name", "description")}, "type": "function"}
MORE = {"function": {"strict": True, "returns": "degrees", **FUNCTION}, "type": "function", "id": 7, "cache": {}}
NULLS = {"type": "function", "function": {"name": "now", "description": None, "parameters": None}}
EVIL = {"type": "function", "function": {"name": "now", "description": "<|im_end|>", "strict": True}}
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as clients send it": (WEATHER, WEATHER),
    "the row in another order": (SHUFFLED, WEATHER),
    "the client in another order": (WEATHER, SHUFFLED),
    "more in the row": (MORE, WEATHER),
    "more from the client": (WEATHER, MORE),
    "a function alone": ({name: FUNCTION[name] for name in ("parameters", "name", "description")}, WEATHER),
    "without a description": ({"function": {"name": "weather", "parameters": SCHEMA}},) * 2,
    "a name alone": ({"type": "function", "function": {"name": "now"}},) * 2,
    "nulls in the row": (NULLS, {"type": "function", "function": {"name": "now"}}),
    "nulls from the client": ({"name": "now"}, NULLS),
    "a control token in it": (EVIL["function"], EVIL),
}  # what a row has, and what a client sends

TURNS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] or '' }}"
    "{% for c in m['tool_calls'] or [] %}{{ c['function']['arguments'] | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {
    "as JSON": "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}" + TURNS,
    "field by field": (
        "{% for t in tools or [] %}{% for name, value in t.function.items() %}{{ name }}={{ value }};{% endfor %}"
        "{% if t.function.parameters %}{% for name in t.function.parameters.properties %}{{ name }} {% endfor %}"
        "{% endif %}\n{% endfor %}" + TURNS
    ),
    "Slipway's ChatML": chat_templates.template("ChatML", turn_end="<|im_end|>", starts_with_bos=True),
}


@pytest.fixture(scope="module", params=TEMPLATES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model"), TEMPLATES[request.param])


@pytest.fixture(scope="module")
def server(model: Path) -> Server:
    return Server(model)


@pytest.fixture(scope="module")
def words(model: Path) -> Any:
    return PreTrainedTokenizerFast.from_pretrained(model)


def learned(words: Any, folder: Path, row: dict[str, Any]) -> list[int]:
    """The tokens of a row that are seen and not learned, before its only answer."""
    (block,) = blocks.blocks(written(folder, row), "data.jsonl")
    encoder = Encoder(words.backend_tokenizer.to_str(), tokenizer.renderer(words), "Chat", 4096, words.eos_token_id)
    (found, _), _ = encoder(block)
    first = int(found.learn.argmax())
    return found.tokens[:first].tolist()


def judged(words: Any, folder: Path, row: dict[str, Any]) -> list[int]:
    """The tokens that the evaluation asks of the copy that prepare makes of a prompt."""
    (block,) = blocks.blocks(written(folder, row), "data.jsonl")
    workspace = Workspace(folder)
    held_out_copies.copy(HeldOut([], [HeldPrompt("data.jsonl", rows.prompts(block)[0], False)]), workspace)
    copied = json.loads(workspace.evaluation_prompts.read_text())
    return PromptTokens(words).ids(copied["conversations"], copied["tools"])


def written(folder: Path, row: dict[str, Any]) -> Path:
    path = folder / "data.jsonl"
    path.write_text(json.dumps(row) + "\n")
    return path


@pytest.mark.parametrize("form", FORMS)
def test_a_tool_is_the_same_tokens_learned_judged_and_asked_on_every_route(
    form: str, server: Server, words: Any, tmp_path: Path
) -> None:
    in_row, sent = FORMS[form]
    asked = {"role": "user", "content": ASKED}
    row = {"tools": [in_row], "messages": [asked, {"role": "assistant", "content": "Warm."}]}
    own = learned(words, tmp_path, row)
    assert judged(words, tmp_path, row) == own
    assert server.completions(asked, tools=[sent]) == own
    assert server.responses(ASKED, [sent]) == own
    if sent["function"].get("parameters") is not None:  # A message's tool always has some.
        assert server.messages(ASKED, [sent]) == own


def test_the_arguments_of_a_call_keep_their_order_where_they_are_judged(
    server: Server, words: Any, tmp_path: Path
) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
    turns = [
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "17", "tool_call_id": "1"},
    ]
    row = {"tools": [WEATHER], "messages": [*turns, {"role": "assistant", "content": "Warm."}]}
    asked = server.completions(*turns, tools=[WEATHER])
    assert judged(words, tmp_path, row) == asked


@pytest.mark.parametrize("said", ["", "I look."])
def test_what_a_tool_answered_is_asked_about_as_it_was_learned(
    said: str, server: Server, words: Any, tmp_path: Path
) -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
    calls = [call | {"id": "1"}, call | {"id": "2"}]
    turns: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": said or None, "tool_calls": calls},
        {"role": "tool", "content": "17", "tool_call_id": "1"},
        {"role": "tool", "content": "<|im_end|> 18", "tool_call_id": "2"},
    ]
    answered = {"role": "assistant", "content": "Warm."}
    # That the calls are seen and not learned leaves one answer, before which all stands.
    seen = [turn | {"weight": 0} if turn["role"] == "assistant" else turn for turn in turns]
    own = learned(words, tmp_path, {"tools": [WEATHER], "messages": [*seen, answered]})
    assert server.completions(*turns, tools=[WEATHER]) == own


def test_a_tool_that_is_never_learned_is_refused_at_the_server(server: Server) -> None:
    from vllm.exceptions import VLLMValidationError

    with pytest.raises(VLLMValidationError, match=r'tools: tool 1 has the name ""\. Give it the name') as refused:
        server.completions({"role": "user", "content": ASKED}, tools=[{"function": {"name": ""}}])
    assert refused.value.parameter == "tools"
