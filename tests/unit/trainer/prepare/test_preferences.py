"""Pairs of answers, from their rows to shards and to what a preview shows of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tests.unit.trainer.plans_of_data import chatting, plan, text, workspace, write_rows
from tests.unit.trainer.preview.test_preview import previewed

from slipway_trainer.batches import collate, packing
from slipway_trainer.batches.shards import Shards
from slipway_trainer.prepare import prepare
from slipway_trainer.step.errors import BadData
from slipway_trainer.tokens import tokenizer

PAIR = {"prompt": "who?", "chosen": "me", "rejected": "nobody"}
ASKED = "<s><|im_start|>user\nwho?<|im_end|>\n<|im_start|>assistant\n"
TEXTS = [(ASKED, "me<|im_end|>"), (ASKED, "nobody<|im_end|>")]
USER, ME, NOBODY = (
    {"role": r, "content": c} for r, c in (("user", "who?"), ("assistant", "me"), ("assistant", "nobody"))
)
PAIRS = [{"prompt": f"what is {n}?", "chosen": f"it is {n}", "rejected": "no " * (1 + n % 9)} for n in range(40)]


def preferring(*uris: str, **settings: Any) -> dict[str, Any]:
    stage = {name: settings.pop(name) for name in ("tooLong",) if name in settings}
    return chatting(*uris, name="prefer", **settings) | {"objective": "Preference"} | stage


def prepared(folder: Any, made: Any, said: list[str] | None = None) -> tuple[Any, Any]:
    found = workspace(folder / "run", made)
    prepare.run(made, found, attempt=1, say=(said if said is not None else []).append)
    return found, json.loads(found.prepared.read_text())["stages"]["prefer"]


def texts(found: Any, split: str = "train") -> list[list[tuple[str, str]]]:
    """Of each pair both texts: what is seen, and what is learned."""
    words, shards = tokenizer.load(found), Shards.open(found.stage("prefer").data(split))
    return [
        [
            (str(words.decode(tokens[~learn])), str(words.decode(tokens[learn])))
            for tokens, learn in shards.texts(number)
        ]
        for number in range(shards.n_documents)
    ]


@pytest.mark.parametrize(
    "row",
    [
        PAIR,
        {"prompt": [USER], "chosen": [ME], "rejected": NOBODY},
        {"chosen": [USER, ME], "rejected": [USER, NOBODY]},
        # As UltraFeedback has them: whole conversations beside their prompt.
        {"prompt": "who?", "chosen": [USER, ME], "rejected": [USER, NOBODY]},
    ],
)
def test_both_answers_are_learned_as_a_chat_learns_them(tmp_path: Any, row: Any) -> None:
    said: list[str] = []
    found, report = prepared(tmp_path, plan(preferring(write_rows(tmp_path / "a.jsonl", row))), said)
    assert texts(found) == [TEXTS]
    counts = report["train"]
    assert (counts["rows"], counts["documents"]) == (1, 1)
    assert counts["learned_tokens"] == sum(
        int(learn.sum()) for _, learn in Shards.open(found.stage("prefer").data("train")).texts(0)
    )
    assert any(line.startswith("prefer/train: 1 rows (Preference), ") for line in said)
    rows = write_rows(tmp_path / "chat.jsonl", {"messages": [USER, ME]}, {"messages": [USER, NOBODY]})
    chats = workspace(tmp_path / "chats", made := plan(chatting(rows, name="prefer")))
    prepare.run(made, chats, attempt=1, say=lambda _: None)
    assert texts(chats) == [[own] for own in TEXTS]


def test_the_system_turn_of_a_row_stands_in_both_texts(tmp_path: Any) -> None:
    row = PAIR | {"system": "be short"}
    found, _ = prepared(tmp_path, plan(preferring(write_rows(tmp_path / "a.jsonl", row), max_length=128)))
    assert all("system\nbe short" in seen for seen, _ in texts(found)[0])


def test_pairs_of_one_prompt_are_set_aside_together(tmp_path: Any) -> None:
    rows = [PAIRS[n] | {"rejected": f"no{' no' * more}"} for n in range(20) for more in range(3)]
    uri = write_rows(tmp_path / "a.jsonl", *rows)
    found, report = prepared(tmp_path, plan(preferring(uri, validation={"fraction": 0.25})))
    assert (report["train"]["documents"], report["validation"]["documents"]) == (45, 15)
    train, aside = ({pair[0][0] for pair in texts(found, split)} for split in ("train", "validation"))
    assert len(train) == 15
    assert not train & aside


def test_pairs_of_a_single_prompt_cannot_be_divided(tmp_path: Any) -> None:
    uri = write_rows(tmp_path / "a.jsonl", PAIR, PAIR | {"rejected": "you"})
    with pytest.raises(BadData, match=r"pairs of a single prompt\) cannot be split"):
        prepared(tmp_path, plan(preferring(uri, validation={"fraction": 0.25})))


def test_validation_pairs_are_set_aside_whole(tmp_path: Any) -> None:
    uri = write_rows(tmp_path / "a.jsonl", *PAIRS)
    found, report = prepared(tmp_path, plan(preferring(uri, validation={"fraction": 0.25})))
    assert (report["train"]["documents"], report["validation"]["documents"]) == (30, 10)
    train, aside = texts(found), texts(found, "validation")
    assert all(len(pair) == 2 for pair in train + aside)
    assert len({str(pair) for pair in train + aside}) == 40


@pytest.mark.parametrize("too_long", ["Auto", "Drop", "Refuse"])
def test_a_pair_that_is_too_long_goes_whole_and_is_counted(tmp_path: Any, too_long: str) -> None:
    uri = write_rows(tmp_path / "a.jsonl", PAIR | {"rejected": "nobody " * 40}, PAIR)
    made = plan(preferring(uri, tooLong=too_long))
    if too_long == "Refuse":
        with pytest.raises(BadData, match=r"a\.jsonl:1: the row takes \d+ tokens and maxLength is 64"):
            prepared(tmp_path, made)
        return
    found, report = prepared(tmp_path, made)
    assert texts(found) == [TEXTS]
    assert (report["train"]["rows"], report["train"]["documents"], report["train"]["dropped"]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (PAIR | {"rejected": "me"}, "1: chosen and rejected say the same. Remove the row"),
        (PAIR | {"rejected": "me "}, "1: chosen and rejected say the same after data.normalization. Remove the row"),
        (PAIR | {"rejected": None}, "1: 'rejected' is null. Preference learns from"),
        ({"prompt": "who?", "chosen": "me"}, "1: no 'rejected': it has 'prompt', 'chosen'"),
        ({"messages": [USER, ME]}, "1: the rows are Messages, which objective: Chat learns from"),
        (text("who?"), "1: the rows are Text, which objective: CausalLM learns from"),
        (
            PAIR | {"chosen": [USER, ME]},
            "1: chosen begins with the turn of 'user'; it is what is said after the prompt",
        ),
        (
            {"prompt": "who?", "chosen": [ME, USER, NOBODY], "rejected": [{**ME, "weight": 0}, USER, NOBODY]},
            "1: the chat template renders chosen and rejected alike. Remove the row",
        ),
        (PAIR | {"chosen": {**ME, "weight": 0}}, "1: every assistant turn of chosen has weight 0 or train false"),
    ],
)
def test_a_row_that_says_no_preference_is_refused_with_its_line(tmp_path: Any, row: Any, message: str) -> None:
    made = plan(preferring(write_rows(tmp_path / "a.jsonl", row), normalization=["Strip"]))
    with pytest.raises(BadData, match=message):
        prepared(tmp_path, made)


def test_chat_says_which_objective_learns_preferences(tmp_path: Any) -> None:
    with pytest.raises(BadData, match=r"the rows are preferences .*, which objective: Preference learns from"):
        prepared(tmp_path, plan(chatting(write_rows(tmp_path / "a.jsonl", PAIR), name="prefer")))


def test_a_preview_shows_both_answers_and_counts_pairs_as_prepare_does(tmp_path: Any) -> None:
    uri = write_rows(tmp_path / "a.jsonl", *PAIRS, PAIRS[0] | {"rejected": "no " * 60})
    made = plan(preferring(uri))
    view = previewed(made).stages[0]
    found, report = prepared(tmp_path, made)
    assert (view.documents.value, view.tokens.value, view.learned.value) == tuple(
        report["train"][name] for name in ("documents", "tokens", "learned_tokens")
    )
    shown = ["".join(piece.text for piece in own) for own in view.shown[0].texts]
    assert shown == [seen + learned for seen, learned in texts(found)[0]]
    assert [fate.rows.value for fate in view.fates if "left out" in fate.what] == [1]


def test_a_batch_has_both_answers_of_a_pair_and_knows_which_is_which(tmp_path: Any) -> None:
    found, _ = prepared(tmp_path, plan(preferring(write_rows(tmp_path / "a.jsonl", *PAIRS))))
    shards = Shards.open(found.stage("prefer").data("train"))
    reference = np.arange(2 * shards.n_documents, dtype=np.float32).reshape(-1, 2)
    bins = packing.pack(shards.lengths, 64)
    for packed in (True, False):
        batch = collate.batch(shards, bins, [0, 1], max_length=64, pad_id=0, packed=packed, reference=reference)
        assert batch.pairs is not None
        assert batch.pairs.reference is not None
        numbers = np.concatenate([bins.row(0), bins.row(1)])
        assert batch.counted == batch.pairs.count == len(numbers)
        assert batch.pairs.reference.tolist() == reference[numbers].reshape(-1).tolist()
        learned = [tokens[learn] for number in numbers for tokens, learn in shards.texts(number)]
        for answer, tokens in enumerate(learned):
            assert batch.targets[batch.pairs.answers == answer].tolist() == tokens.tolist()
        assert len(batch.input_ids) == (2 if packed else 2 * len(numbers))
