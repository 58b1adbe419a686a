"""Tokens that a run adds: found in its data, kept with its tokenizer, and told where no stage learns them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.trainer.plans_of_data import causal, numbered, plan, text, workspace, write_rows

from slipway_core.protocol.workspace import Workspace
from slipway_trainer.batches.shards import Shards
from slipway_trainer.prepare import prepare
from slipway_trainer.step.errors import BadConfig
from slipway_trainer.tokens import tokenizer

SCRATCH = {"hiddenSize": 64, "heads": 2, "maxLength": 128, "tokenizer": {"train": {"vocabSize": 300}}}


def prepared(folder: Path, *tokens: str) -> tuple[Workspace, list[str]]:
    first = write_rows(folder / "a.jsonl", *numbered(8), text("a <tool>call</tool> of it"))
    second = write_rows(folder / "b.jsonl", *numbered(8, 20), text("one <note> more"))
    stages: list[dict[str, Any]] = [causal(first), causal(second, name="second")]
    made = plan(*stages, model={"scratch": SCRATCH, "addTokens": list(tokens)})
    found, said = workspace(folder / "run", made), []
    prepare.run(made, found, attempt=1, workers=1, say=said.append)
    return found, said


def test_they_are_single_tokens_of_the_shards_and_those_that_no_stage_holds_are_told(tmp_path: Path) -> None:
    found, said = prepared(tmp_path, "<tool>", "</tool>", "<never>", "<note>")
    words = tokenizer.load(found)
    ids: Any = words.convert_tokens_to_ids(["<tool>", "</tool>", "<never>", "<note>"])
    learned = [np.asarray(Shards.open(found.stage(name).data("train")).tokens) for name in ("pretrain", "second")]
    assert [int((learned[0] == one).sum()) for one in ids] == [1, 1, 0, 0]
    assert [int((learned[1] == one).sum()) for one in ids] == [0, 0, 0, 1]
    (warning,) = [line for line in said if line.startswith("WARNING")]
    assert warning == "WARNING: model.addTokens: no training data holds <never>: nothing is learned of what it says"


def test_where_all_are_learned_nothing_is_told(tmp_path: Path) -> None:
    _, said = prepared(tmp_path, "<tool>", "<note>")
    assert not [line for line in said if line.startswith("WARNING")]


def test_one_that_the_tokenizer_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"model\.addTokens: '</s>': the tokenizer has it as a token already"):
        prepared(tmp_path, "<tool>", "</s>")
