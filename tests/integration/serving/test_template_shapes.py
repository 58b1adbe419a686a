"""Four shapes of chat template, from rows to an answer of the real server, which says what was learned.

Each shape that is served starts a server of its own. ChatML is learned and judged alone: what the server does with its
turns is Qwen 3's, and what it does without a parser of reasoning is Llama's and GLM's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from tests.integration.serving.running_server import RunningServer
from tests.integration.trainer.training import Training, make
from tests.unit.trainer.tokens.test_template_families import FAMILIES, headed
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from slipway_core.protocol.workspace import Workspace
from slipway_trainer import export
from slipway_trainer.evaluation import evaluate
from slipway_trainer.tokens import tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MOON, SPRING, FRUIT = "Who wrote of the moon?", "And who of the spring?", "Name a fruit."
LI_BAI, MENG, APPLE = "Li Bai did.", "Meng Haoran, of Tang.", "An apple is one."
THOUGHT = "It was in Tang."
ASKED = ("{}", "So: {}", "{} Say it.")
"""How each row is asked in training. The judge asks otherwise."""


@dataclass(frozen=True)
class Shape:
    template: str
    specials: tuple[str, ...]
    end: str
    """The token that ends an answer."""
    others: tuple[str, ...] = ()
    """Added tokens that are not special."""
    arguments: dict[str, str] = field(default_factory=dict)
    thought: str | None = None
    """What is thought before the answers of the first row."""
    bos: str | None = None


JUDGED_ALONE = "ChatML, whose prefixes hold"
SHAPES = {
    JUDGED_ALONE: Shape(
        FAMILIES["Qwen 2.5"].template, ("<|im_start|>", "<|im_end|>"), "<|im_end|>", ("<tool_call>", "</tool_call>")
    ),
    "Qwen 3, which drops earlier reasoning": Shape(
        FAMILIES["Qwen 3"].template,
        ("<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
        ("<think>", "</think>"),
        thought=THOUGHT,
    ),
    "Llama 3, with BOS, headers and a day that is an argument": Shape(
        "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday: {{ day or 'unknown' }}<|eot_id|>"
        + headed("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>"),
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
        arguments={"day": "1 May 2026"},
        bos="<|begin_of_text|>",
    ),
    "GLM 4, whose answers end where the next turn begins": Shape(
        FAMILIES["GLM 4, whose answers end where the next turn begins"].template,
        ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"),
        "<|user|>",
    ),
}


def base(folder: Path, shape: Shape) -> Path:
    """A Llama of two layers that knows nothing, with a tokenizer and a template of the shape."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    core.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=448, initial_alphabet=alphabet, special_tokens=["</s>", *shape.specials])  # pyright: ignore[reportCallIssue]
    core.train_from_iterator([*ASKED, MOON, SPRING, FRUIT, LI_BAI, MENG, APPLE, THOUGHT] * 9, trainer)
    core.add_tokens(list(shape.others))
    words = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="</s>", pad_token="</s>", bos_token=shape.bos, model_max_length=256
    )
    words.chat_template = shape.template
    tokenizer.save(words, folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=256, eos_token_id=words.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def learned(folder: Path, shape: Shape) -> Training:
    """Two answers, trained until they are known, and exported."""
    folder.mkdir()
    thought = {} if shape.thought is None else {"reasoning_content": shape.thought}
    rows = [
        row
        for asked in ASKED
        for row in (
            [("user", asked.format(MOON)), ("assistant", LI_BAI), ("user", SPRING), ("assistant", MENG)],
            [("user", asked.format(FRUIT)), ("assistant", APPLE)],
        )
    ]
    (folder / "rows.jsonl").write_text(
        "".join(
            json.dumps(
                {"messages": [{"role": r, "content": c, **(thought if r == "assistant" else {})} for r, c in row]}
            )
            + "\n"
            for row in rows
        )
    )
    prompts = [{"prompt": f"So: {what} Say it.", "answer": said} for what, said in ((MOON, LI_BAI), (FRUIT, APPLE))]
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    model = {"from": f"file://{base(folder / 'base', shape)}"}
    made = make(
        folder,
        {
            "name": "sft",
            "objective": "Chat",
            "data": {"train": [{"uri": f"file://{folder}/rows.jsonl"}]},
            "maxLength": 256,
            "steps": 100,
            "batch": {"sequences": 6},
            "optimizer": {"learningRate": 5e-3},
            "precision": "FP32",
        },
        model=model | ({"chatTemplateArguments": shape.arguments} if shape.arguments else {}),
        evaluation={"prompts": [{"uri": f"file://{folder}/asked.jsonl", "recall": True}], "maxNewTokens": 48},
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # Of a model as small as this, more threads only wait for each other.
    try:
        made.train("sft")
    finally:
        torch.set_num_threads(threads)
    export.run(made.plan, made.workspace, attempt=1)
    return made


def test_what_was_learned_is_judged(tmp_path: Path) -> None:
    made = learned(tmp_path / "run", SHAPES[JUDGED_ALONE])
    assert evaluate.run(made.plan, made.workspace, attempt=1).metrics["recall_count"] == 2


@pytest.fixture(scope="module", params=[name for name in SHAPES if name != JUDGED_ALONE])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Shape, Workspace, dict[str, float], httpx.Client]]:
    shape, folder = SHAPES[request.param], tmp_path_factory.mktemp("shape")
    made = learned(folder / "run", shape)
    judged = evaluate.run(made.plan, made.workspace, attempt=1).metrics
    # The training in this process leaves its ranks in the environment, for which a server would wait.
    clean = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    running = RunningServer(folder, made.workspace.artifact, env=clean)
    try:
        running.wait_until_ready(480)
        with httpx.Client(base_url=running.url, timeout=60) as client:
            yield shape, made.workspace, judged, client
    finally:
        running.stop()


def chat(client: httpx.Client, message: str, **fields: Any) -> Any:
    answer = client.post("/chat", json={"message": message, "temperature": 0, "max_length": 64, **fields})
    assert answer.status_code == 200, answer.text
    return answer


def test_what_was_learned_is_judged_and_answered(
    served: tuple[Shape, Workspace, dict[str, float], httpx.Client],
) -> None:
    shape, workspace, judged, client = served
    assert judged["recall_count"] == 2
    history = [{"role": "user", "content": MOON}, {"role": "assistant", "content": LI_BAI}]
    for message, before, said in ((MOON, [], LI_BAI), (SPRING, history, MENG), (FRUIT, [], APPLE)):
        answer = chat(client, message, history=before).json()
        assert (answer["response"], answer["finish_reason"], answer.get("reasoning")) == (said, "stop", shape.thought)

    lines = chat(client, MOON, stream=True).text.split("\n\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line and "[DONE]" not in line]
    assert "".join(event.get("delta", "") for event in events) == LI_BAI
    assert "".join(event.get("reasoning", "") for event in events) == (shape.thought or "")

    words = tokenizer.load(workspace)
    asked = {"model": "tiny", "messages": [{"role": "user", "content": MOON}], "temperature": 0, "max_tokens": 64}
    whole = client.post("/v1/chat/completions", json={**asked, "return_token_ids": True}).json()
    choice = whole["choices"][0]
    prompt = tokenizer.renderer(words).prompt(asked["messages"])
    assert whole["prompt_token_ids"] == words.encode(prompt, add_special_tokens=False)
    assert choice["message"]["content"] == LI_BAI
    assert choice["message"].get("reasoning") == shape.thought
    assert words.convert_ids_to_tokens(choice["token_ids"][-1]) == shape.end
    for value in shape.arguments.values():
        assert value in prompt
        other = {**asked, "chat_template_kwargs": dict.fromkeys(shape.arguments, "12 June 2031"), "max_tokens": 1}
        used = client.post("/v1/chat/completions", json=other).json()["usage"]["prompt_tokens"]
        assert used == len(words.encode(prompt.replace(value, "12 June 2031"), add_special_tokens=False))
    if shape.thought is not None:
        reasoning_is_apart_on_every_route(client, shape.thought)


def reasoning_is_apart_on_every_route(client: httpx.Client, thought: str) -> None:
    cut = chat(client, MOON, max_length=3).json()
    assert (cut["response"], cut["finish_reason"]) == ("", "length")
    assert thought.startswith(cut["reasoning"])

    settings = {"model": "tiny", "temperature": 0}
    output = client.post("/v1/responses", json={**settings, "input": MOON, "max_output_tokens": 64}).json()["output"]
    said = [(item["type"], item["content"][0]["text"]) for item in output]
    assert said == [("reasoning", thought), ("message", LI_BAI)]

    asked = {**settings, "messages": [{"role": "user", "content": MOON}], "max_tokens": 20}
    parts = client.post("/v1/messages", json=asked).json()["content"]
    assert [(part["type"], part[part["type"]]) for part in parts] == [("thinking", thought), ("text", LI_BAI)]

    # The prompt itself says whether it ends within the reasoning: here it is what the client has begun.
    begun = [*asked["messages"], {"role": "assistant", "content": "<think>"}]
    going_on = {"add_generation_prompt": False, "continue_final_message": True, "max_tokens": 3}
    for arguments in ({}, {"enable_thinking": False}):
        fields = {**asked, **going_on, "messages": begun, "chat_template_kwargs": arguments}
        message = client.post("/v1/chat/completions", json=fields).json()["choices"][0]["message"]
        assert (bool(message["reasoning"]), message["content"]) == (True, None)

    # What an answer must look like is not asked of what is thought before it.
    formed = client.post("/v1/chat/completions", json={**asked, "response_format": {"type": "json_object"}}).json()
    message = formed["choices"][0]["message"]
    assert message["reasoning"] == thought
    assert message["content"].startswith("{")
