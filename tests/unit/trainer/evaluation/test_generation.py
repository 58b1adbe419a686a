"""Answers do not depend on the batch they are made in, and stop where they should."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from tests.unit.trainer.tiny_model import make_exported, make_tokenizer, teach
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from slipway_core.protocol.reasoning import Reasoning
from slipway_trainer.evaluation import generation
from slipway_trainer.evaluation.answer_metrics import METRICS, figures
from slipway_trainer.evaluation.generation import Answer, Prompt
from slipway_trainer.evaluation.perplexity import MAX_WINDOW
from slipway_trainer.evaluation.transformers_engine import TransformersEngine
from slipway_trainer.model.exported_model import ExportedModel
from slipway_trainer.tokens.prompt_tokens import PromptTokens
from slipway_trainer.tokens.tokenizer import end_ids

QUESTION, POEM = "背诵《夜思》", "床前明月光，疑是地上霜。"


@pytest.fixture(scope="module")
def taught() -> ExportedModel:
    model = make_exported()
    teach(model, QUESTION, POEM)
    return model


def _prompt(text: str, **wanted: object) -> Prompt:
    return Prompt([{"role": "user", "content": text}], **wanted)  # type: ignore[arg-type]


def _ids(exported: ExportedModel, prompt: Prompt) -> list[int]:
    return PromptTokens(cast(PreTrainedTokenizerFast, exported.tokenizer)).ids(prompt.messages)


def test_a_learned_answer_is_recalled_to_the_letter_and_stops_at_the_end_of_the_turn(taught: ExportedModel) -> None:
    (answer,) = generation.answer(taught, [_prompt(QUESTION, answer=POEM, recall=True)], max_new_tokens=60)
    assert answer.text == POEM
    assert answer.finish_reason == "stop"
    assert answer.exact
    assert figures([answer])[0]["recall_count"] == 1.0


def test_a_prompt_that_writes_out_control_tokens_is_asked_as_text() -> None:
    prompt = _prompt("a</s><|im_start|>")
    ids = _ids(make_exported(), prompt)
    # As many positions as the text has tokens: control tokens, which are fewer, would leave room.
    (answer,) = generation.answer(make_exported(positions=len(ids)), [prompt], max_new_tokens=4)
    assert answer.finish_reason == "no_room"
    assert ids.count(4) == 1
    assert len(ids) > len(_ids(make_exported(), _prompt("a__")))


def test_a_prompt_that_the_template_refuses_is_told_of_and_no_crash() -> None:
    # The live version may have another template than the run, whose prompts prepare has put to its own.
    exported = make_exported()
    exported.tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(ValueError, match=r"^p\.jsonl:1: the chat template refuses .*: System role not supported"):
        generation.answer(exported, [_prompt(QUESTION, source="p.jsonl:1")], max_new_tokens=4)


def test_an_answer_is_the_same_alone_and_in_a_batch_of_other_lengths(taught: ExportedModel) -> None:
    prompts = [_prompt(text) for text in (QUESTION, "a", "月" * 30, "the quick brown fox", "花落知多少" * 3)]
    together = generation.answer(taught, prompts, max_new_tokens=24)
    alone = [generation.answer(taught, [prompt], max_new_tokens=24)[0] for prompt in prompts]
    assert together == alone


@contextmanager
def computed_rows(exported: ExportedModel) -> Iterator[list[int]]:
    """Yields how many rows each forward pass of a model has had."""
    rows: list[int] = []

    def note(_module: object, _inputs: object, named: dict[str, Any]) -> None:
        rows.append(named["input_ids"].shape[0])

    hook = exported.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield rows
    finally:
        hook.remove()


def test_what_has_ended_is_not_computed_any_further(taught: ExportedModel) -> None:
    prompts = [_prompt(QUESTION)] * 7 + [_prompt("the quick brown fox")]
    with computed_rows(taught) as rows:
        answers = generation.answer(taught, prompts, max_new_tokens=50)
    assert [answer.text for answer in answers[:7]] == [POEM] * 7
    assert (answers[7].tokens, answers[7].finish_reason) == (50, "length")
    assert answers[0].tokens < generation.PART_TOKENS * 2 < 50
    # The first of all is one token behind one prompt.
    assert rows[1] == 8
    assert sum(rows) <= 1 + 8 * generation.PART_TOKENS * 2 + 50


def test_prompts_with_room_for_different_numbers_of_tokens_are_computed_together(taught: ExportedModel) -> None:
    prompts = [_prompt("x" * length) for length in (70, 72, 74, 76, 78)]
    with computed_rows(taught) as rows:
        together = generation.answer(taught, prompts, max_new_tokens=100)
    rooms = [128 - len(_ids(taught, prompt)) for prompt in prompts]
    assert len(set(rooms)) == 5
    assert [answer.tokens for answer in together] == rooms
    assert rows[1] == 5
    assert len(rows) == 1 + max(rooms)
    assert together == [generation.answer(taught, [prompt], max_new_tokens=100)[0] for prompt in prompts]


def _with_learned_positions() -> ExportedModel:
    """A model that cannot take a position that it has not learned."""
    words = make_tokenizer()
    config = GPT2Config(vocab_size=448, n_positions=128, n_embd=64, n_layer=2, n_head=2, initializer_range=0.2)
    torch.manual_seed(0)
    return ExportedModel(GPT2LMHeadModel(config).eval(), words, end_ids(words))


def _with_a_sliding_window() -> ExportedModel:
    made = make_exported()
    config = MistralConfig(**{**made.model.config.to_dict(), "sliding_window": 12})
    torch.manual_seed(0)
    return replace(made, model=MistralForCausalLM(config).eval())


def _with_states() -> ExportedModel:
    """A model that keeps no keys and values."""
    words = make_tokenizer()
    config = MambaConfig(vocab_size=448, hidden_size=64, num_hidden_layers=2, state_size=8, initializer_range=0.2)
    config.max_position_embeddings = 128
    torch.manual_seed(0)
    return ExportedModel(MambaForCausalLM(config).eval(), words, end_ids(words))


@pytest.mark.parametrize("make", [_with_learned_positions, _with_a_sliding_window])
def test_answers_of_other_models_are_the_same_alone_and_together(make: Callable[[], ExportedModel]) -> None:
    made = make()
    prompts = [_prompt(text) for text in ("x" * 70, QUESTION, "月" * 20, "the quick brown fox", "x" * 74)]
    together = generation.answer(made, prompts, max_new_tokens=60)
    assert len({answer.tokens for answer in together}) > 1
    assert together == [generation.answer(made, [prompt], max_new_tokens=60)[0] for prompt in prompts]


def test_a_model_that_keeps_other_than_keys_and_values_answers_as_ever() -> None:
    made = _with_states()
    prompts = [_prompt(text) for text in (QUESTION, QUESTION, "x" * 90)]
    with computed_rows(made) as rows:
        first, second, long = generation.answer(made, prompts, max_new_tokens=40)
    assert first == second
    assert long.tokens == 128 - len(_ids(made, prompts[2]))
    assert max(rows) == 2, "those that have the same room"


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_A_a_model_without_a_finite_score_writes_no_answer_and_finds_none_likely(value: float) -> None:
    broken = make_exported()
    with torch.no_grad():
        broken.model.get_output_embeddings().weight[5].fill_(value)
    with pytest.raises(ValueError, match="NaN or infinite"):
        generation.answer(broken, [_prompt(QUESTION)], max_new_tokens=4)
    task = TransformersEngine(broken, "as a task asks").for_tasks()
    with pytest.raises(ValueError, match="of 2 of 2 answers is NaN or infinite"):
        task.likelihoods([("the", " dog"), ("the", " fox")])
    with pytest.raises(ValueError, match="NaN or infinite"):
        task.writings([("the", {"until": [], "tokens": 4})])


def test_an_answer_ends_after_max_new_tokens(taught: ExportedModel) -> None:
    (answer,) = generation.answer(taught, [_prompt(QUESTION)], max_new_tokens=3)
    assert answer.tokens == 3
    assert answer.finish_reason == "length"
    assert POEM.startswith(answer.text.rstrip("\ufffd"))


def test_a_prompt_that_fills_the_model_gets_no_answer_and_takes_none_from_the_others(taught: ExportedModel) -> None:
    answers = generation.answer(
        taught, [_prompt("月光" * 200, source="p.jsonl:1"), _prompt(QUESTION)], max_new_tokens=60
    )
    long, short = answers
    assert (long.text, long.finish_reason) == ("", "no_room")
    assert short.text == POEM
    metrics, missing = figures(answers)
    assert metrics == {}
    assert missing.keys() == set(METRICS)
    assert missing["recall_count"] == (
        "1 of 2 prompts could not be asked: each fills the model alone, such as p.jsonl:1"
    )


def test_the_room_for_a_prompt_is_what_the_model_takes_and_not_the_window_of_perplexity() -> None:
    model = make_exported(positions=4096)
    prompts = [_prompt("a" * 2500), _prompt("b" * 3000)]
    assert min(len(_ids(model, prompt)) for prompt in prompts) > MAX_WINDOW
    answers = generation.answer(model, prompts, max_new_tokens=2)
    assert [answer.tokens for answer in answers] == [2, 2]


THINK = Reasoning(start="<think>", end="</think>")


@pytest.mark.parametrize(
    ("text", "opened", "said"),
    [
        ("<think>\n\n</think>\n\n" + POEM, False, POEM),
        ("床前\n</think>\n" + POEM, True, POEM),
        (POEM, False, POEM),
        ("<think>it never ends", False, ""),
        (POEM, True, ""),
    ],
)
def test_an_answer_is_what_follows_the_reasoning(text: str, opened: bool, said: str) -> None:
    answer = Answer(_prompt(QUESTION, answer=POEM, recall=True), text, 9, "stop", THINK, opened)
    assert answer.said.strip() == said
    assert answer.exact is (said == POEM)
    assert answer.row["answer"] == answer.said


def test_what_a_model_that_marks_no_reasoning_answers_is_compared_whole() -> None:
    assert not Answer(_prompt(QUESTION, answer=POEM), "<think></think>" + POEM, 9, "stop").exact


def test_the_reasoning_of_a_wanted_answer_is_not_asked_for() -> None:
    wanted = "<think>so</think>\n" + POEM
    assert Answer(_prompt(QUESTION, answer=wanted), POEM, 9, "stop", THINK).exact
    row = Answer(_prompt(QUESTION, answer=wanted), "<think>else</think>" + POEM, 9, "stop", THINK).row
    assert (row["answer"], row["reasoning"], row["exact"]) == (POEM, "else", True)


def test_nor_is_it_where_the_prompt_has_ended_the_reasoning() -> None:
    prompt = _prompt(QUESTION, answer="<think>so</think>\n" + POEM)
    assert Answer(prompt, POEM, 9, "stop", THINK, closed=True).exact
    assert not Answer(prompt, prompt.answer or "", 9, "stop", THINK, closed=True).exact


def test_reasoning_alone_is_an_empty_answer() -> None:
    metrics, _ = figures([Answer(_prompt(QUESTION), "<think>\n\n</think>\n", 9, "stop", THINK)])
    assert metrics["empty_rate"] == 1.0


def test_arguments_and_marks_of_the_artifact_are_those_of_its_answers() -> None:
    model = make_exported()
    words = model.tokenizer
    words.chat_template = str(words.chat_template).replace(
        "{%- if add_generation_prompt %}", "{%- if add_generation_prompt %}{{- TELL }}"
    )
    words.init_kwargs["slipway_chat"] = {"arguments": {"TELL": "<think>"}, "reasoning": THINK.model_dump()}
    prompt = _prompt(QUESTION)
    assert "<think><|im_start|>assistant" in words.decode(_ids(model, prompt))
    words.chat_template = str(words.chat_template).replace("{{- TELL }}", "")
    assert not generation.answer(model, [prompt], max_new_tokens=2)[0].opened
    words.chat_template = "{{ TELL }}"
    (answer,) = generation.answer(model, [prompt], max_new_tokens=2)
    assert (answer.opened, answer.said) == (True, "")


def test_the_repetition_penalty_that_is_served_is_judged_and_sees_no_padding(taught: ExportedModel) -> None:
    penalised = replace(taught, repetition_penalty=5.0)
    prompts = [_prompt(text) for text in (QUESTION, "a", "月" * 30)]
    together = generation.answer(penalised, prompts, max_new_tokens=24)
    assert together != generation.answer(taught, prompts, max_new_tokens=24)
    for prompt, answer in zip(prompts, together, strict=True):
        assert generation.answer(penalised, [prompt], max_new_tokens=24) == [answer]
        ids = torch.tensor([_ids(taught, prompt)])
        alike = GenerationConfig(
            max_new_tokens=24, do_sample=False, repetition_penalty=5.0, eos_token_id=taught.end_tokens, pad_token_id=2
        )
        theirs = taught.model.generate(inputs=ids, attention_mask=torch.ones_like(ids), generation_config=alike)
        assert taught.tokenizer.decode(theirs[0, ids.shape[1] :], skip_special_tokens=True) == answer.text


def test_an_answer_never_goes_past_the_positions_of_the_model() -> None:
    model = make_exported(positions=32)
    prompt = _prompt("a" * 12)
    used = len(_ids(model, prompt))
    (answer,) = generation.answer(model, [prompt], max_new_tokens=500)
    assert 0 < answer.tokens <= 32 - used


def test_a_tokenizer_without_a_chat_template_is_refused(taught: ExportedModel) -> None:
    model = make_exported()
    model.tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        generation.answer(model, [_prompt("a")], max_new_tokens=4)
