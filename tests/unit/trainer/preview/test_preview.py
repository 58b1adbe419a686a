"""What a preview says of a plan is what prepare and the training then do."""

import json
import random
import subprocess
import sys

import pytest
from tests.unit.trainer.plans_of_data import causal, chat, chatting, numbered, plan, text, workspace, write_rows
from tests.unit.trainer.tiny_model import make_model, make_tokenizer

from slipway_core.protocol.preview import Preview
from slipway_trainer.batches import row_stream
from slipway_trainer.batches.row_stream import RowStream
from slipway_trainer.batches.shards import Shards
from slipway_trainer.data import passage_sample
from slipway_trainer.data.text import units
from slipway_trainer.prepare import prepare
from slipway_trainer.preview import preview, sampled_file
from slipway_trainer.preview.beside import Beside
from slipway_trainer.preview.preview import Wanted
from slipway_trainer.step.errors import BadConfig, BadData
from slipway_trainer.tokens import tokenizer

CHATS = [chat(f"what is {n}?", f"it is {n} " * (1 + n % 30), "and then?", f"then {n}") for n in range(60)]


def previewed(made, **wanted):
    with Beside(apart=False) as beside:
        return preview.of_plan(made, Wanted(**{"device": "H100", **wanted}), beside, lambda line: None)


def prepared(folder, made):
    found = workspace(folder / "run", made)
    prepare.run(made, found, attempt=1, say=lambda line: None)
    return found, json.loads(found.prepared.read_text())


def test_of_data_that_is_looked_at_whole_it_says_what_prepare_makes_and_how_far_the_training_goes(tmp_path):
    made = plan(
        causal(write_rows(tmp_path / "a.jsonl", *numbered(300)), validation={"fraction": 0.1}),
        chatting(write_rows(tmp_path / "b.jsonl", *CHATS), max_length=48),
    )
    seen = previewed(made)
    found, report = prepared(tmp_path, made)
    assert (seen.problems, seen.sampled) == ([], 1.0)
    for stage, view in zip(made.stages, seen.stages, strict=True):
        counts = report["stages"][stage.name]["train"]
        assert view.tokens.value == counts["tokens"]
        assert view.learned.value == counts["learned_tokens"]
        assert view.documents.value == counts["documents"]
        shards = Shards.open(found.stage(stage.name).data("train"))
        extent = row_stream.extent(stage, RowStream(shards, seed=stage.seed, max_length=stage.max_length))
        assert (view.cost.extent.steps, view.cost.extent.sequences) == (extent.steps, extent.sequences)
    assert seen.stages[0].validation_tokens.value == report["stages"]["pretrain"]["validation"]["tokens"]
    cut = next(fate for fate in seen.stages[1].fates if "cut" in fate.what)
    assert cut.rows.value == report["stages"]["sft"]["train"]["truncated"] > 0
    assert cut.examples[0].startswith(str(tmp_path / "b.jsonl"))
    longer = sum(fate.rows.value for fate in seen.stages[1].fates if "maxLength" in fate.what)
    assert seen.stages[1].lengths.above == pytest.approx(longer / 60, abs=1e-5)


def test_the_shown_rows_are_the_text_of_the_shards_with_what_is_learned_apart(tmp_path):
    made = plan(chatting(write_rows(tmp_path / "a.jsonl", chat("who?", "床前明月光 me 🙂"))))
    row = previewed(made).stages[0].shown[0]
    found, _ = prepared(tmp_path, made)
    tokens, learn = Shards.open(found.stage("sft").data("train")).document(0)
    words = tokenizer.load(found)
    assert "".join(piece.text for piece in row.texts[0]) == words.decode(tokens)
    shown = "".join(piece.text for piece in row.texts[0] if "Learned" in piece.layer)
    assert shown == words.decode(tokens[learn]) == "床前明月光 me 🙂<|im_end|>"
    assert [piece.text for piece in row.texts[0] if piece.layer == "SpecialLearned"] == ["<|im_end|>"]
    assert all("\ufffd" not in piece.text for piece in row.texts[0])


def test_of_a_text_all_but_its_first_token_is_learned(tmp_path):
    pieces = previewed(plan(causal(write_rows(tmp_path / "a.jsonl", text("one two"))))).stages[0].shown[0].texts[0]
    assert (pieces[0].text, pieces[0].layer) == ("<s>", "Special")
    assert "".join(piece.text for piece in pieces[1:]) == "one two</s>"
    assert all("Learned" in piece.layer for piece in pieces[1:])


def test_all_that_would_end_the_run_is_named_at_once_and_the_rest_is_shown(tmp_path):
    bad, good = tmp_path / "bad.jsonl", tmp_path / "good.jsonl"
    held = write_rows(tmp_path / "held.jsonl", *numbered(2))
    made = plan(
        causal(write_rows(bad, text("fine"), b"{no json\n"), write_rows(good, *numbered(20))),
        chatting(write_rows(tmp_path / "chat.jsonl", chat("who?", "me"), {"text": "no chat"})),
        data=[{"uri": held}],
    )
    seen = previewed(made)
    assert any(f"{bad}:2: not JSON" in problem for problem in seen.problems)
    assert any(f"{tmp_path}/chat.jsonl:2" in problem for problem in seen.problems)
    assert any("2 of 2 held-out documents stand in the training data" in problem for problem in seen.problems)
    assert len(seen.held_out.overlaps) == 2
    assert seen.stages[0].tokens.value > 0
    assert seen.stages[1].tokens.value == 0
    assert [view.form for view in seen.stages[0].files] == ["Text", "Text"]


def test_what_is_most_likely_not_meant_is_a_warning(tmp_path):
    long = {"prompt": "word " * 200, "completion": "end"}
    rows = [chat("who?", f"me {n} " * 40) | {"chapter": n} for n in range(4)]
    made = plan(
        causal(write_rows(tmp_path / "a.jsonl", long), max_length=16),
        chatting(write_rows(tmp_path / "b.jsonl", *rows), max_length=32),
    )
    warned = "\n".join(previewed(made).warnings)
    assert "have no token that is learned: their prompts are longer than maxLength 16" in warned
    assert "100% of the rows lose answers or their end to maxLength 32" in warned
    assert "the field 'chapter' of 4 of 4 rows is not used" in warned


def test_of_large_data_a_part_is_looked_at_and_its_estimates_hold_within_their_margins(tmp_path, monkeypatch):
    rng = random.Random(3)
    short = [text(" ".join(f"w{rng.randrange(50)}" for _ in range(rng.randrange(2, 40)))) for _ in range(2000)]
    long = [text(" ".join(f"w{rng.randrange(50)}" for _ in range(rng.randrange(100, 300)))) for _ in range(500)]
    made = plan(
        causal(
            write_rows(tmp_path / "a.jsonl", *short),
            write_rows(tmp_path / "b.jsonl", *long),
            write_rows(tmp_path / "c.jsonl", text("whole")),
        )
    )
    whole = previewed(made)
    monkeypatch.setattr(sampled_file, "SAMPLE_BYTES", 60_000)
    part = previewed(made)
    assert part.sampled < 0.3
    files = part.stages[0].files
    assert [file.rows for file in files] == [2000, 500, 1]
    assert files[2].looked_at == 1
    for name in ("tokens", "learned", "documents"):
        true, guess = getattr(whole.stages[0], name), getattr(part.stages[0], name)
        # The tokenizer that is trained of a part has other words; on this text, nearly the same.
        assert abs(guess.value - true.value) < guess.margin + 0.02 * true.value
        assert 0 < guess.margin < 0.1 * true.value
    assert part.stages[0].cost.extent.steps == pytest.approx(whole.stages[0].cost.extent.steps, rel=0.1)


def test_a_margin_is_of_what_is_learned_of_the_rows_and_not_of_what_is_cut_from_them(tmp_path, monkeypatch):
    rng = random.Random(5)
    rows = [chat(f"{n}?", f"{n}", "more?", "w " * rng.choice([60, 6000])) for n in range(400)]
    made = plan(chatting(write_rows(tmp_path / "a.jsonl", *rows), max_length=64))
    monkeypatch.setattr(sampled_file, "SAMPLE_BYTES", 600_000)
    view = previewed(made).stages[0]
    assert view.files[0].looked_at < 200
    for told in (view.tokens, view.learned):
        assert 0 < told.margin < 0.1 * told.value


def test_hours_and_memory_are_those_of_the_device_that_is_named(tmp_path):
    uri = write_rows(tmp_path / "a.jsonl", *numbered(50))
    large = {"scratch": {"hiddenSize": 2048, "layers": 24, "heads": 16, "tokenizer": {"train": {"vocabSize": 300}}}}
    seen = previewed(plan(causal(uri), model=large))
    cost = seen.stages[0].cost
    assert seen.device == "H100"
    assert cost.memory.precision == "BF16"
    state = ("weights", "master weights", "optimizer", "gradients")
    assert sum(part.device for part in cost.memory.parts if part.name in state) == 18 * cost.parameters
    assert cost.memory.processes == 1
    assert cost.hours is not None
    assert "989 TFLOP/s" in cost.speed
    assert previewed(plan(causal(uri)), tokens_per_second=10.0).stages[0].cost.hours == pytest.approx(
        seen.stages[0].tokens.value / 36000, rel=0.01
    )
    with pytest.raises(BadConfig, match=r"--device H1000: is not known. These are: CPU, T4"):
        previewed(plan(causal(uri)), device="H1000")


def test_what_cannot_fit_is_refused_with_what_would(tmp_path):
    uri = write_rows(tmp_path / "a.jsonl", *numbered(50))
    shape = {"hiddenSize": 4096, "layers": 32, "heads": 32, "tokenizer": {"train": {"vocabSize": 300}}}
    (refused,) = previewed(plan(causal(uri), model={"scratch": shape})).problems
    assert refused.startswith("stages[")
    assert "does not fit into the GPU's memory" in refused
    assert "would make it fit" in refused
    divided = previewed(plan(causal(uri), model={"scratch": shape}), processes=8)
    assert divided.problems == []
    assert divided.stages[0].cost.memory.processes == 8


def test_a_preview_of_a_new_model_does_not_wait_for_torch(tmp_path):
    made = plan(causal(write_rows(tmp_path / "a.jsonl", *numbered(50))))
    (tmp_path / "plan.json").write_text(made.to_json(), encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from slipway_trainer.step import startup; startup.prepare_process();"
        "from slipway_trainer.preview.main import write;"
        "code = write(Path('plan.json'), Path('seen.json'), device='H100', tokens_per_second=None, rows=3);"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    seen = Preview.model_validate_json((tmp_path / "seen.json").read_text(encoding="utf-8"))
    assert seen.stages[0].cost.parameters > 100_000


def test_a_stage_after_one_with_an_adapter_trains_all_weights(tmp_path):
    uri = write_rows(tmp_path / "a.jsonl", *numbered(20))
    costs = [
        stage.cost for stage in previewed(plan(causal(uri, name="a") | {"adapter": {}}, causal(uri, name="b"))).stages
    ]
    assert costs[0].trained < costs[0].parameters
    assert costs[1].trained == costs[1].parameters


def test_data_that_is_not_there_is_named_and_nothing_is_shown(tmp_path):
    seen = previewed(plan(causal(f"file://{tmp_path}/none.jsonl")))
    assert any("there is no such file" in problem for problem in seen.problems)
    assert seen.stages[0].tokens.value == 0


def test_a_folder_of_two_kinds_of_files_is_named_where_the_model_is_one_that_exists(tmp_path):
    base = tmp_path / "base"
    make_model(words := make_tokenizer()).save_pretrained(str(base))
    words.save_pretrained(str(base))
    (tmp_path / "mixed").mkdir()
    write_rows(tmp_path / "mixed" / "a.jsonl", text("one"))
    (tmp_path / "mixed" / "b.txt").write_text("two")
    seen = previewed(plan(causal(f"file://{tmp_path}/mixed"), model={"from": f"file://{base}"}))
    assert any("mixed" in problem and ".txt" in problem for problem in seen.problems)
    assert seen.stages[0].tokens.value == 0


@pytest.mark.parametrize("too_long", ["Auto", "Drop"])
def test_data_of_which_nothing_is_learned_is_refused_as_prepare_refuses_it(tmp_path, too_long):
    uri = write_rows(tmp_path / "a.jsonl", *(chat(f"what is {n}? " * 9, "it is so") for n in range(4)))
    short = write_rows(tmp_path / "b.jsonl", chat("a", "b"))
    for made in (
        plan(chatting(uri, max_length=16) | {"tooLong": too_long}),
        plan(chatting(short, max_length=32, validation={"data": [{"uri": uri}]}) | {"tooLong": too_long}),
        plan(
            {"name": "mix", "objective": "Chat", "maxLength": 32, "steps": 2, "tooLong": too_long}
            | {"data": {"train": [{"uri": uri, "proportion": 0.5}, {"uri": short, "proportion": 0.5}]}}
        ),
    ):
        with pytest.raises(BadData) as refused:
            prepared(tmp_path, made)
        assert previewed(made).problems == [str(refused.value)]


def test_what_a_gate_can_show_is_told_and_one_that_no_model_can_pass_is_a_warning_of_both(tmp_path):
    uri, asked = (
        write_rows(tmp_path / "a.jsonl", *numbered(30)),
        write_rows(tmp_path / "p.jsonl", *({"prompt": f"what is {n}?", "answer": str(n)} for n in range(20))),
    )
    gates = [{"metric": "exact_match", "min": 0.85}, {"metric": "empty_rate", "max": 0.01}]
    made = plan(causal(uri), prompts=[{"uri": asked}], gates=gates)
    seen = previewed(made)
    assert [(one.gate, one.says) for one in seen.held_out.gates] == [
        ("exact_match >= 0.85", "20 prompts: passes only with 20 of 20 right"),
        ("empty_rate <= 0.01", "20 prompts: no model can pass"),
    ]
    assert [one.never for one in seen.held_out.gates] == ["", "evaluation.gates[1] (empty_rate)"]
    (warning,) = [line for line in seen.warnings if "can never pass" in line]
    assert seen.problems == []
    said: list[str] = []
    prepare.run(made, workspace(tmp_path / "run", made), attempt=1, say=said.append)
    assert f"WARNING: {warning}" in said


@pytest.mark.parametrize("where", [None, "training", "held out", "prompts"])
def test_how_tools_are_called_is_said_where_some_stand_in_the_data(tmp_path, where):
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}

    def row(n, at):
        asked = {"role": "user", "content": f"what is {n}?"}
        turns = [asked] if at == "prompts" else [asked, {"role": "assistant", "content": f"it is {n}"}]
        return {"messages": turns} | ({"tools": [tool]} if at == where else {})

    scratch = {"hiddenSize": 64, "heads": 2, "maxLength": 1024, "tokenizer": {"train": {"vocabSize": 400}}}
    made = plan(
        chatting(write_rows(tmp_path / "a.jsonl", *(row(n, "training") for n in range(30)))) | {"maxLength": 1024},
        model={"scratch": scratch},
        data=[{"uri": write_rows(tmp_path / "h.jsonl", *(row(n, "held out") for n in range(100, 110)))}],
        prompts=[{"uri": write_rows(tmp_path / "p.jsonl", *(row(n, "prompts") for n in range(200, 210)))}],
        gates=[{"metric": "empty_rate", "max": 0.9, "confidence": 0.5}],
    )
    said: list[str] = []
    with Beside(apart=False) as beside:
        assert preview.of_plan(made, Wanted(device="H100"), beside, said.append).problems == []
    assert ("answers call tools in the form of hermes" in said) is (where is not None)


def test_a_gate_that_too_few_rows_leave_inconclusive_is_told_as_one_that_no_model_passes(tmp_path):
    uri = write_rows(tmp_path / "a.jsonl", *numbered(30))
    asked = write_rows(tmp_path / "p.jsonl", *({"prompt": f"what is {n}?", "answer": str(n)} for n in range(7)))
    gates = [{"metric": "exact_match", "min": 0.1}, {"metric": "exact_match", "min": 0.1, "confidence": 0.5}]
    seen = previewed(plan(causal(uri), prompts=[{"uri": asked}], gates=gates))
    assert [one.never for one in seen.held_out.gates] == ["evaluation.gates[0] (exact_match)", ""]


def test_held_out_documents_that_are_left_out_are_counted_and_no_pair_is_cut_without_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr(preview, "MOST_OVERLAPS", 2)
    uri = write_rows(tmp_path / "a.jsonl", *numbered(20))
    held = write_rows(tmp_path / "h.jsonl", *numbered(3), *numbered(2, start=20))
    view = previewed(plan(causal(uri), data=[{"uri": held}], onOverlap="Drop")).held_out
    assert (view.documents, view.left_out.documents, len(view.overlaps), view.more) == (5, 3, 2, 1)


def warned_by_prepare(folder, made):
    """Returns what prepare warns of that gates rest on."""
    return {line for line in prepared(folder, made)[1]["warnings"] if line.startswith("evaluation.gates")}


@pytest.mark.parametrize("left", [0, 1, 7, 8, 20])
@pytest.mark.parametrize("kind", ["documents", "conversations"])
def test_a_gate_rests_on_what_is_left_of_its_rows_as_prepare_has_it(tmp_path, kind, left):
    count, apart = 31, 31 - left
    talks = kind == "conversations"
    rows = [chat(f"what is {n}?", row["text"]) if talks else row for n, row in enumerate(numbered(count))]
    unit = {"metric": "chat_bits_per_byte" if talks else "bits_per_byte"}
    made = plan(
        causal(write_rows(tmp_path / "a.jsonl", *numbered(apart), *numbered(30, start=100))),
        chatting(write_rows(tmp_path / "b.jsonl", *(chat(f"say {n}", f"it is {n}") for n in range(5)))),
        data=[{"uri": write_rows(tmp_path / "h.jsonl", *rows)}],
        gates=[{**unit, "max": 20}, {**unit, "max": 20, "confidence": 0.5}],
        onOverlap="Drop",
    )
    seen = previewed(made)
    assert seen.problems == []
    told = {line for line in seen.warnings if line.startswith("evaluation.gates")}
    assert told == warned_by_prepare(tmp_path, made)
    assert len(told) == (2 if left == 0 else left < 8)
    by_bounds, as_it_is = seen.held_out.gates
    assert bool(by_bounds.never) is (left < 8)
    assert bool(as_it_is.never) is (left == 0)
    none = f"none of its {count} {kind} is left: inconclusive whatever is measured"
    for one in (by_bounds, as_it_is):
        assert one.says == none if left == 0 else one.says.startswith(f"{left} {kind}")
        assert one.unsure == ""


def test_of_gates_on_data_of_which_a_part_was_looked_at_it_says_that_prepare_may_leave_more_out(tmp_path, monkeypatch):
    asked = write_rows(tmp_path / "p.jsonl", *({"prompt": f"what is {n}?", "answer": str(n)} for n in range(20)))
    fields = {
        "data": [{"uri": write_rows(tmp_path / "h.jsonl", *numbered(31))}],
        "prompts": [{"uri": asked}],
        "gates": [{"metric": "bits_per_byte", "max": 20}, {"metric": "empty_rate", "max": 0.5}],
    }
    trained = causal(write_rows(tmp_path / "a.jsonl", *numbered(300, start=100), *numbered(30)))
    assert {one.unsure for one in previewed(plan(trained, **fields, onOverlap="Drop")).held_out.gates} == {""}
    monkeypatch.setattr(sampled_file, "SAMPLE_BYTES", 500)
    part = previewed(plan(trained, **fields, onOverlap="Drop"))
    texts, prompts = part.held_out.gates
    assert part.sampled < 1
    assert texts.unsure == (
        f"{part.sampled:.1%} of the training rows were looked at: prepare leaves out what stands in the others too "
        "(onOverlap: Drop)"
    )
    assert prompts.unsure == "", "no prompt is left out"
    assert {one.unsure for one in previewed(plan(trained, **fields)).held_out.gates} == {""}, "prepare refuses"


def test_fields_that_are_not_used_are_named_or_counted(tmp_path):
    row = text("a ship") | dict.fromkeys("uvwxy", 1)
    warned = previewed(plan(causal(write_rows(tmp_path / "a.jsonl", row)))).warnings
    assert [line.partition("jsonl: ")[2] for line in warned] == [
        *(f"the field {name!r} of 1 of 1 rows is not used" for name in "uvw"),
        "nor are 2 other fields",
    ]


def test_texts_that_say_nothing_are_counted_and_tokens_are_those_of_the_others(tmp_path):
    rows = [text(""), *numbered(10), text("\n"), text("")]
    held = {"uri": write_rows(tmp_path / "h.jsonl", text(""), text("a held-out text of several words"))}
    made = plan(causal(write_rows(tmp_path / "a.jsonl", *rows)), data=[held])
    found = previewed(made)
    assert not found.problems
    assert [line.rpartition("/")[2] for line in found.warnings if "empty" in line] == [
        "h.jsonl: rows whose text is empty, or white space alone, are left out: 1",
        "a.jsonl: rows whose text is empty, or white space alone, are left out: 3 of 13",
    ]
    assert found.held_out.documents == 1
    _, report = prepared(tmp_path, made)
    assert found.stages[0].tokens.value == report["stages"]["pretrain"]["train"]["tokens"]
    assert report["stages"]["pretrain"]["train"]["rows"] == 10


def test_a_mixture_is_told_by_source(tmp_path):
    data = {
        "train": [
            {"uri": write_rows(tmp_path / "a.jsonl", *numbered(100)), "proportion": 0.75},
            {"uri": write_rows(tmp_path / "b.jsonl", *numbered(100, start=100)), "proportion": 0.25},
        ]
    }
    made = plan({"name": "mix", "data": data, "maxLength": 128, "steps": 20, "batch": {"sequences": 4}})
    cost = previewed(made).stages[0].cost
    _, report = prepared(tmp_path, made)
    told = report["stages"]["mix"]["train"]["sources"]
    assert cost.extent.steps == 20
    for view, source in zip(cost.sources, told, strict=True):
        assert view.share == pytest.approx(source["share"], abs=0.01)
        least, most = source["seen"]
        assert least - 0.1 <= view.times <= most + 0.1


@pytest.mark.parametrize("how", ["Exact", "Near"])
def test_rows_that_are_left_out_and_changed_are_counted_as_prepare_does(tmp_path, how):
    rows = [*numbered(60), *numbered(10), text("cafe\u0301 " + numbered(1, start=60)[0]["text"])]
    uri = write_rows(tmp_path / "a.jsonl", *rows)
    made = plan(causal(uri, deduplicate=how, normalization=["NFC"]))
    view = previewed(made).stages[0]
    _, report = prepared(tmp_path, made)
    counts = report["stages"]["pretrain"]["train"]
    assert view.tokens.value == counts["tokens"]
    told = {fate.what: fate.rows.value for fate in view.fates}
    assert told["say the same as one before them: left out by data.deduplicate"] == 10
    assert told["changed by data.normalization"] == 1
    assert view.duplicates == 0


def test_validation_data_that_is_learned_too_is_warned_of_with_its_number(tmp_path):
    train = write_rows(tmp_path / "a.jsonl", *CHATS)
    other = write_rows(tmp_path / "b.jsonl", *CHATS[:2], chat("new?", "it is new"))
    warnings = {
        uri: [line for line in previewed(made).warnings if "data.validation.data" in line]
        for uri in (train, other)
        for made in [plan(chatting(train, validation={"data": [{"uri": uri}]}))]
    }
    assert warnings[train][0].startswith("stage sft: 60 of 60 documents of data.validation.data stand in its training")
    assert warnings[other][0].startswith("stage sft: 2 of 3 documents of data.validation.data stand in its training")
    own = plan(chatting(train, validation={"fraction": 0.1}))
    assert not any("data.validation.data" in line for line in previewed(own).warnings)


TEXTS = [{**one, "slice": "even" if n % 2 else "odd"} for n, one in enumerate(numbered(20, start=400))]
ASKED = [
    {"prompt": "17 + 25?", "answer": "42", "cluster": "sums"},
    {"prompt": "3 + 4?", "answers": ["7", "seven"], "cluster": "sums", "tolerance": 1},
    {"prompt": "a word", "answer": "keel", "schema": "no schema, but a field of the user's own"},
]
RECALLED = [{"prompt": "say it", "answer": "what was learned on purpose"}]
SPOKEN = [chat(f"tell me {n}", one["text"]) for n, one in enumerate(numbered(9, start=600))]
GATES = [
    {"metric": "perplexity", "max": 9},
    {"metric": "bits_per_byte", "max": 9},
    {"metric": "bits_per_byte", "max": 9, "slice": "even"},
    {"metric": "chat_bits_per_byte", "source": "talk", "max": 9},
    {"metric": "exact_match", "min": 0.1},
    {"metric": "recall_count", "min": 1},
    {"metric": "empty_rate", "max": 0.5},
]


def evaluated(folder, **more):
    """Returns fields of an evaluation of every kind."""
    return {
        "data": [
            {"uri": write_rows(folder / "held.jsonl", *TEXTS)},
            {"uri": write_rows(folder / "talk.jsonl", *SPOKEN), "name": "talk"},
        ],
        "prompts": [
            {"uri": write_rows(folder / "asked.jsonl", *ASKED)},
            {"uri": write_rows(folder / "recalled.jsonl", *RECALLED), "recall": True},
        ],
        "gates": GATES,
        **more,
    }


def told_by_prepare(folder, made):
    """Returns the digests of what gates are measured on, as prepare tells them."""
    return prepare.run(made, workspace(folder / "run", made), attempt=1, say=lambda line: None).gate_data


def digests_of(seen):
    return [one.digest for one in seen.held_out.gate_data]


def test_A_of_each_gate_it_tells_the_digest_of_its_data_that_prepare_tells(tmp_path):
    made = plan(causal(write_rows(tmp_path / "a.jsonl", *numbered(40))), **evaluated(tmp_path))
    seen = previewed(made)
    assert seen.problems == []
    assert digests_of(seen) == told_by_prepare(tmp_path, made)
    assert [(one.gate, one.unsure) for one in seen.held_out.gate_data][2:4] == [
        ("bits_per_byte of slice even <= 9", ""),
        ("chat_bits_per_byte of source talk <= 9", ""),
    ]
    assert len(set(digests_of(seen))) == len(GATES) - 1, "the first two count the same rows"


def test_A_what_is_left_out_of_a_gates_data_is_left_out_of_its_digest(tmp_path, monkeypatch):
    data = [*numbered(40), *TEXTS[:3], *(chat("x", turns["conversations"][1]["content"]) for turns in SPOKEN[:1])]
    whole = plan(
        causal(write_rows(tmp_path / "a.jsonl", *data[:-1])),
        chatting(write_rows(tmp_path / "b.jsonl", *data[-1:]), max_length=128),
        **evaluated(tmp_path, onOverlap="Drop"),
    )
    seen = previewed(whole)
    told = told_by_prepare(tmp_path, whole)
    gone = seen.held_out.left_out
    assert (gone.documents, gone.conversations, gone.of_tasks, digests_of(seen)) == (3, 1, 0, told)
    assert {one.unsure for one in seen.held_out.gate_data} == {""}
    monkeypatch.setattr(sampled_file, "SAMPLE_BYTES", 500)
    part = previewed(whole)
    assert part.sampled < 1
    assert all("prepare leaves out what stands in the others too" in one.unsure for one in part.held_out.gate_data)


def test_A_of_a_base_that_cannot_be_read_nobody_knows_what_it_has_learned_of_a_gates_data(tmp_path, monkeypatch):
    base, away = tmp_path / "base", tmp_path / "away"
    words = make_tokenizer()
    make_model(words).save_pretrained(base)
    words.save_pretrained(base)
    sample = passage_sample.Collector(passage_sample.below(1))
    sample.add(passage_sample.of([units(one["text"]) for one in TEXTS[:2]], passage_sample.below(1)))
    (base / passage_sample.NAME).write_bytes(sample.result().to_bytes())

    def told(on_overlap):
        trained = causal(write_rows(tmp_path / "a.jsonl", *numbered(40)))
        made = plan(trained, **evaluated(tmp_path, onOverlap=on_overlap), model={"from": f"file://{base}"})
        return previewed(made)

    whole = told("Drop")
    assert {one.unsure for one in whole.held_out.gate_data} == {""}
    base.rename(away)
    seen = told("Drop")
    assert digests_of(seen)[0] != digests_of(whole)[0], "two texts fewer"
    assert any(str(base) in problem for problem in seen.problems)
    assert {one.unsure for one in seen.held_out.gate_data} == {
        "the base model was not looked at: prepare leaves out what it has learned (onOverlap: Drop), and tells another "
        "digest then"
    }
    assert {one.unsure for one in told("Refuse").held_out.gate_data} == {""}, "prepare leaves nothing out"
    monkeypatch.setattr(sampled_file, "SAMPLE_BYTES", 500)
    (unsure,) = {one.unsure for one in told("Drop").held_out.gate_data}
    assert unsure.startswith("the base model was not looked at: prepare leaves out what it has learned; ")
    assert "of the training rows were looked at" in unsure


def test_A_of_data_that_cannot_be_read_and_of_a_gate_without_rows_it_tells_no_digest(tmp_path):
    trained = causal(write_rows(tmp_path / "a.jsonl", *numbered(40)))
    nowhere = [{"metric": "bits_per_byte", "max": 9}, {"metric": "bits_per_byte", "max": 9, "slice": "nowhere"}]
    seen = previewed(plan(trained, **evaluated(tmp_path, gates=nowhere)))
    known, none = seen.held_out.gate_data
    assert (known.digest is None, none.digest, none.unsure) == (False, None, "it has no rows")
    broken = evaluated(tmp_path, data=[{"uri": write_rows(tmp_path / "broken.jsonl", b"{no json\n")}])
    seen = previewed(plan(trained, **broken | {"gates": [GATES[0]], "prompts": []}))
    assert (len(seen.problems), seen.held_out.gate_data) == (1, [])
