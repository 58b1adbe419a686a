"""data.normalization and data.deduplicate, from files to shards, report and duplicates.jsonl."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.plans_of_data import causal, chat, chatting, numbered, plan, text, tree, workspace, write_rows

from slipway_trainer.batches.shards import Shards
from slipway_trainer.data.reading import json_lines
from slipway_trainer.prepare import prepare, prepare_report
from slipway_trainer.step.errors import BadData, Overlap
from slipway_trainer.tokens import tokenizer

SAID: list[str] = []


def run(folder: Path, made: Any, **options: Any) -> tuple[Any, Any]:
    found = workspace(folder, made)
    SAID.clear()
    prepare.run(made, found, attempt=1, say=SAID.append, **options)
    return found, json.loads(found.prepared.read_text())


def learned(found: Any, stage: str = "pretrain", split: str = "train") -> list[str]:
    words, shards = tokenizer.load(found), Shards.open(found.stage(stage).data(split))
    texts = [words.decode(shards.document(n)[0]) for n in range(shards.n_documents)]
    return [own.removeprefix("<s>").removesuffix("</s>") for own in texts]


def duplicates(found: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in found.duplicates.read_text().splitlines()]


def near(count: int) -> tuple[str, str]:
    """Two texts of which 2 words differ."""
    rng = random.Random(count)
    words = ["".join(rng.choices("abcdefgh", k=2)) for _ in range(count)]
    return " ".join(words), " ".join([*words[:-2], "other", "end"])


def test_texts_are_learned_in_the_forms_that_are_asked_for_and_the_report_counts_them(tmp_path):
    source = write_rows(tmp_path / "a.jsonl", text(" cafe\u0301\r\nb \n"), text("plain"), text("cafe\u0301"))
    made = plan(causal(source, normalization=["Strip", "LineEnds", "NFC"]))
    found, report = run(tmp_path / "run", made)
    assert learned(found) == ["café\nb", "plain", "café"]
    counts = report["stages"]["pretrain"]["train"]
    assert (counts["normalized"], counts["normalized_by"]) == (2, {"LineEnds": 1, "NFC": 2, "Strip": 1})
    assert prepare_report.metrics(report)["pretrain_train_normalized"] == 2
    assert any("2 changed by data.normalization: LineEnds 1, NFC 2, Strip 1" in line for line in SAID)


def test_what_validates_is_measured_as_what_is_learned_and_what_is_held_out_as_it_is(tmp_path):
    own = write_rows(tmp_path / "v.jsonl", text(" valid\r\n"))
    held = write_rows(tmp_path / "h.jsonl", text(" held out\r\n"))
    train = write_rows(tmp_path / "a.jsonl", text(" a\r\n"))
    made = plan(causal(train, normalization=["Strip"], validation={"data": [{"uri": own}]}), data=[{"uri": held}])
    found, _ = run(tmp_path / "run", made)
    assert learned(found, split="validation") == ["valid"]
    (document,) = map(json.loads, found.evaluation_documents.read_text().splitlines())
    assert document["text"] == " held out\r\n"


def test_C_held_out_text_is_found_in_training_text_that_is_normalized(tmp_path):
    words = "one two three four five six seven eight cafe"
    train = write_rows(tmp_path / "a.jsonl", text(f" {words}\u0301\r\n"))
    held = write_rows(tmp_path / "h.jsonl", text(f"{words}\u0301"))
    made = plan(causal(train, normalization=["NFC", "Strip", "LineEnds"]), data=[{"uri": held}])
    with pytest.raises(Overlap):
        run(tmp_path / "run", made)


def test_turns_are_normalized_and_two_stages_may_read_one_file_each_in_its_own_way(tmp_path):
    source = write_rows(tmp_path / "a.jsonl", chat(" hello ", " world\r\n"))
    made = plan(
        chatting(source, name="raw", max_length=128),
        chatting(source, name="clean", normalization=["Strip"], max_length=128),
    )
    found, report = run(tmp_path / "run", made)
    raw, clean = learned(found, "raw")[0], learned(found, "clean")[0]
    assert " world\r\n" in raw
    assert " world" not in clean
    assert "world" in clean
    assert [report["stages"][name]["train"]["normalized"] for name in ("raw", "clean")] == [0, 1]


@pytest.mark.parametrize(("asked", "stay"), [("None", [1, 2, 3, 4, 5]), ("Exact", [1, 2, 4, 5]), ("Near", [1, 4])])
def test_rows_that_say_the_same_are_left_out_as_asked(tmp_path, asked, stay):
    first, other = near(40)
    rows = {1: first, 2: f"{first}!", 3: first, 4: "something else", 5: other}
    names = {
        n: write_rows(tmp_path / f"{n // 3}" / "a.jsonl", *(text(rows[m]) for m in rows if m // 3 == n // 3))
        for n in rows
    }
    made = plan(causal(*dict.fromkeys(names.values()), deduplicate=asked, max_length=128))
    found, report = run(tmp_path / "run", made)
    assert learned(found) == [rows[n] for n in stay]
    counts = report["stages"]["pretrain"]["train"]
    assert counts["rows"] == len(stay)
    assert (counts.get("deduplicated", 0), counts.get("deduplicated_near", 0)) == {
        "None": (0, 0), "Exact": (1, 0), "Near": (3, 2),
    }[asked]  # fmt: skip
    assert counts["duplicates"] == {"None": 2, "Exact": 1, "Near": 0}[asked]
    if asked == "None":
        assert not found.duplicates.exists()
        return
    pairs = duplicates(found)
    assert [(pair["rule"], pair["text"]) for pair in pairs] == [
        (rule, rows[n][:100]) for n, rule in ((2, "near"), (3, "exact"), (5, "near")) if n not in stay
    ]
    assert {pair["of"].rsplit("/", 2)[-2:][0] + pair["of"][-2:] for pair in pairs} == {"0:1"}
    assert counts["deduplicated_examples"] == pairs
    assert prepare_report.metrics(report)["pretrain_train_deduplicated"] == len(pairs)


def test_normalized_rows_are_compared(tmp_path):
    source = write_rows(tmp_path / "a.jsonl", text("a b"), text("a b\n"), text("c"))
    found, _ = run(tmp_path / "run", plan(causal(source, deduplicate="Exact", normalization=["Strip"])))
    assert learned(found) == ["a b", "c"]


def test_conversations_are_left_out_whole(tmp_path):
    source = write_rows(tmp_path / "a.jsonl", chat("a", "b"), chat("a", "b", "c", "d"), chat("a", "b"))
    found, report = run(tmp_path / "run", plan(chatting(source, deduplicate="Exact", max_length=128)))
    assert report["stages"]["sft"]["train"]["rows"] == 2
    assert [(row["row"][-2:], row["of"][-2:], row["text"]) for row in duplicates(found)] == [(":3", ":1", "a")]


@pytest.mark.parametrize("asked", ["Exact", "Near"])
def test_D_whatever_the_number_of_processes_and_of_attempts_the_bytes_are_the_same(tmp_path, monkeypatch, asked):
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", 500)
    rows = numbered(40)
    both = [*rows, *(text(row["text"] + " more") for row in rows[:20]), *rows[10:30]]
    source = write_rows(tmp_path / "a.jsonl", *both)
    made = plan(causal(source, deduplicate=asked, validation={"fraction": 0.1}))
    found, report = run(tmp_path / "one", made, workers=1)
    run(tmp_path / "two", made, workers=2)
    counts = report["stages"]["pretrain"]
    assert counts["train"]["rows"] + counts["validation"]["rows"] == (60 if asked == "Exact" else 40)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    # As an attempt that was killed leaves it.
    found.prepared.unlink()
    (found.root / ".duplicates.jsonl.tmp-1").write_text("half")
    prepare.run(made, found, attempt=2, say=lambda _: None)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_split_that_is_left_with_one_row_says_why(tmp_path):
    source = write_rows(tmp_path / "a.jsonl", text("a"), text("a"))
    made = plan(causal(source, deduplicate="Exact", validation={"fraction": 0.5}))
    with pytest.raises(BadData, match=r"a single distinct document .* data\.deduplicate: Exact left out 1 more"):
        run(tmp_path / "run", made)
