import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from tests.unit.trainer.plans_of_data import causal, chat, chatting, numbered, plan, text, tree, workspace, write_rows
from tests.unit.trainer.tiny_model import with_a_hole
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from slipway_core.protocol import artifact
from slipway_core.protocol.sketch import HASHES, hashes_of, sketch_of
from slipway_trainer.batches.shards import Shards
from slipway_trainer.data.held_out import digest_of_copies
from slipway_trainer.data.reading import json_lines
from slipway_trainer.model import lineage
from slipway_trainer.prepare import prepare
from slipway_trainer.step.errors import BadConfig, BadData, BadModel, Overlap, StepFailure
from slipway_trainer.tokens import tokenizer

POEM = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"
OTHER = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。"
THIRD = "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。"


def run(folder: Path, made, **options):
    found = workspace(folder, made)
    prepare.run(made, found, attempt=1, say=lambda _: None, **options)
    return found, json.loads(found.prepared.read_text())


def failure(folder: Path, made) -> StepFailure:
    with pytest.raises(StepFailure) as raised:
        run(folder, made)
    assert not (folder / "prepare.json").exists()
    return raised.value


def test_documents_become_tokens_with_bos_and_eos_all_of_them_targets(tmp_path):
    made = plan(causal(write_rows(tmp_path / "a.jsonl", text(f"    {POEM}\r\n"), text(OTHER))))
    found, report = run(tmp_path / "run", made)
    words, shards = tokenizer.load(found), Shards.open(found.stage("pretrain").data("train"))
    for index, expected in enumerate((f"    {POEM}\r\n", OTHER)):
        tokens, learn = shards.document(index)
        assert words.decode(tokens) == f"<s>{expected}</s>"
        assert learn.all()
    counts = report["stages"]["pretrain"]["train"]
    assert (counts["rows"], counts["documents"], counts["tokens"]) == (2, 2, shards.n_tokens)
    assert counts["learned_tokens"] == shards.n_tokens - 2
    assert counts["digest"] == shards.digest
    assert report["tokenizer"]["vocabulary"] == len(words)


def test_a_long_document_is_split_so_that_every_token_is_learned_once(tmp_path):
    made = plan(causal(write_rows(tmp_path / "a.jsonl", text(POEM * 6)), max_length=16))
    found, report = run(tmp_path / "run", made)
    shards = Shards.open(found.stage("pretrain").data("train"))
    pieces = [shards.document(n)[0].tolist() for n in range(shards.n_documents)]
    assert all(len(piece) == 16 for piece in pieces[:-1])
    assert 2 <= len(pieces[-1]) <= 16
    # The first token of a document has no label: the targets of all pieces are the document without its first token.
    words = tokenizer.load(found)
    assert [token for piece in pieces for token in piece[1:]] == [*words(POEM * 6)["input_ids"][1:], words.eos_token_id]
    assert report["stages"]["pretrain"]["train"]["split"] == 1


def test_conversations_learn_their_answers_alone(tmp_path):
    made = plan(
        chatting(
            write_rows(tmp_path / "a.jsonl", chat("背诵《夜思》", "床前明月光", "more", "疑是地上霜")), max_length=128
        )
    )
    found, _ = run(tmp_path / "run", made)
    words = tokenizer.load(found)
    tokens, learn = Shards.open(found.stage("sft").data("train")).document(0)
    assert words.decode(tokens[learn]) == "床前明月光<|im_end|>疑是地上霜<|im_end|>"
    assert words.decode(tokens).startswith("<s><|im_start|>user\n背诵《夜思》<|im_end|>\n")


def test_every_kind_of_source_of_several_stages_is_read(tmp_path):
    import gzip

    folder = tmp_path / "data"
    write_rows(folder / "b.jsonl", *numbered(3))
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps(text(POEM)).encode()))
    chats = write_rows(tmp_path / "chats.jsonl", chat("hi", "hello"))
    made = plan(
        causal(f"file://{folder}", f"file://{folder}/*.jsonl"),
        chatting(chats),
        causal(chats[:-11] + "data", name="more"),
    )
    _, report = run(tmp_path / "run", made)
    stages = report["stages"]
    assert [stages[name]["train"]["rows"] for name in ("pretrain", "sft", "more")] == [7, 1, 4]
    assert [entry["name"].rsplit("/", 1)[1] for entry in stages["pretrain"]["train"]["files"]] == [
        "a.jsonl.gz", "b.jsonl", "b.jsonl",
    ]  # fmt: skip
    assert stages["pretrain"]["train"]["duplicates"] == 3


def test_weights_are_kept_beside_their_documents(tmp_path):
    stage = causal(write_rows(tmp_path / "a.jsonl", *numbered(2)))
    stage["data"]["train"] += [{"uri": write_rows(tmp_path / "b.jsonl", *numbered(3, 2)), "weight": 0.5}]
    found, _ = run(tmp_path / "run", plan(stage))
    assert Shards.open(found.stage("pretrain").data("train")).weights.tolist() == [1, 1, 0.5, 0.5, 0.5]


def documents_of(found, split: str) -> set[str]:
    words, shards = tokenizer.load(found), Shards.open(found.stage("pretrain").data(split))
    return {words.decode(shards.document(n)[0], skip_special_tokens=True) for n in range(shards.n_documents)}


def test_a_fraction_is_set_aside_and_duplicates_stay_on_one_side(tmp_path):
    found_rows = numbered(40)
    shouted = [text(row["text"].upper() + " !") for row in found_rows]
    uri = write_rows(tmp_path / "a.jsonl", *found_rows, *found_rows, *shouted)
    found, report = run(tmp_path / "run", plan(causal(uri, validation={"fraction": 0.1}, max_length=128)))
    counts = report["stages"]["pretrain"]
    assert (counts["train"]["rows"], counts["validation"]["rows"]) == (36 * 3, 4 * 3)
    train, validation = (
        {content.lower().rstrip(" !") for content in documents_of(found, split)} for split in ("train", "validation")
    )
    assert not train & validation
    assert train | validation == {row["text"] for row in found_rows}


def test_validation_data_of_ones_own_that_is_learned_too_is_counted_and_said(tmp_path):
    rows = numbered(40)
    train = write_rows(tmp_path / "a.jsonl", *rows)
    other = write_rows(tmp_path / "b.jsonl", *numbered(10, 40), *rows[:3], text(rows[0]["text"].upper()))
    said = []
    for name, uri, learned in (("same", train, 40), ("other", other, 4), ("new", other, 0)):
        own = write_rows(tmp_path / "c.jsonl", *numbered(9, 60)) if name == "new" else train
        made = plan(causal(own, validation={"data": [{"uri": uri}]}))
        found = workspace(tmp_path / name, made)
        result = prepare.run(made, found, attempt=1, say=said.append)
        assert json.loads(found.prepared.read_text())["stages"]["pretrain"]["validation"]["learned_too"] == learned
        assert result.metrics.get("pretrain_validation_learned_too", 0) == learned
    told = [line.removeprefix("WARNING: ") for line in said if "data.validation.data" in line]
    assert [line.partition(" of data.validation.data")[0] for line in told] == [
        "stage pretrain: 40 of 40 documents", "stage pretrain: 4 of 14 documents",
    ]  # fmt: skip


def test_the_seed_chooses_what_is_set_aside(tmp_path):
    uri = write_rows(tmp_path / "a.jsonl", *numbered(40))
    chosen = []
    for seed in (0, 0, 1):
        stage = causal(uri, validation={"fraction": 0.2}) | {"seed": seed}
        found, _ = run(tmp_path / f"run{len(chosen)}", plan(stage))
        chosen.append(documents_of(found, "validation"))
    assert chosen[0] == chosen[1] != chosen[2]


def test_a_small_fraction_sets_at_least_one_document_aside(tmp_path):
    uri = write_rows(tmp_path / "a.jsonl", *numbered(5))
    _, report = run(tmp_path / "run", plan(causal(uri, validation={"fraction": 0.01})))
    assert report["stages"]["pretrain"]["validation"]["rows"] == 1


def test_validation_data_of_its_own_is_checked_and_counted_apart(tmp_path):
    train, own = write_rows(tmp_path / "a.jsonl", *numbered(5)), write_rows(tmp_path / "b.jsonl", text(POEM))
    _, report = run(tmp_path / "run", plan(causal(train, validation={"data": [{"uri": own}]})))
    counts = report["stages"]["pretrain"]
    assert (counts["train"]["rows"], counts["validation"]["rows"]) == (5, 1)
    assert counts["validation"]["files"][0]["uri"] == own


# Bad input: what is wrong, and the words by which a user finds it.


def test_a_bad_row_of_any_source_is_named_by_file_and_line(tmp_path):
    good, bad = write_rows(tmp_path / "a.jsonl", text(POEM)), write_rows(tmp_path / "b.jsonl", text(OTHER), b"{\n")
    for made in (
        plan(causal(good, bad)),
        plan(causal(good, validation={"data": [{"uri": bad}]})),
        plan(causal(good), data=[{"uri": bad}]),
    ):
        error = failure(tmp_path / "run", made)
        assert isinstance(error, BadData)
        assert str(error).startswith(f"{tmp_path}/b.jsonl:2: not JSON")
    error = failure(tmp_path / "run", plan(causal(good), prompts=[{"uri": good}]))
    assert str(error).startswith(f"{tmp_path}/a.jsonl:1: no field that is read: it has 'text'. A prompt is")


@pytest.mark.parametrize(
    "field", ["stages[0].data.train[0].uri", "evaluation.data[0].uri", "evaluation.prompts[0].uri"]
)
def test_a_missing_file_is_named_with_its_field(tmp_path, field):
    good, missing = write_rows(tmp_path / "a.jsonl", text(POEM)), f"file://{tmp_path}/none.jsonl"
    made = {
        "stages": lambda: plan(causal(missing)),
        "evaluation.data": lambda: plan(causal(good), data=[{"uri": missing}]),
        "evaluation.prompts": lambda: plan(causal(good), prompts=[{"uri": missing}]),
    }[field.split("[")[0]]()
    error = failure(tmp_path / "run", made)
    assert isinstance(error, BadData)
    assert str(error).startswith(f"{field}: {missing}: there is no such file")


def test_an_empty_file_is_refused(tmp_path):
    error = failure(tmp_path / "run", plan(causal(write_rows(tmp_path / "a.jsonl"))))
    assert str(error).startswith(f"{tmp_path}/a.jsonl: is empty")


def test_rows_of_the_other_objective_are_refused(tmp_path):
    uri = write_rows(tmp_path / "a.jsonl", chat("hi", "hello"))
    told = str(failure(tmp_path / "run", plan(causal(uri))))
    assert "a.jsonl:1: the rows are Messages, which objective: Chat learns from. CausalLM learns from" in told


def test_a_prompt_that_the_template_refuses_is_named_before_anything_is_trained(tmp_path, base):
    words = tokenizer.from_folder(base, "base")
    words.chat_template = (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    )
    tokenizer.save(words, base)
    asked = {"conversations": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]}
    prompts = [{"uri": write_rows(tmp_path / "p.jsonl", chat("who?"), asked)}]
    data = write_rows(tmp_path / "a.jsonl", text(POEM))
    error = failure(tmp_path / "run", plan(causal(data), model={"from": f"file://{base}"}, prompts=prompts))
    assert isinstance(error, BadData)
    refused = "the model's chat template refuses this conversation: no system role."
    assert str(error) == f"{tmp_path}/p.jsonl:2: {refused}"


def test_a_prompt_that_fills_the_model_is_named_before_anything_is_trained(tmp_path):
    data = write_rows(tmp_path / "a.jsonl", text(POEM))
    prompts = [{"uri": write_rows(tmp_path / "p.jsonl", {"prompt": "who?"}, {"prompt": "x" * 200})}]
    error = failure(tmp_path / "run", plan(causal(data), prompts=prompts))
    assert isinstance(error, BadData)
    assert str(error).startswith(f"{tmp_path}/p.jsonl:2: the prompt takes ")
    assert "the model takes 128 (model.scratch.maxLength), so nothing is left for an answer" in str(error)


def test_a_prompt_that_virtual_tokens_leave_no_room_for_is_named_before_anything_is_trained(tmp_path):
    data = write_rows(tmp_path / "a.jsonl", text(POEM))
    prompts = [{"uri": write_rows(tmp_path / "p.jsonl", {"prompt": "who?"})}]
    stage = causal(data, max_length=16) | {"adapter": {"method": "PTuning", "virtualTokens": 112}}
    error = failure(tmp_path / "run", plan(stage, prompts=prompts))
    assert isinstance(error, BadData)
    assert "the model takes 128 (model.scratch.maxLength, 112 of them virtual ones before the prompt)" in str(error)


def test_files_of_any_name_are_read_and_one_that_cannot_be_there_is_named_by_its_field(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.jsonl")).write_text(json.dumps(text(POEM)))
    _, report = run(tmp_path / "run", plan(causal(f"file://{folder}")))
    assert report["stages"]["pretrain"]["train"]["files"][0]["name"] == f"{folder}/caf\\xe9.jsonl"
    error = failure(tmp_path / "other", plan(causal(f"file://{tmp_path}/{'a' * 300}.jsonl")))
    assert isinstance(error, BadData)
    assert "stages[0].data.train[0].uri" in str(error)
    assert "cannot be read: File name too long" in str(error)


def test_a_word_that_the_tokenizer_cannot_encode_is_refused(tmp_path):
    bare = Tokenizer(models.WordLevel({"</s>": 0, "hello": 1}))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="</s>")
    tokenizer.save(words, tmp_path / "words")
    scratch = {"hiddenSize": 64, "heads": 2, "maxLength": 128, "tokenizer": {"from": f"file://{tmp_path}/words"}}
    data = write_rows(tmp_path / "a.jsonl", text("hello"), text("hello you"))
    error = failure(tmp_path / "run", plan(causal(data), model={"scratch": scratch}))
    assert isinstance(error, BadModel)
    assert str(error).startswith("the tokenizer cannot encode the text that begins with 'hello you': ")


@pytest.mark.parametrize(
    ("content", "message"),
    [("[1]", "is no object"), ("{", "is not JSON"), ('{"text_config": [1]}', None), ("[" * 100_000, "is not JSON")],
)
def test_a_config_that_describes_no_model_is_refused(tmp_path, base, content, message):
    (base / "config.json").write_text(content)
    made = plan(causal(write_rows(tmp_path / "a.jsonl", text(POEM))), model={"from": f"file://{base}"})
    if message is None:
        run(tmp_path / "run", made)
    else:
        error = failure(tmp_path / "run", made)
        assert isinstance(error, BadModel)
        assert f"model.from: {base}/config.json: {message}" in str(error)


def test_a_sequence_above_the_models_is_refused(tmp_path):
    made = plan(causal(write_rows(tmp_path / "a.jsonl", text(POEM)), max_length=128))
    # The resource's own rules refuse it earlier; a plan that came another way meets the same words here.
    longer = made.model_copy(update={"stages": [made.stages[0].model_copy(update={"max_length": 129})]})
    error = failure(tmp_path / "run", longer)
    assert isinstance(error, BadConfig)
    assert str(error) == (
        "stages[pretrain].maxLength: 129 is above the 128 tokens that the model takes (128 by "
        "model.scratch.maxLength). Set maxLength to 128 or less, or make a new model longer (model.scratch.maxLength)"
    )


def test_best_without_validation_data_is_refused(tmp_path):
    uri = write_rows(tmp_path / "a.jsonl", text(POEM), text(OTHER))
    stage = causal(uri, validation={"fraction": 0.0}) | {"select": "Best"}
    assert "select: Best and earlyStop need validation data" in str(failure(tmp_path / "run", plan(stage)))


def test_one_document_cannot_be_split(tmp_path):
    uri = write_rows(tmp_path / "a.jsonl", text(POEM), text(POEM))
    error = failure(tmp_path / "run", plan(causal(uri, validation={"fraction": 0.5})))
    assert "stage pretrain: data.validation.fraction 0.5: a single distinct document" in str(error)


def test_conversations_of_which_no_answer_fits_are_reported_and_all_of_them_refused(tmp_path):
    uri = write_rows(tmp_path / "a.jsonl", chat("hi", "hello"), chat("hi", POEM * 3))
    _, report = run(tmp_path / "one", plan(chatting(uri)))
    counts = report["stages"]["sft"]["train"]
    assert (counts["documents"], counts["skipped"], counts["skipped_lines"]) == (1, 1, [f"{tmp_path}/a.jsonl:2"])
    uri = write_rows(tmp_path / "a.jsonl", chat("hi", POEM * 3))
    assert f"({tmp_path}/a.jsonl:1). Raise maxLength" in str(failure(tmp_path / "two", plan(chatting(uri))))


# Invariant C: what is held out is not learned.


def test_c_held_out_documents_in_any_training_data_of_any_stage_are_refused(tmp_path):
    train, held = write_rows(tmp_path / "train.jsonl", *numbered(5)), tmp_path / "held.jsonl"
    leak = write_rows(tmp_path / "leak.jsonl", text(THIRD), text(f"{OTHER} {POEM.replace('，', ' ')}"))
    chats = write_rows(tmp_path / "chats.jsonl", chat("hi", "hello"), chat("背诵", POEM))
    data = [{"uri": write_rows(held, text("something else entirely, of eight words or more"), text(POEM))}]
    for made, where in (
        (plan(causal(train, leak), data=data), "stands in {}/leak.jsonl:2"),
        (plan(causal(train), causal(leak, name="more"), data=data), "stands in {}/leak.jsonl:2"),
        (plan(causal(train, validation={"data": [{"uri": leak}]}), data=data), "stands in {}/leak.jsonl:2"),
        (plan(causal(train), chatting(chats), data=data), "is the same as {}/chats.jsonl:2"),
    ):
        error = failure(tmp_path / "run", made)
        assert isinstance(error, Overlap)
        assert error.exit_code == 2
        assert str(error).startswith("evaluation.data: 1 of 2 held-out documents stand in the training data")
        assert f"{held}:2 {where.format(tmp_path)}" in str(error)


def test_C_held_out_documents_that_stand_in_the_training_data_are_dropped_where_that_is_asked_for(tmp_path):
    train = write_rows(tmp_path / "train.jsonl", text(POEM), *numbered(3))
    held = write_rows(tmp_path / "held.jsonl", text(POEM), text(OTHER), *numbered(2))
    data, asked = [{"uri": held}], write_rows(tmp_path / "p.jsonl", {"prompt": "who?", "answer": POEM})
    made = plan(causal(train), data=data, onOverlap="Drop")
    found, report = run(tmp_path / "run", made)
    copied = [json.loads(line) for line in found.evaluation_documents.read_text().splitlines()]
    assert copied == [{"text": OTHER, "source": "held.jsonl:2"}]
    assert (report["evaluation"]["documents"], report["evaluation"]["dropped"]) == (1, 3)
    pairs = [json.loads(line) for line in found.overlap.read_text().splitlines()]
    assert [pair["held"].rsplit("/", 1)[1] for pair in pairs] == ["held.jsonl:1", "held.jsonl:3", "held.jsonl:4"]
    assert pairs[0] | {"held": ""} == {
        "held": "", "training": f"{tmp_path}/train.jsonl:1", "rule": "equal", "share": 1.0,
    }  # fmt: skip
    # What a prompt asks for is never dropped: it is the user's question.
    error = failure(tmp_path / "asked", plan(causal(train), prompts=[{"uri": asked}], onOverlap="Drop"))
    assert isinstance(error, Overlap)


def test_c_what_shares_a_licence_alone_is_judged_by_and_counted(tmp_path):
    licence, documents = " ".join(row["text"] for row in numbered(12)), numbered(80, start=12)
    train = [text(f"{licence} {row['text']}") for row in documents[:70]]
    held = text(f"{licence} " + " ".join(row["text"] for row in documents[70:]))
    made = plan(
        causal(write_rows(tmp_path / "a.jsonl", *train)), data=[{"uri": write_rows(tmp_path / "h.jsonl", held)}]
    )
    found, report = run(tmp_path / "run", made)
    assert (report["evaluation"]["documents"], report["evaluation"]["discounted"]) == (1, 1)
    assert "in 32 training documents or more" in json.loads(found.overlap.read_text())["discounted"]
    held_out_too = write_rows(tmp_path / "h.jsonl", held, train[5])
    error = failure(tmp_path / "again", plan(causal(f"file://{tmp_path}/a.jsonl"), data=[{"uri": held_out_too}]))
    assert str(error).startswith("evaluation.data: 1 of 2 held-out documents stand in the training data")


def test_c_every_pair_of_an_overlap_is_listed_in_a_file(tmp_path):
    rows = numbered(9)
    made = plan(
        causal(write_rows(tmp_path / "a.jsonl", *rows)), data=[{"uri": write_rows(tmp_path / "h.jsonl", *rows)}]
    )
    error = failure(tmp_path / "run", made)
    assert "and 4 more, all of them in overlap.jsonl of the run's folder" in str(error)
    assert len((tmp_path / "run" / "overlap.jsonl").read_text().splitlines()) == 9


def test_c_held_out_data_that_is_apart_is_copied_for_the_evaluation(tmp_path):
    train, held = write_rows(tmp_path / "a.jsonl", text(POEM)), write_rows(tmp_path / "h.jsonl", text(f" {OTHER}\n"))
    found, report = run(tmp_path / "run", plan(causal(train), data=[{"uri": held}]))
    copied = [json.loads(line) for line in found.evaluation_documents.read_text().splitlines()]
    assert copied == [{"text": f" {OTHER}\n", "source": "h.jsonl:1"}]
    assert (report["evaluation"]["documents"], report["evaluation"]["bytes"]) == (1, len(OTHER.encode()) + 2)


def test_c_prompts_that_are_not_meant_to_test_recall_may_not_stand_in_the_training_data(tmp_path):
    chats = write_rows(tmp_path / "chats.jsonl", chat("hi", "hello"), chat("背诵《夜思》！", POEM))
    for row, message in (
        ({"prompt": "背诵夜思"}, "p.jsonl:1 is worded as {}/chats.jsonl:2"),
        ({"prompt": "李白写了什么？", "answer": POEM}, "the answer of {0}/p.jsonl:1 is the same as {0}/chats.jsonl:2"),
    ):
        prompts = write_rows(tmp_path / "p.jsonl", row)
        error = failure(tmp_path / "run", plan(chatting(chats), prompts=[{"uri": prompts}]))
        assert isinstance(error, Overlap)
        assert message.format(tmp_path) in str(error)
    prompts = write_rows(tmp_path / "p.jsonl", {"prompt": "李白写了什么？", "answer": "hello"}, {"prompt": "Who?"})
    _, report = run(tmp_path / "run", plan(chatting(chats), prompts=[{"uri": prompts}]))
    assert report["prompts"] | {"files": []} == {"prompts": 2, "recall": 0, "recall_overlap": 0, "files": []}


def test_c_recall_prompts_are_counted_and_must_be_worded_otherwise_than_in_training(tmp_path):
    chats = write_rows(tmp_path / "chats.jsonl", chat("背诵《夜思》", POEM), chat("背诵《春晓》", OTHER))
    asked = [{"prompt": f"请背{n}", "answer": answer} for n, answer in enumerate((POEM, OTHER, THIRD))]
    prompts = [{"uri": write_rows(tmp_path / "p.jsonl", *asked), "recall": True}]
    found, report = run(tmp_path / "run", plan(chatting(chats), prompts=prompts))
    assert (report["prompts"]["recall"], report["prompts"]["recall_overlap"]) == (3, 2)
    copied = [json.loads(line) for line in found.evaluation_prompts.read_text().splitlines()]
    assert copied[0] == {
        "conversations": [{"role": "user", "content": "请背0"}], "answer": POEM, "recall": True, "source": "p.jsonl:1",
    }  # fmt: skip
    write_rows(tmp_path / "p.jsonl", *asked, {"prompt": "背诵《春晓》。", "answer": OTHER})
    error = failure(tmp_path / "again", plan(chatting(chats), prompts=prompts))
    assert isinstance(error, Overlap)
    assert f"{tmp_path}/p.jsonl:4 is worded as {tmp_path}/chats.jsonl:2" in str(error)


# The base model's side.


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "base"
    made = tokenizer.train([POEM, OTHER] * 10, vocabulary=300, max_length=64)
    tokenizer.save(made, folder)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 64}))
    return folder


def test_a_base_model_gives_its_tokenizer_and_its_limit(tmp_path, base):
    uri = write_rows(tmp_path / "a.jsonl", text(POEM), text(THIRD))
    made = plan(causal(uri), model={"from": f"file://{base}"})
    found, report = run(tmp_path / "run", made)
    assert (found.tokenizer / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert report["tokenizer"]["chat_template"] == "ChatML"
    error = failure(tmp_path / "long", plan(causal(uri, max_length=65), model={"from": f"file://{base}"}))
    assert "maxLength: 65 is above the 64 tokens that the model takes (64 by max_position_embeddings in" in str(error)


@pytest.mark.parametrize(
    ("name", "message"), [("config.json", "has no config.json"), ("tokenizer.json", "has no tokenizer.json")]
)
def test_a_base_folder_that_lacks_something_is_refused(tmp_path, base, name, message):
    (base / name).unlink()
    made = plan(causal(write_rows(tmp_path / "a.jsonl", text(POEM))), model={"from": f"file://{base}"})
    error = failure(tmp_path / "run", made)
    assert isinstance(error, BadModel)
    assert str(error).startswith("model.from: ")
    assert message in str(error)


def test_a_token_whose_id_is_far_above_the_others_stays_itself(tmp_path):
    words = tokenizer.train([POEM, OTHER] * 10, vocabulary=300, max_length=64)
    word = words.convert_ids_to_tokens(words(POEM)["input_ids"][-1])
    tokenizer.save(with_a_hole(words, token=word), tmp_path / "tokenizer")
    scratch = {"hiddenSize": 64, "heads": 2, "maxLength": 128, "tokenizer": {"from": f"file://{tmp_path}/tokenizer"}}
    made = plan(causal(write_rows(tmp_path / "a.jsonl", text(POEM))), model={"scratch": scratch})
    found, report = run(tmp_path / "run", made)
    shards = Shards.open(found.stage("pretrain").data("train"))
    assert shards.document(0)[0].max() == 66000
    assert tokenizer.load(found).decode(shards.document(0)[0]) == f"<s>{POEM}</s>"
    assert (report["tokenizer"]["vocabulary"], report["tokenizer"]["ids"]) == (len(words), 66001)


def test_an_id_that_no_model_could_hold_is_refused(tmp_path):
    words = tokenizer.train([POEM, OTHER] * 10, vocabulary=300, max_length=64)
    tokenizer.save(with_a_hole(words, id_=tokenizer.MOST_IDS), tmp_path / "tokenizer")
    scratch = {"hiddenSize": 64, "heads": 2, "maxLength": 128, "tokenizer": {"from": f"file://{tmp_path}/tokenizer"}}
    made = plan(causal(write_rows(tmp_path / "a.jsonl", text(POEM))), model={"scratch": scratch})
    error = failure(tmp_path / "run", made)
    assert isinstance(error, BadModel)
    assert str(error).startswith("model.scratch.tokenizer.from: the tokenizer in ")
    assert f"gives a token the id {tokenizer.MOST_IDS}" in str(error)


# The same inputs make the same bytes, however it was done.


@pytest.fixture
def many(tmp_path):
    train = write_rows(tmp_path / "a.jsonl", *numbered(3000))
    chats = write_rows(tmp_path / "c.jsonl", *(chat(f"say {row['text'][:12]}", row["text"]) for row in numbered(900)))
    held = write_rows(tmp_path / "h.jsonl", *numbered(20, 5000))
    return plan(causal(train, validation={"fraction": 0.1}), chatting(chats, max_length=128), data=[{"uri": held}])


def test_the_number_of_workers_and_the_size_of_blocks_change_no_byte(tmp_path, many, monkeypatch):
    expected = None
    for number, (workers, block) in enumerate(((1, 1 << 20), (2, 1 << 20), (3, 1 << 14))):
        monkeypatch.setattr(json_lines, "BLOCK_BYTES", block)
        run(tmp_path / str(number), many, workers=workers)
        found = tree(tmp_path / str(number))
        expected = expected or found
        assert found == expected


def test_the_digest_does_not_depend_on_where_the_data_lies(tmp_path):
    digests = set()
    for place in ("here", "there"):
        train = write_rows(tmp_path / place / "a.jsonl", *numbered(20))
        held = write_rows(tmp_path / place / "h.jsonl", text(POEM))
        digests.add(run(tmp_path / f"run-{place}", plan(causal(train), data=[{"uri": held}]))[1]["digest"])
    assert len(digests) == 1


def test_the_sketch_is_of_texts_conversations_and_prompts_and_not_of_the_text_that_comes_with_the_trainer(tmp_path):
    train = write_rows(tmp_path / "a.jsonl", *numbered(20))
    chats = {"uri": write_rows(tmp_path / "c.jsonl", chat(POEM, OTHER))}
    asked = [{"uri": write_rows(tmp_path / "p.jsonl", {"prompt": THIRD})}]
    held, general = {"uri": write_rows(tmp_path / "h.jsonl", text(POEM))}, {"uri": "package://general-text"}

    def sketch(name, *data, **more):
        return run(tmp_path / name, plan(causal(train), data=list(data), **more))[1]["evaluation"]["sketch"]

    assert sketch("one", held, general) == sketch("two", held) == sketch_of([POEM])
    assert len(hashes_of(sketch("three", held, chats, general, prompts=asked))) == 3
    assert len(hashes_of(sketch("four", chats))) == 1
    assert len(hashes_of(sketch("five", general))) == HASHES


def test_what_is_done_is_recognised_without_its_sources(tmp_path):
    path = tmp_path / "a.jsonl"
    made = plan(causal(write_rows(path, text(POEM))))
    found, _ = run(tmp_path / "run", made)
    before, stamp = tree(found.root), found.prepared.stat().st_mtime_ns
    path.unlink()
    result = prepare.run(made, found, attempt=2, say=lambda _: None)
    assert tree(found.root) == before
    assert found.prepared.stat().st_mtime_ns == stamp
    assert result.metrics["pretrain_train_documents"] == 1


def test_D_what_an_earlier_run_with_the_same_plan_has_done_is_done(tmp_path):
    """A run that was created again has another uid, and goes on in the folder."""
    path = tmp_path / "a.jsonl"
    made = plan(causal(write_rows(path, text(POEM))))
    found, _ = run(tmp_path / "run", made)
    before = found.prepared.read_text()
    path.unlink()
    identity = made.run.model_copy(update={"uid": "0badcafe-7f0e-4f6e-9d56-0b6a1c7f3c11"})
    result = prepare.run(made.model_copy(update={"run": identity}), found, attempt=100_001, say=lambda _: None)
    assert result.held_out_digest == json.loads(before)["evaluation"]["digest"]
    copied = [json.loads(line)["text"] for line in found.evaluation_documents.read_text().splitlines()]
    assert result.held_out_sketch == sketch_of(copied)
    assert result.training_data == lineage.data(found)
    assert result.training_data
    assert found.prepared.read_text() == before


def test_H_nothing_is_prepared_in_the_folder_of_an_earlier_run_with_another_plan(tmp_path):
    """A record that lies about its folder would have its checkpoints taken for those of the run."""
    path = write_rows(tmp_path / "a.jsonl", text(POEM))
    made = plan(causal(path))
    found, _ = run(tmp_path / "run", made)
    before = tree(found.root)
    other = made.model_copy(update={"digest": "sha256:" + "0" * 64, "folder": f"{made.run.name}-0badcafe"})
    with pytest.raises(BadConfig, match="is that of another plan"):
        prepare.run(other, found, attempt=100_001, say=lambda _: None)
    assert tree(found.root) == before


@pytest.mark.parametrize(
    "name", ["stages/pretrain/data/train/tokens.bin", "tokenizer/tokenizer.json", "evaluation-data/documents.jsonl"]
)
def test_what_is_done_and_damaged_is_made_again(tmp_path, name):
    train, held = write_rows(tmp_path / "a.jsonl", text(POEM)), write_rows(tmp_path / "h.jsonl", text(OTHER))
    made = plan(causal(train), data=[{"uri": held}])
    found, _ = run(tmp_path / "run", made)
    before = tree(found.root)
    (found.root / name).write_bytes((found.root / name).read_bytes()[:-1])
    said: list[str] = []
    prepare.run(made, found, attempt=1, say=said.append)
    assert "damaged and is made again" in said[0]
    assert tree(found.root) == before


def test_A_a_preparation_whose_held_out_data_the_record_does_not_know_is_made_again(tmp_path):
    """Who can write in the workspace can change the copies and the report that goes with them."""
    train, held = write_rows(tmp_path / "a.jsonl", text(POEM)), write_rows(tmp_path / "h.jsonl", text(OTHER))
    made = plan(causal(train), data=[{"uri": held}])
    found, _ = run(tmp_path / "run", made)
    recorded = prepare.run(made, found, attempt=1).held_out_digest
    before = found.prepared.read_text()
    found.evaluation_documents.write_text(found.evaluation_documents.read_text() * 2)
    report = json.loads(before)
    report["evaluation"]["copies"]["documents.jsonl"] = artifact.hash_file(found.evaluation_documents).sha256
    report["evaluation"]["digest"] = digest_of_copies(report["evaluation"]["copies"])
    found.prepared.write_text(json.dumps(report))
    again = prepare.run(made, found, attempt=2, held_out=recorded)
    assert again.held_out_digest == recorded
    assert json.loads(found.prepared.read_text())["evaluation"] == json.loads(before)["evaluation"]


def test_a_source_that_changes_while_it_is_read_is_refused(tmp_path):
    from slipway_trainer.data import inputs

    path = tmp_path / "a.jsonl"
    found = inputs.collect(plan(causal(write_rows(path, *numbered(5)))), tmp_path)
    file = found.stages["pretrain"].train[0].files[0]
    reading = file.blocks()
    next(reading)
    write_rows(path, *numbered(6))
    with pytest.raises(BadData, match=r"a\.jsonl: was changed while it was read"):
        list(reading)


def start(found, attempt: int, tmp_path: Path, aside: str) -> subprocess.Popen:
    # Two processes also for little data: their death is what is tested.
    code = (
        "import sys; from slipway_trainer.data.reading import json_lines; from slipway_trainer.prepare import prepare;"
        "from slipway_trainer.step.run_step import run_step;"
        "json_lines.BLOCK_BYTES = 1 << 14;"
        "from pathlib import Path;"
        "sys.exit(run_step('prepare', lambda p, w: prepare.run(p, w, attempt=int(sys.argv[2]), workers=2),"
        " plan_file=Path(sys.argv[1]), folder=None, attempt=int(sys.argv[2])))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(found.plan), str(attempt)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {"SLIPWAY_RESULT": str(tmp_path / "result.json"), "TMPDIR": aside},
    )


@pytest.fixture
def aside():
    """A folder for what a process puts aside, which one that is killed leaves: the sockets of its fork server, whose
    path has to be short."""
    with tempfile.TemporaryDirectory(prefix="slipway-test-", ignore_cleanup_errors=True) as folder:
        yield folder


def session(leader: int) -> list[int]:
    """Processes that a started process left behind, by its session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[3]) == leader:
            found.append(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "moments"),
    [
        (signal.SIGKILL, ("checking", "training", "data of pretrain", "data of sft")),
        (signal.SIGTERM, ("data of pretrain",)),
    ],
)
def test_d_killed_at_any_moment_and_started_again_it_ends_with_the_same_bytes(tmp_path, many, number, moments, aside):
    expected = run(tmp_path / "undisturbed", many) and tree(tmp_path / "undisturbed")
    found = workspace(tmp_path / "killed", many)
    rng = random.Random(number)
    for attempt, moment in enumerate(moments, 1):
        started = start(found, attempt, tmp_path, aside)
        assert started.stdout
        for line in started.stdout:
            if moment in line:
                break
        time.sleep(rng.uniform(0, 0.2))
        started.send_signal(number)
        code = started.wait(30)
        started.stdout.close()
        assert code == (75 if number == signal.SIGTERM else -9)
        assert not found.prepared.exists()
        ended = time.monotonic() + 10
        while session(started.pid):
            assert time.monotonic() < ended, "processes outlive the one that started them"
            time.sleep(0.05)
    last = start(found, 5, tmp_path, aside)
    output, _ = last.communicate(timeout=120)
    assert last.returncode == 0, output
    found.fence("prepare").unlink()
    assert tree(found.root) == expected


def test_nothing_is_left_of_temporary_files(tmp_path, many):
    found = workspace(tmp_path / "run", many)
    (found.stage("pretrain").data("train").parent / ".train.tmp-1").mkdir(parents=True)
    (found.root / ".tokenizer.tmp-1").mkdir()
    prepare.run(many, found, attempt=2, say=lambda _: None)
    assert [path for path in found.root.rglob("*") if "tmp" in path.name] == []
    shutil.rmtree(found.root)


def test_an_older_attempt_writes_nothing_more(tmp_path):
    made = plan(causal(write_rows(tmp_path / "a.jsonl", text(POEM))))
    found = workspace(tmp_path / "run", made)
    found.fence("prepare").parent.mkdir(parents=True)
    found.fence("prepare").write_text("2\n")
    with pytest.raises(StepFailure, match="attempt 2 has taken over from attempt 1"):
        prepare.run(made, found, attempt=1, say=lambda _: None)
    assert sorted(path.name for path in found.root.rglob("*") if path.is_file()) == ["fence", "plan.json"]


def test_the_result_says_how_much_there_is(tmp_path):
    made = plan(causal(write_rows(tmp_path / "a.jsonl", *numbered(10)), validation={"fraction": 0.2}))
    result = prepare.run(made, workspace(tmp_path / "run", made), attempt=3, say=lambda _: None)
    assert (result.step, result.attempt, result.error) == ("prepare", 3, None)
    assert result.metrics["pretrain_train_documents"] == 8
    assert result.metrics["pretrain_validation_documents"] == 2
    assert np.isfinite(list(result.metrics.values())).all()
