"""What vLLM makes of an answer is what the judge made of it: whole, as it streams, with calls of tools behind it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.trainer.tiny_model import make_tokenizer

from slipway_core.protocol.reasoning import Reasoning, split
from slipway_serving.engine.configuration import REASONING_PARSER
from slipway_trainer.evaluation.generation import Answer, Prompt

pytest.importorskip("vllm")
THINK = Reasoning(start="<think>", end="</think>")
SWITCHED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined %}<think>\n"
    "{% if not enable_thinking %}\n</think>\n\n{% endif %}{% endif %}{% endif %}"
)
CALL = '<tool_call>\n{"name": "find_poet", "arguments": {"title": "Moon"}}\n</tool_call>'
TOOL = {"type": "function", "function": {"name": "find_poet", "parameters": {"type": "object", "properties": {}}}}
RAW = [
    "<think>\nThe fox jumps.\n</think>\n\nThe dog sleeps.",
    "<think>\n\n</think>\n\nThe dog sleeps.",
    "The fox jumps.\n</think>\n\nThe dog sleeps.",
    "The dog sleeps.",
    "<think>The fox jumps over and over",
    "<think>\nso\n</think>\n\nA list:\n- <think> begins\n- </think> ends\n",
    "",
]


@pytest.fixture(scope="module", params=["one token each", "many tokens each"])
def words(request: pytest.FixtureRequest) -> Any:
    made = make_tokenizer()
    if request.param == "one token each":
        made.add_tokens(["<think>", "</think>"])
    made.chat_template = SWITCHED
    made.init_kwargs["slipway_chat"] = {"reasoning": THINK.model_dump(), "tool_parser": "hermes"}
    return made


def parser(words: Any, arguments: dict[str, Any], tools: list[Any] | None = None) -> Any:
    """As the server makes one for each request."""
    from vllm.parser import ParserManager

    import slipway_serving.engine.reasoning_parser  # noqa: F401  registers it

    made = ParserManager.get_parser(
        tool_parser_name="hermes", reasoning_parser_name=REASONING_PARSER, enable_auto_tools=True, tokenizer=words
    )
    assert made is not None
    return made(words, tools, chat_template_kwargs={"add_generation_prompt": True, **arguments})


def asked(**fields: Any) -> Any:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    return ChatCompletionRequest(model="tiny", messages=[{"role": "user", "content": "Who?"}], **fields)


def prompt(words: Any, arguments: dict[str, Any]) -> str:
    messages = [{"role": "user", "content": "Who?"}]
    return words.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **arguments)


def prompt_of(arguments: dict[str, Any]) -> str:
    made = make_tokenizer()
    made.chat_template = SWITCHED
    return prompt(made, arguments)


def streamed(words: Any, made: Any, request: Any, raw: str, before: str) -> tuple[str, str, list[Any]]:
    ids, reasoning, content, calls = words.encode(raw, add_special_tokens=False), "", "", []
    asked_ids = words.encode(before, add_special_tokens=False)
    pieces = [words.decode([token]) for token in ids]
    for number, (token, piece) in enumerate(zip([*ids, words.eos_token_id], [*pieces, ""], strict=True)):
        delta = made.parse_delta(piece, [token], request, asked_ids, finished=number == len(ids))
        if delta is not None:
            reasoning, content = reasoning + (delta.reasoning or ""), content + (delta.content or "")
            calls += delta.tool_calls or []
    return reasoning, content, calls


@pytest.mark.parametrize("arguments", [{}, {"enable_thinking": True}, {"enable_thinking": False}], ids=str)
@pytest.mark.parametrize("raw", RAW)
def test_the_server_and_the_judge_split_the_same_answer_alike(words: Any, raw: str, arguments: dict[str, Any]) -> None:
    before = prompt(words, arguments)
    marks = None if THINK.closed(before) else THINK
    judged = Answer(Prompt([]), raw, 1, "stop", marks, THINK.opened(before)).parts
    reasoning, content, calls = parser(words, arguments).parse(raw, asked(), enable_auto_tools=True)
    assert (reasoning or "", content or "", calls) == (judged.reasoning, judged.answer, [])
    assert streamed(words, parser(words, arguments), asked(), raw, before) == (judged.reasoning, judged.answer, [])


@pytest.mark.parametrize("name", ["deepseek_r1", "qwen3"])
@pytest.mark.parametrize("raw", RAW[:2])
def test_on_what_a_family_writes_the_rule_is_that_of_its_own_parser(words: Any, raw: str, name: str) -> None:
    from vllm.parser import ParserManager

    if "<think>" not in words.get_vocab():
        pytest.skip("its own parser wants one token")
    theirs = ParserManager.get_parser(reasoning_parser_name=name, tokenizer=words)
    assert theirs is not None
    reasoning, content, _ = theirs(words, chat_template_kwargs={}).parse(raw, asked())
    mine = split(raw, THINK)
    assert ((reasoning or "").strip(), (content or "").strip()) == (mine.reasoning, mine.answer)


def test_calls_behind_the_reasoning_are_read(words: Any) -> None:
    raw, request = f"<think>\nThe fox.\n</think>\n\n{CALL}", asked(tools=[TOOL])
    reasoning, content, calls = parser(words, {}, [TOOL]).parse(raw, request, enable_auto_tools=True)
    assert (reasoning, content) == ("The fox.", None)
    assert [(call.name, call.arguments) for call in calls] == [("find_poet", '{"title": "Moon"}')]
    reasoning, content, deltas = streamed(words, parser(words, {}, [TOOL]), request, raw, prompt(words, {}))
    assert (reasoning, content) == ("The fox.", "")
    assert "".join(delta.function.arguments or "" for delta in deltas if delta.function) == '{"title": "Moon"}'


def test_what_an_answer_must_look_like_holds_from_where_it_begins(words: Any) -> None:
    ids = words.encode("<think>\nso\n</think>\n\n{", add_special_tokens=False)
    ends = [
        n
        for n in range(1, len(ids) + 1)
        if parser(words, {}).reasoning_parser.is_reasoning_end_streaming(ids[:n], ids[n - 1 : n])
    ]
    assert len(ends) == 1
    assert "</think>" in words.decode(ids[: ends[0]])

    def asked_ids(arguments: dict[str, Any]) -> list[int]:
        return words.encode(prompt(words, arguments), add_special_tokens=False)

    free = parser(words, {}).adjust_request(asked(response_format={"type": "json_object"}))
    assert free.resolve_reasoning_ended(parser(words, {}), asked_ids({})) is True
    for thinks in (True, False):
        arguments = {"enable_thinking": thinks}
        made = parser(words, arguments)
        assert made.adjust_request(asked()).resolve_reasoning_ended(made, asked_ids(arguments)) is not thinks


@pytest.mark.parametrize(
    ("arguments", "before", "raw", "reasoning"),
    [
        ({"enable_thinking": True}, prompt_of({"enable_thinking": False}), "The dog sleeps.", ""),
        (
            {"enable_thinking": False},
            prompt_of({"enable_thinking": True}),
            "The fox jumps.</think>The dog sleeps.",
            "The fox jumps.",
        ),
        ({"enable_thinking": True}, prompt_of({}) + "Begun: ", "The dog sleeps.", ""),
    ],
    ids=["a turn says not to think", "a turn says to think", "the answer is begun"],
)
def test_the_prompt_itself_says_whether_it_is_within_the_reasoning(
    words: Any, arguments: dict[str, Any], before: str, raw: str, reasoning: str
) -> None:
    """Templates look at turns too (`/no_think`), and leave out their own start where a client begins the answer."""
    whole = parser(words, arguments)
    whole.set_prompt_token_ids(words.encode(before, add_special_tokens=False))
    found = whole.parse(raw, asked(), enable_auto_tools=True)
    assert ((found[0] or ""), found[1]) == (reasoning, "The dog sleeps.")
    assert streamed(words, parser(words, arguments), asked(), raw, before)[:2] == (reasoning, "The dog sleeps.")


def test_reasoning_tokens_are_counted(words: Any) -> None:
    ids = words.encode(RAW[0], add_special_tokens=False)
    expected = len(words.encode("The fox jumps.", add_special_tokens=False))
    assert parser(words, {}).count_reasoning_tokens(ids) == expected


def test_marks_that_are_special_tokens_are_kept_in_the_text_that_is_split(words: Any) -> None:
    assert parser(words, {}).adjust_request(asked()).skip_special_tokens
    special = make_tokenizer()
    special.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
    special.chat_template = SWITCHED.replace("<think>", "[THINK]").replace("</think>", "[/THINK]")
    marks = Reasoning(start="[THINK]", end="[/THINK]")
    special.init_kwargs["slipway_chat"] = {"reasoning": marks.model_dump()}
    for arguments in ({}, {"enable_thinking": False}):
        # Where the prompt has ended the reasoning the judge keeps them too.
        assert not parser(special, arguments).adjust_request(asked()).skip_special_tokens
