"""Which data a gate is measured on: one digest, that changes with what makes the gate easier and with nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from tests.unit.trainer.plans_of_data import causal, numbered, plan, workspace, write_rows

from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.task import HarnessTask
from slipway_trainer.data import gate_data
from slipway_trainer.data.held_out import HeldTask
from slipway_trainer.harness.description import Copied, Described, Metric, Wanted
from slipway_trainer.prepare import harness_tasks, prepare
from slipway_trainer.prepare.harness_tasks import CopiedTask, KnownTask
from slipway_trainer.step.errors import BadData, DamagedShard

Rows = list[dict[str, Any]]

POEMS = [{"text": f"清晨入古寺，初日照高林{n}。", "slice": "even" if n % 2 == 0 else "odd"} for n in range(8)]
CHATS = [
    {
        "messages": [
            {"role": "user", "content": f"问{n}"},
            {"role": "assistant", "content": f"曲径通幽处，禅房花木深{n}。"},
        ]
    }
    for n in range(4)
]
SUMS = [{"prompt": f"{n} + {n}?", "answer": str(2 * n), "slice": "hard" if n > 2 else "easy"} for n in range(6)]
EITHER = {"prompt": "0 + 0?", "answers": ["0", "1"], "slice": "easy"}
KNOWN = [{"prompt": f"背诵第{n}首", "answer": f"山光悦鸟性{n}"} for n in range(3)]

TEXT = {"metric": "bits_per_byte", "source": "poems", "max": 9}
OF_SLICE = {**TEXT, "slice": "even"}
ALL_TEXTS = {"metric": "perplexity", "max": 1e6}
CHAT = {"metric": "chat_bits_per_byte", "max": 9}
SUM = {"metric": "exact_match", "source": "sums", "min": 0}
RECALLED = {"metric": "recall_rate", "min": 0}
WRITTEN = {"metric": "empty_rate", "max": 1}
GATES = [TEXT, OF_SLICE, ALL_TEXTS, CHAT, SUM, RECALLED, WRITTEN]
NAMES = ("text", "slice", "all texts", "chat", "sum", "recall", "written")


def prepared(folder: Path, **changes: Any) -> tuple[StepResult, Workspace, Any]:
    """A run that was prepared, of sources and settings that a test changes."""
    files = {"poems": POEMS, "chats": CHATS, "sums": SUMS, "known": KNOWN, "more": [], **changes.pop("rows", {})}
    uris = {name: write_rows(folder / f"{changes.pop(name, name)}.jsonl", *rows) for name, rows in files.items()}
    evaluation = {
        "data": [{"uri": uris["poems"], "name": "poems"}, {"uri": uris["chats"], "name": "chats"}],
        "prompts": [{"uri": uris["sums"], "name": "sums"}, {"uri": uris["known"], "name": "known", "recall": True}],
        "gates": GATES,
        **changes,
    }
    if files["more"]:
        evaluation["data"].append({"uri": uris["more"], "name": "more"})
    made = plan(causal(write_rows(folder / "train.jsonl", *numbered(20))), **evaluation)
    found = workspace(folder / "run", made)
    return prepare.run(made, found, attempt=1, workers=1, say=lambda _: None), found, made


def digests(folder: Path, **changes: Any) -> dict[str, str]:
    return dict(zip(NAMES, prepared(folder, **changes)[0].gate_data, strict=True))


def test_each_part_has_a_digest_of_its_own_wherever_its_files_lie(tmp_path: Path) -> None:
    found = digests(tmp_path / "a")
    assert len({found[name] for name in ("text", "slice", "chat", "sum", "recall", "written")}) == 6
    assert found["all texts"] == found["text"], "a source is all the texts that there are"
    assert digests(tmp_path / "b", poems="other-name", sums="sums-of-may") == found


def test_the_order_of_rows_and_the_names_of_clusters_are_nothing_to_it(tmp_path: Path) -> None:
    def clustered(*names: str) -> Rows:
        return [{**row, "cluster": names[n % 2]} for n, row in enumerate(POEMS)]

    one = digests(tmp_path / "a", rows={"poems": clustered("x", "y")})
    assert digests(tmp_path / "b", rows={"poems": clustered("page-1", "page-2")[::-1]}) == one
    alone = [{**row, "cluster": f"c{n}"} for n, row in enumerate(POEMS)]
    assert digests(tmp_path / "c", rows={"poems": alone}) == digests(tmp_path / "d"), "each is a piece by itself"


def test_another_source_beside_it_leaves_the_digest_of_a_source_as_it_is(tmp_path: Path) -> None:
    before = digests(tmp_path / "a")
    # One document stands in both sources.
    more = [{"text": f"潭影空人心{n}，万籁此都寂。"} for n in range(3)] + [{"text": POEMS[0]["text"]}]
    after = digests(tmp_path / "b", rows={"more": more})
    assert {name for name in NAMES if before[name] != after[name]} == {"all texts"}


def _first(rows: Rows, **fields: Any) -> Rows:
    return [{**rows[0], **fields}, *rows[1:]]


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"rows": {"poems": POEMS[:-1]}}, {"text", "all texts"}),
        ({"rows": {"poems": [*POEMS, POEMS[0]]}}, {"text", "slice", "all texts"}),
        ({"rows": {"poems": _first(POEMS, text="一一一一一一一一一一一一")}}, {"text", "slice", "all texts"}),
        ({"rows": {"poems": _first(POEMS, slice="odd")}}, {"slice"}),
        # Rows that belong together are one piece: apart they make bounds narrower than they are.
        ({"rows": {"poems": [{**row, "cluster": "all"} for row in POEMS]}}, {"text", "slice", "all texts"}),
        ({"rows": {"chats": [{**CHATS[0], "messages": [*CHATS[0]["messages"], *CHATS[1]["messages"]]}]}}, {"chat"}),
        ({"rows": {"sums": _first(SUMS, answer="1")}}, {"sum", "written"}),
        ({"rows": {"sums": [EITHER, *SUMS[1:]]}}, {"sum", "written"}),
        ({"rows": {"sums": _first(SUMS, tolerance=1e9)}}, {"sum", "written"}),
        ({"rows": {"known": KNOWN[:-1]}}, {"recall", "written"}),
        # One token repeats nothing, and is never too long.
        ({"maxNewTokens": 1}, {"sum", "recall", "written"}),
    ],
)  # fmt: skip
def test_A_whatever_makes_a_gate_easier_is_another_digest(
    tmp_path: Path, changes: dict[str, Any], changed: set[str]
) -> None:
    before = digests(tmp_path / "a")
    after = digests(tmp_path / "b", **changes)
    assert {name for name in NAMES if before[name] != after[name]} == changed


def test_A_held_out_rows_that_training_has_are_left_out_and_are_missed(tmp_path: Path) -> None:
    """Who trains on the hard documents and drops them where they are held out has an easier gate."""
    before = digests(tmp_path / "a")
    folder = tmp_path / "b"
    train = causal(write_rows(folder / "train.jsonl", *numbered(20), {"text": POEMS[0]["text"]}))
    uri = write_rows(folder / "poems.jsonl", *POEMS)
    made = plan(train, data=[{"uri": uri, "name": "poems"}], gates=[TEXT], onOverlap="Drop")
    (found,) = prepare.run(made, workspace(folder / "run", made), attempt=1, workers=1, say=lambda _: None).gate_data
    assert found != before["text"]


def test_an_attempt_that_finds_all_done_tells_the_same(tmp_path: Path) -> None:
    first, found, made = prepared(tmp_path)
    again = prepare.run(made, found, attempt=2, held_out=first.held_out_digest, say=lambda _: None)
    assert again.gate_data == first.gate_data


@pytest.mark.parametrize(
    ("harm", "error"), [(lambda path: path.write_text("{}\n"), DamagedShard), (Path.unlink, BadData)]
)
def test_A_it_is_made_of_the_copies_as_they_were_written(
    tmp_path: Path, harm: Callable[[Path], Any], error: type[Exception]
) -> None:
    _, found, made = prepared(tmp_path)
    copies = json.loads(found.prepared.read_text())["evaluation"]["copies"]
    harm(found.evaluation_documents)
    with pytest.raises(error, match=r"documents\.jsonl"):
        gate_data.of_gates(made, found, copies)


# ------------------------------------------------------------------------------------------------ tasks

SUMS_TASK = Described("sums", "test", "train", 2, {"acc": Metric(share=True, higher=True)}, None, None, "0.4.13", "1.0")
QUESTIONS = [{"question": f"{n} + {n}?", "choices": [str(n), str(2 * n)], "gold": 1} for n in range(6)]


def of_task(
    folder: Path,
    *,
    rows: Rows = QUESTIONS,
    examples: Rows = QUESTIONS,
    limit: int | None = None,
    left_out: tuple[int, ...] = (),
    definition: str | None = "task: sums\n",
    compression: str = "snappy",
    **described: Any,
) -> str:
    """The digest of a gate on a task whose copies lie where prepare leaves them."""
    found = Workspace(folder)
    found.evaluation_data.mkdir(parents=True)
    files = {"test": "task-sums-test.parquet", "train": "task-sums-train.parquet"}
    for split, own in (("test", rows), ("train", examples)):
        table = pyarrow.Table.from_pylist(own)
        parquet.write_table(table, found.evaluation_data / files[split], compression=compression)
    known = replace(SUMS_TASK, **described)
    asked = HarnessTask(name="sums", limit=limit)
    texts = [row["question"] for row in rows]
    task = CopiedTask(KnownTask(0, asked, Wanted("sums", definition, own_data=True), known), Copied(files, texts))
    kept = [HeldTask("sums", number, text) for number, text in enumerate(texts) if number not in left_out]
    copies = harness_tasks.publish([task], kept, found)
    made = plan(
        causal("file:///none.jsonl"),
        tasks=[{"name": "sums"}],
        gates=[{"metric": "acc", "task": "sums", "min": 0.5}, {"metric": "acc", "task": "sums", "min": 0.9}],
    )
    one, two = gate_data.of_gates(made, found, copies)
    assert one == two
    return one


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": QUESTIONS[:-1]},
        # The right answer stays, and the wrong one is none.
        {"rows": [{**QUESTIONS[0], "choices": ["", "0"]}, *QUESTIONS[1:]]},
        {"examples": QUESTIONS[::-1]},
        {"limit": 3},
        {"fewshot": 5},
        {"left_out": (0,)},
        {"definition": "task: sums\ndoc_to_text: '{{gold}}'\n"},
        {"judged": "train"},
        {"revision": "2.0"},
    ],
)
def test_A_whatever_makes_a_task_easier_is_another_digest(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert of_task(tmp_path / "a") != of_task(tmp_path / "b", **changes)


def test_a_tasks_digest_is_of_its_rows_and_not_of_who_wrote_them_down(tmp_path: Path) -> None:
    assert of_task(tmp_path / "a") == of_task(tmp_path / "b", compression="zstd", version="0.5.0")
