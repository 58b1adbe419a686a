"""What stands around reasoning and calls of tools is read off what a template renders."""

from __future__ import annotations

import pytest
from tests.unit.trainer.tokens.test_template_families import FAMILIES, SPECIAL, headed, renderer

from slipway_core.protocol.reasoning import Reasoning, split
from slipway_trainer.tokens import answer_markup
from slipway_trainer.tokens.chat_rendering import Renderer

THINK = Reasoning(start="<think>", end="</think>", always=True)
REASONING = {
    "Qwen 3": THINK,
    "Qwen 3, thinking alone": THINK,
    "Nemotron 3, which drops earlier reasoning": THINK,
    "gpt-oss, whose last answer ends otherwise": Reasoning(
        start="<|channel|>analysis<|message|>",
        end="<|end|><|start|>assistant<|channel|>final<|message|>",
        plain="<|channel|>final<|message|>",
    ),
}
SWITCHED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and m['reasoning_content'] %}"
    "<think>\n{{ m['reasoning_content'] }}\n</think>\n\n{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_marks_of_reasoning_are_found_where_a_template_renders_it(name: str) -> None:
    assert answer_markup.reasoning_of(renderer(FAMILIES[name])) == REASONING.get(name)


@pytest.mark.parametrize("name", REASONING)
def test_what_a_template_renders_is_split_into_what_was_thought_and_what_was_said(name: str) -> None:
    own, marks = renderer(FAMILIES[name]), REASONING[name]
    for thought in ("It is his.", None):
        answer = {"role": "assistant", "content": "Li Bai.", "reasoning_content": thought, "thinking": thought}
        asked = [{"role": "user", "content": "Who?"}]
        prompt = own.text(asked, add_generation_prompt=True)
        said = own.text([*asked, answer])[len(prompt) :].removesuffix("\n").removesuffix(FAMILIES[name].end)
        parts = split(said, marks, opened=marks.opened(prompt))
        assert (parts.reasoning, parts.answer) == (thought or "", "Li Bai.")


def test_a_template_whose_reasoning_is_switched_off_keeps_its_marks_for_who_switches_it_on() -> None:
    for arguments in ({}, {"enable_thinking": False}):
        found = answer_markup.reasoning_of(Renderer(SWITCHED, {}, SPECIAL, arguments))
        assert found is not None
        assert (found.start, found.end, found.plain) == ("<think>", "</think>", None)


def test_a_template_that_opens_a_block_and_never_renders_one_has_its_marks() -> None:
    template = headed("<|im_start|>", "\n", "<|im_end|>\n", generation="<|im_start|>assistant\n<think>\n")
    assert answer_markup.reasoning_of(Renderer(template, {}, SPECIAL)) == THINK


CALLS = {
    "hermes": (
        '\n<tool_call>\n{"name": "{{ c[\'name\'] }}", "arguments": {{ c[\'arguments\'] | tojson }}}\n</tool_call>',
        "<|im_end|>",
    ),
    "qwen3_coder": (
        "\n<tool_call>\n<function={{ c['name'] }}>\n{% for k, v in c['arguments'].items() %}<parameter={{ k }}>\n"
        "{{ v }}\n</parameter>\n{% endfor %}</function>\n</tool_call>",
        "<|im_end|>",
    ),
    "glm45": (
        "\n<tool_call>{{ c['name'] }}\n{% for k, v in c['arguments'].items() %}<arg_key>{{ k }}</arg_key>\n"
        "<arg_value>{{ v }}</arg_value>\n{% endfor %}</tool_call>",
        "<|user|>",
    ),
    "mistral": (
        '[TOOL_CALLS][{"name": "{{ c[\'name\'] }}", "arguments": {{ c[\'arguments\'] | tojson }}, "id": "abcdef123"}]',
        "</s>",
    ),
    "llama3_json": (
        '{"name": "{{ c[\'name\'] }}", "parameters": {{ c[\'arguments\'] | tojson }}}',
        "<|eot_id|>",
    ),
    "lfm2": (
        "<|tool_call_start|>[{{ c['name'] }}({% for k, v in c['arguments'].items() %}{{ k }}=\"{{ v }}\"{% endfor %})]"
        "<|tool_call_end|>",
        "<|im_end|>",
    ),
}
"""How calls are written, and what ends such an answer."""
MARKS = (
    "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<|tool_call_start|>", "<|tool_call_end|>",
    "<think>", "</think>",
)  # fmt: skip


def calling(parser: str) -> Renderer:
    call, end = CALLS[parser]
    template = (
        "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|start_header_id|>{{ m['role'] }}"
        "<|end_header_id|>{{ m['content'] }}{% for t in m['tool_calls'] or [] %}{% set c = t['function'] %}"
        f"{call}{{% endfor %}}{end}{{% endfor %}}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{% endif %}"
    )
    return Renderer(template, {}, SPECIAL)


@pytest.mark.parametrize("parser", CALLS)
def test_the_parser_of_calls_is_found_by_how_a_template_writes_one(parser: str) -> None:
    assert answer_markup.tool_parser_of(calling(parser), MARKS) == parser


def test_a_parser_that_would_not_start_with_the_vocabulary_is_not_taken() -> None:
    assert answer_markup.tool_parser_of(calling("llama3_json"), ("<think>",)) is None


def test_calls_in_a_form_that_no_parser_reads_have_none() -> None:
    own = calling("hermes")
    other = Renderer(own.template.replace("tool_call>", "call>"), {}, SPECIAL)
    assert answer_markup.tool_parser_of(other, MARKS) is None
