"""What vLLM makes of turns before a template is given them, and what no message may hold where it needs no template."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.serving.engine.served_prompts import Server, model_folder
from tests.unit.trainer.tiny_model import make_tokenizer
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from slipway_trainer.tokens import tokenizer
from slipway_trainer.tokens.prompt_tokens import PromptTokens

pytest.importorskip("vllm")
TURNS = ["<｜User｜>", "<｜Assistant｜>"]


def test_tokens_that_begin_a_turn_are_refused_whatever_the_tokenizer_calls_them() -> None:
    from vllm.tokenizers.deepseek_v32 import get_deepseek_v32_tokenizer

    from slipway_serving.engine.chat_renderer import refused_tokens

    words: Any = make_tokenizer()
    words.chat_template = None  # As the model comes: vLLM has its template in Python.
    words.add_tokens([AddedToken(token, special=False) for token in (*TURNS, "<think>", "</think>")])
    found = refused_tokens(SimpleNamespace(tokenizer=get_deepseek_v32_tokenizer(words)))
    assert found is not None
    assert {*TURNS, words.eos_token} <= {*found.special}
    assert "<think>" not in found.special


def test_a_tokenizer_that_renders_nothing_leaves_what_it_calls_special() -> None:
    from slipway_serving.engine.chat_renderer import refused_tokens

    words: Any = make_tokenizer()
    words.chat_template = None
    found = refused_tokens(SimpleNamespace(tokenizer=words))
    assert found is not None
    assert {*found.special} == {*words.all_special_tokens}


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
KNOWS_DEVELOPERS = "{% if messages[0]['role'] == 'developer' %}!{% endif %}" + CHATML


@pytest.mark.parametrize("template", [CHATML, KNOWS_DEVELOPERS], ids=["a system turn", "a turn of its own"])
@pytest.mark.parametrize(
    "roles",
    ["developer user", "system developer user", "system user assistant developer user", "developer developer user",
     "user", "system system user"],
)  # fmt: skip
def test_turns_of_the_developer_are_learned_as_vllm_renders_them(template: str, roles: str) -> None:
    from vllm.renderers.hf import safe_apply_chat_template

    words: Any = make_tokenizer()
    words.chat_template = template
    turns = [{"role": role, "content": f"{role} {number}"} for number, role in enumerate(roles.split())]
    render: Any = safe_apply_chat_template
    served = render(None, words, list(turns), chat_template=template, tokenize=False, add_generation_prompt=True)
    assert tokenizer.renderer(words).text(turns, add_generation_prompt=True) == served


def test_no_route_puts_a_token_before_what_the_template_writes(tmp_path: Path) -> None:
    asked = "What is it there?"
    server = Server(model_folder(tmp_path, CHATML))
    words: Any = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    own = PromptTokens(words).ids([{"role": "user", "content": asked}])
    assert words("a")["input_ids"][0] == words.bos_token_id != own[0]
    assert server.completions({"role": "user", "content": asked}) == own
    assert server.responses(asked) == own
    assert server.messages(asked) == own
