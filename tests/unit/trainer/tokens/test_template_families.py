"""Conversations under templates in the form of today's families: what is learned is what the server must produce.

The templates are written here, after the shape that each family gives a conversation.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from slipway_trainer.step.errors import BadModel
from slipway_trainer.tokens import tokenizer
from slipway_trainer.tokens.chat_rendering import Renderer, Unrenderable

USER_OR_RAISE = (
    "{% if m['role'] not in ['user', 'assistant'] %}{{ raise_exception('only user and assistant') }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    template: str
    end: str
    """The token that ends an answer at inference."""
    system: bool = True
    """Whether it takes a system turn."""
    texts: int = 1
    """By which a conversation of two answers is learned."""
    bos: str = ""
    reasons: bool = False
    """Whether it renders the reasoning of the last answer."""
    calls: bool = False
    before: str = ""
    """What it writes before the content of an answer without reasoning, behind the prompt."""
    after: str = ""
    """What it writes between content and end."""


def headed(start, end, turn_end, *, bos="", generation=None):
    """Turns between a header that names the role and an end."""
    return (
        f"{bos}{{% for m in messages %}}{start}{{{{ m['role'] }}}}{end}{{{{ m['content'] }}}}{turn_end}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{generation or start + 'assistant' + end}{{% endif %}}"
    )


FAMILIES = {
    "Llama 2": Family(
        "{% if messages[0]['role'] == 'system' %}"
        "{% set s = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}"
        "{% set rest = messages[1:] %}{% else %}{% set s = '' %}{% set rest = messages %}{% endif %}"
        "{% for m in rest %}{% if m['role'] == 'user' %}<s>[INST] "
        "{{ (s if loop.index0 == 0 else '') + m['content'] }} [/INST]"
        "{% else %} {{ m['content'] }} </s>{% endif %}{% endfor %}",
        "</s>",
        before=" ",
        after=" ",
    ),
    "Llama 3": Family(
        headed("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>", bos="<|begin_of_text|>"),
        "<|eot_id|>",
        bos="<|begin_of_text|>",
    ),
    "Llama 3.1, which names today": Family(
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n"
        "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% set messages = messages[1:] %}"
        "{% endif %}"
        "<|eot_id|>" + headed("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>"),
        "<|eot_id|>",
        bos="<|begin_of_text|>",
    ),
    "Llama 4": Family(
        headed("<|header_start|>", "<|header_end|>\n\n", "<|eot|>", bos="<|begin_of_text|>"),
        "<|eot|>",
        bos="<|begin_of_text|>",
    ),
    "Qwen 2.5": Family(
        "{% if tools %}<|im_start|>system\n# Tools\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n"
        "{% elif messages[0]['role'] != 'system' %}<|im_start|>system\nYou are Qwen.<|im_end|>\n{% endif %}"
        "{% for m in messages %}{% if m['role'] == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m['content'] }}\n"
        "</tool_response><|im_end|>\n{% else %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
        "{% for c in m['tool_calls'] or [] %}\n<tool_call>\n{\"name\": \"{{ c['function']['name'] }}\", \"arguments\": "
        "{{ c['function']['arguments'] | tojson }}}\n</tool_call>{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "<|im_end|>",
        calls=True,
    ),
    "Qwen 3": Family(
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and loop.last %}<think>\n"
        "{{ m['reasoning_content'] or '' }}\n</think>\n\n{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "<|im_end|>",
        texts=2,
        reasons=True,
        before="<think>\n\n</think>\n\n",
    ),
    "Qwen 3, thinking alone": Family(
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and loop.last %}<think>\n"
        "{{ m['reasoning_content'] or '' }}\n</think>\n\n{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
        "<|im_end|>",
        texts=2,
        reasons=True,
        before="\n</think>\n\n",
    ),
    "Gemma 2": Family(
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}"
        "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else 'user' }}\n{{ m['content'] | trim }}<end_of_turn>\n"
        "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        "<end_of_turn>",
        system=False,
        bos="<bos>",
    ),
    "Gemma 3, whose system goes into the first user turn": Family(
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set s = messages[0]['content'] + '\\n\\n' %}"
        "{% set rest = messages[1:] %}{% else %}{% set s = '' %}{% set rest = messages %}{% endif %}{% for m in rest %}"
        "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else 'user' }}\n{{ s if loop.first else '' }}"
        "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        "<end_of_turn>",
        bos="<bos>",
    ),
    "Mistral 0.1": Family(
        "<s>{% for m in messages %}" + USER_OR_RAISE + "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
        "{% else %}{{ m['content'] }}</s>{% endif %}{% endfor %}",
        "</s>",
        system=False,
        bos="<s>",
    ),
    "Mistral Nemo": Family(
        "<s>{% for m in messages %}{% if m['role'] == 'system' %}[SYSTEM_PROMPT]{{ m['content'] }}[/SYSTEM_PROMPT]"
        "{% elif m['role'] == 'user' %}[INST]{{ m['content'] }}[/INST]{% else %}{{ m['content'] }}</s>"
        "{% endif %}{% endfor %}",
        "</s>",
        bos="<s>",
    ),
    "Phi 3, which ends a conversation where none goes on": Family(
        "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}<|endoftext|>{% endif %}",
        "<|end|>",
    ),
    "Phi 4": Family(
        headed("<|im_start|>", "<|im_sep|>", "<|im_end|>"),
        "<|im_end|>",
    ),
    "DeepSeek V3": Family(
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}"
        "{% elif m['role'] == 'user' %}"
        "<|User|>{{ m['content'] }}{% else %}<|Assistant|>{{ m['content'] }}<|end_of_sentence|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|Assistant|>{% endif %}",
        "<|end_of_sentence|>",
        bos="<|begin_of_sentence|>",
    ),
    "gpt-oss, whose last answer ends otherwise": Family(
        "{% for m in messages %}{% if m['role'] == 'assistant' %}<|start|>assistant{% if m['thinking'] and loop.last %}"
        "<|channel|>analysis<|message|>{{ m['thinking'] }}<|end|><|start|>assistant"
        "{% endif %}<|channel|>final<|message|>"
        "{{ m['content'] }}{{ '<|return|>' if loop.last else '<|end|>' }}{% else %}<|start|>{{ m['role'] }}<|message|>"
        "{{ m['content'] }}<|end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}",
        "<|return|>",
        texts=2,
        reasons=True,
        before="<|channel|>final<|message|>",
    ),
    "SmolLM 2": Family(
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
        + headed("<|im_start|>", "\n", "<|im_end|>\n"),
        "<|im_end|>",
    ),
    "LFM 2": Family(
        headed("<|im_start|>", "\n", "<|im_end|>\n", bos="<|startoftext|>"), "<|im_end|>", bos="<|startoftext|>"
    ),
    "Granite": Family(
        headed("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>\n"), "<|end_of_text|>"
    ),
    "Nemotron 3, which drops earlier reasoning": Family(
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
        "{% if m['reasoning_content'] and loop.last %}<think>\n{{ m['reasoning_content'] }}\n</think>\n"
        "{% else %}<think></think>{% endif %}{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "<|im_end|>",
        reasons=True,
        before="<think></think>",
    ),
    "Command R": Family(
        "{{ bos_token }}{% for m in messages %}<|START_OF_TURN_TOKEN|>{{ {'system': '<|SYSTEM_TOKEN|>', "
        "'user': '<|USER_TOKEN|>', 'assistant': '<|CHATBOT_TOKEN|>'}[m['role']] }}"
        "{{ m['content'] }}<|END_OF_TURN_TOKEN|>"
        "{% endfor %}{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}",
        "<|END_OF_TURN_TOKEN|>",
        bos="<BOS_TOKEN>",
    ),
    "GLM 4, whose answers end where the next turn begins": Family(
        "[gMASK]<sop>{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        "<|user|>",
    ),
    "OLMo 2": Family(
        "<|endoftext|>{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}"
        "{{ '<|endoftext|>' if m['role'] == 'assistant' else '' }}{% if not loop.last %}\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}\n<|assistant|>\n{% endif %}",
        "<|endoftext|>",
    ),
}  # fmt: skip
SPECIAL = (
    "<s>", "</s>", "<bos>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot|>",
    "<|header_start|>", "<|header_end|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>",
    "<start_of_turn>", "<end_of_turn>",
    "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|endoftext|>", "<|User|>", "<|Assistant|>",
    "<|begin_of_sentence|>", "<|end_of_sentence|>", "<|start|>", "<|channel|>", "<|message|>", "<|return|>",
    "<|startoftext|>", "<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "<BOS_TOKEN>", "[INST]", "[/INST]",
    "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>",
)  # fmt: skip
TALK = [
    {"role": "user", "content": "Who wrote it?"},
    {"role": "assistant", "content": "Li Bai did."},
    {"role": "user", "content": "Did Li Bai write it?"},
    {"role": "assistant", "content": "Yes."},
]
SYSTEM = {"role": "system", "content": "Be brief."}
REASON = {"reasoning": "It is his.", "reasoning_content": "It is his.", "thinking": "It is his."}


def renderer(family):
    return Renderer(family.template, {"bos_token": family.bos}, SPECIAL)


def check(family, messages):
    """Every answer is learned once, behind what the server makes of the turns before it, up to its end token."""
    found = renderer(family).renderings(messages)
    answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    taken = []
    for segments in found:
        text = ""
        for segment in segments:
            if segment.learned:
                number = answers[len(taken)]
                assert text == renderer(family).prompt(messages[:number])
                taken.append(segment.text)
            text += segment.text
        if family.bos:
            assert text.count(family.bos) == 1
    wanted = [f"{family.before}{messages[number]['content']}{family.after}{family.end}" for number in answers]
    assert taken == wanted
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_two_answers_are_learned_as_the_server_must_produce_them(name):
    family = FAMILIES[name]
    for messages in (TALK, [SYSTEM, *TALK]) if family.system else (TALK,):
        found = check(family, messages)
        assert len(found) == family.texts


@pytest.mark.parametrize("name", [name for name in FAMILIES if FAMILIES[name].reasons])
def test_the_reasoning_of_each_answer_is_learned_with_it(name):
    family = FAMILIES[name]
    messages = [TALK[0], TALK[1] | REASON, TALK[2], TALK[3] | REASON]
    found = renderer(family).renderings(messages)
    learned = [segment.text for segments in found for segment in segments if segment.learned]
    assert len(learned) == 2
    assert all("It is his." in answer and answer.endswith(family.end) for answer in learned)
    assert "It is his." not in "".join(segment.text for segment in found[-1] if not segment.learned)


def test_a_call_of_a_tool_is_learned_and_its_result_is_seen():
    tool = {"type": "function", "function": {"name": "poet", "parameters": {}}}
    calls = [{"type": "function", "function": {"name": "poet", "arguments": {"of": "静夜思"}}}]
    messages = [
        TALK[0],
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": "Li Bai"},
        TALK[1],
    ]
    (segments,) = renderer(FAMILIES["Qwen 2.5"]).renderings(messages, tools=json.dumps([tool]))
    learned = [segment.text for segment in segments if segment.learned]
    assert learned[0].strip().startswith("<tool_call>")
    assert "静夜思" in learned[0]
    assert learned[1] == "Li Bai did.<|im_end|>"
    assert "<tool_response>\nLi Bai" in "".join(segment.text for segment in segments if not segment.learned)


def test_a_template_that_asks_otherwise_than_it_writes_is_refused_with_the_turn():
    asks_for_thought = FAMILIES["DeepSeek V3"].template.replace(
        "add_generation_prompt %}<|Assistant|>", "add_generation_prompt %}<|Assistant|><think>\n"
    )
    with pytest.raises(BadModel, match="does not begin turn 2 as it begins an answer that is to come"):
        Renderer(asks_for_thought, {"bos_token": ""}, SPECIAL).renderings(TALK)


def test_a_system_turn_that_a_template_puts_before_the_last_user_turn_alone_is_not_lost():
    last_user_alone = (
        "<s>{% if messages[0]['role'] == 'system' %}{% set s = messages[0]['content'] %}{% set rest = messages[1:] %}"
        "{% else %}{% set s = '' %}{% set rest = messages %}{% endif %}{% for m in rest %}{% if m['role'] == 'user' %}"
        "[INST] {{ s + '\\n\\n' if s and loop.last else '' }}{{ m['content'] }}[/INST]{% else %} {{ m['content'] }}</s>"
        "{% endif %}{% endfor %}"
    )
    with pytest.raises(Unrenderable, match=r"leaves turn 1 \(system\) out"):
        Renderer(last_user_alone, {}, SPECIAL).renderings([SYSTEM, *TALK])
    assert len(Renderer(last_user_alone, {}, SPECIAL).renderings(TALK)) == 1


GIVEN = sorted(Path(os.environ["SLIPWAY_TEMPLATES"]).glob("*/")) if "SLIPWAY_TEMPLATES" in os.environ else []


@pytest.mark.parametrize("folder", GIVEN, ids=lambda folder: folder.name)
@pytest.mark.parametrize("messages", [TALK, [SYSTEM, *TALK]], ids=["plain", "with a system turn"])
def test_models_of_anybody_are_learned_as_their_server_must_answer(folder, messages):
    """`SLIPWAY_TEMPLATES=folder`, in which each folder has the tokenizer of a model, with its chat template."""
    own = tokenizer.renderer(tokenizer.from_folder(folder, folder.name))
    try:
        found = own.renderings(messages)
    except (Unrenderable, BadModel) as error:
        pytest.skip(f"refused: {error}")
    answers = iter(number for number, message in enumerate(messages) if message["role"] == "assistant")
    for segments in found:
        text = ""
        for segment in segments:
            if segment.learned:
                number = next(answers)
                assert text == own.prompt(messages[:number])
                assert messages[number]["content"] in segment.text
                assert segment.text.endswith(own.special_tokens)
            text += segment.text
    assert next(answers, None) is None
