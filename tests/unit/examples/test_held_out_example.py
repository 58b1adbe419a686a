"""The example with conversations, references, slices and a task, judged on a tiny model that has learned nothing."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.examples.evaluated import evaluated

from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.status import Verdict


def test_every_gate_of_the_example_is_computed_from_its_rows(tmp_path: Path) -> None:
    found = evaluated("held-out.yaml", tmp_path, ["evaluation.maxNewTokens=4"], positions=512)
    assert not [line for line in found.said if "WARNING" in line]
    judged = found.judgement
    assert judged.verdict is Verdict.FAIL
    assert {one.title for one in judged.metrics} >= {
        "chat_bits_per_byte of source chats, slice five",
        "chrf of source couplets",
        "acc of task line-end",
    }
    assert all(one.value is not None for one in judged.metrics)
    poems = {one.title: one.clusters for one in judged.metrics}
    assert (poems["bits_per_byte of source poems"], poems["chat_bits_per_byte of source chats"]) == (40, 40)
    report = json.loads(Workspace(tmp_path).report(1).read_text(encoding="utf-8"))
    figures = report["candidate"]["bounds"]
    assert (figures["exact_match"]["n"], figures["exact_match"]["clusters"]) == (80, 40)
    assert {"bleu", "chrf", "rouge_l", "regex_match", "language_match", "answer_length"} <= figures.keys()
    (task,) = report["candidate"]["tasks"]
    assert (task["task"], task["documents"]) == ("line-end", 80)
