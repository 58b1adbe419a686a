import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.runs import a_plan, a_run

from slipway_core import plan as plans
from slipway_core.plan import ExecutorDefaults, Images
from slipway_core.resources.uris import UriError


def test_E_the_same_run_gives_the_same_plan_byte_for_byte():
    assert a_plan(a_run()).to_json() == a_plan(a_run()).to_json()


def test_E_every_default_is_filled_in():
    stage = a_plan(a_run()).stages[0].to_document()
    assert stage["epochs"] == 1.0
    assert stage["batch"] == {"tokens": 16384}
    assert stage["optimizer"]["learningRate"] == 2e-4
    assert stage["precision"] == "Auto", "what needs a device stays open"


def test_E_a_plan_that_was_read_back_is_the_same_and_a_changed_one_is_refused():
    plan = a_plan(a_run())
    assert plans.load(plan.to_json()) == plan
    document = json.loads(plan.to_json())
    document["stages"][0]["optimizer"]["learningRate"] = 1.0
    with pytest.raises(ValueError, match="was changed"):
        plans.load(json.dumps(document))


OF_VERSION_1 = {
    "sha256:acabcbd627644a25e9309273a17bc36b028495ebae76fae8f687657681ac029f": {},
    "sha256:848371e2f9ee006d503d06b06ebdbe98517db7e16c8f35a9c3c7acb729052eb6": {
        "nodes": 2, "nodeSelector": {"disk": "fast"}, "queue": "night",
    },
}  # fmt: skip
"""Digests as the release wrote them that knew version 1 alone, and compute of the run."""
CHAT = a_run(
    model={"from": "hf://org/base"},
    stages=[
        {
            "name": "chat",
            "objective": "Chat",
            "data": {
                "train": [{"uri": "s3://bucket/train.jsonl", "weight": 2.0}, {"uri": "pvc://data/more.parquet"}],
                "validation": {"data": [{"uri": "pvc://data/valid.jsonl"}]},
            },
            "adapter": {"method": "LoRA", "rank": 8},
            "maxLength": 256,
        }
    ],
    evaluation={
        "data": [{"uri": "pvc://data/heldout.jsonl"}],
        "prompts": [{"uri": "pvc://data/prompts.jsonl", "recall": True}],
    },
    compute={"nodes": 2, "queue": "night"},
)
DIGESTS = {
    1: "sha256:94017ba99c0ed097b1730a79bca40849bf2a93510af47b9741e542ce5feaef35",
    2: "sha256:40f3d928dfdcbc96c3c7a7dc89221b435df56ee9378fd91f2895c766748714bd",
    3: "sha256:d987a87af982c4b74a5c1ad3668fec20442100695839af1d13ddda63c8dd5072",
}
"""Of that run: as the release wrote it that knew version 1 alone, and of the versions since."""
NEWER = {
    "model": [("addTokens", ["<tool>"])],
    "stages": [
        ("learn", "LastAnswer"),
        ("tooLong", "Drop"),
        ("labelSmoothing", 0.1),
        ("compile", "Disabled"),
        ("neftuneNoiseAlpha", 5.0),
    ],
    "adapter": [("rankStabilized", True), ("modulesToSave", ["lm_head"])],
    "data": [("deduplicate", "Near"), ("normalization", ["NFC"])],
    "train": [("format", "ShareGPT"), ("documents", "Paragraph"), ("streaming", True)],
    "evaluation": [("onOverlap", "Drop"), ("engine", "Transformers"), ("tasks", [{"name": "piqa"}])],
    "held out": [("format", "Text"), ("documents", "Paragraph"), ("streaming", True)],
    "prompts": [("format", "Prompt"), ("streaming", True)],
    "export": [("gguf", "F16")],
}
"""Fields that came after that release, by where they are, with what is none of their defaults."""
PLACES = {
    "nodes": 4, "processesPerNode": 2, "queue": "night", "priorityClassName": "low", "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}], "podLabels": {"team": "a"}, "podAnnotations": {"a": "b"},
    "podTemplate": "infiniband",
}  # fmt: skip


def places(said):
    """Where the fields of NEWER are, in a spec or a plan."""
    stage, evaluation = said["stages"][0], said["evaluation"]
    return {
        "model": said["model"],
        "stages": stage,
        "adapter": stage.get("adapter", {}),
        "data": stage["data"],
        "train": stage["data"]["train"][0],
        "evaluation": evaluation,
        "held out": evaluation["data"][0],
        "prompts": (evaluation["prompts"] or [{}])[0],
        "export": said["export"],
    }


@pytest.mark.parametrize("digest", OF_VERSION_1)
def test_E_the_plan_of_version_1_can_be_made_again_with_its_digest(digest):
    run = a_run(compute=OF_VERSION_1[digest])
    again = a_plan(run, version=1)
    assert again.digest == digest
    text = again.to_json()
    assert (plans.digest_in(text), plans.load(text)) == (digest, again)
    assert a_plan(run).digest != digest


@pytest.mark.parametrize("version", DIGESTS)
def test_E_a_field_that_came_later_does_not_change_the_digest_of_a_run_that_leaves_it_out(version):
    """Where this fails after a field was added, the field belongs into plan._NEWER, and the digest stays."""
    plan = a_plan(CHAT, version)
    assert plan.digest == DIGESTS[version]
    assert plans.load(plan.to_json()) == plan


def test_E_the_words_of_version_1_are_those_that_its_image_reads():
    said = places(json.loads(a_plan(CHAT, version=1).to_json()))
    assert [name for where, own in NEWER.items() for name, _ in own if name in said[where]] == []


@pytest.mark.parametrize(("where", "name", "value"), [(where, *one) for where, own in NEWER.items() for one in own])
def test_E_a_field_that_came_later_is_part_of_the_digest_where_it_says_something(where, name, value):
    document = CHAT.to_document()
    own = places(document["spec"])[where]
    if name == "streaming":  # Nothing else can be streamed.
        own["uri"] = "hf://org/rows"
    before = a_plan(type(CHAT).model_validate(document, by_alias=True, by_name=False))
    own[name] = value
    other = a_plan(type(CHAT).model_validate(document, by_alias=True, by_name=False))
    assert other.digest != before.digest
    (difference,) = plans.differences(before, other)
    assert (difference.field.rsplit(".", 1)[1], difference.is_) == (name, value)


def test_E_a_run_of_a_release_without_an_interval_goes_on_with_its_steps():
    """Checkpoints came every 200 steps where a run said nothing; now they come by time. It is the same plan."""
    fresh = a_plan(a_run())
    document = json.loads(fresh.to_json())
    assert "everySteps" not in document["checkpoints"]
    document["checkpoints"]["everySteps"] = 200
    older = plans.load(json.dumps(document))
    assert (older.digest, plans.differences(older, fresh)) == (fresh.digest, [])
    assert plans.as_written(fresh, older).checkpoints.every_steps == 200
    assert fresh.checkpoints.every_seconds == 600
    timed = a_plan(a_run(checkpoints={"interval": "5m"}))
    assert timed.digest != fresh.digest
    assert timed.checkpoints.every_seconds == 300


def test_E_a_gate_of_a_run_that_was_planned_before_takes_its_figure_as_it_is():
    """Version 3 fills in how sure a verdict must be; a record of before has gates that say nothing of it."""
    (fresh,), (older,) = (a_plan(a_run(), version).evaluation.gates for version in (3, 2))
    assert (fresh.confidence, older.confidence) == (0.95, None)
    read = plans.load(a_plan(a_run(), 2).to_json())
    assert (read.version, read.evaluation.gates[0].confidence) == (2, None)
    said = a_run(gates=[{"metric": "perplexity", "max": 20, "confidence": 0.8}])
    assert a_plan(said).evaluation.gates[0].confidence == 0.8
    ungated = a_run(gates=[], serving=False)
    assert a_plan(ungated, 2).digest == a_plan(ungated).digest


def test_E_the_order_in_which_a_set_is_written_is_no_part_of_a_plan():
    def normalized(*forms):
        stage = {"name": "a", "data": {"train": [{"uri": "pvc://a/b"}], "normalization": list(forms)}}
        return a_plan(a_run(stages=[stage]))

    assert normalized("NFC", "Strip") == normalized("Strip", "NFC")


@pytest.mark.parametrize("version", [1, 2])
def test_E_a_plan_of_a_release_that_had_fewer_fields_is_read_and_keeps_its_digest(version):
    document = json.loads(a_plan(a_run(), version).to_json())
    del document["checkpoints"]["keep"], document["stages"][0]["seed"]
    document["checkpoints"]["everySteps"] = 200
    for where, own in NEWER.items():
        for name, _ in own:
            places(document)[where].pop(name, None)
    fields = ("model", "stages", "compute", "checkpoints", "retries", "evaluation", "export")
    covered = {name: document.get(name) for name in fields}
    if version == 2:
        covered["compute"] = {}
    older = json.dumps(covered, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    document["digest"] = "sha256:" + hashlib.sha256(older.encode()).hexdigest()
    plan = plans.load(json.dumps(document))
    assert (plan.digest, plan.checkpoints.keep) == (document["digest"], 3)
    served = plan.model_copy(update={"serving": None})
    for kept in (plan, served):
        again = plans.load(kept.to_json())
        assert again == kept, "its ranks, and a ConfigMap that comes back, are given it in words that have its digest"
    fresh = a_plan(a_run(serving=False), version)
    assert fresh.digest != plan.digest
    assert plans.differences(plan, fresh) == []
    same = plans.as_written(fresh, plan)
    assert (same.digest, same.serving) == (plan.digest, None)
    assert plans.load(same.to_json()) == same


@pytest.mark.parametrize("place", PLACES)
def test_E_where_a_run_runs_is_no_part_of_its_digest_and_what_it_does_is(place):
    here, there = a_plan(a_run()), a_plan(a_run(compute={place: PLACES[place]}))
    assert (here.digest, plans.differences(here, there)) == (there.digest, [])
    other = a_plan(a_run(compute={"accelerator": "nvidia.com/gpu"}))
    assert [d.field for d in plans.differences(here, other)] == ["compute.accelerator"]


def test_E_a_plan_that_was_edited_in_where_it_runs_is_read_by_its_ranks_as_it_is_now():
    plan = plans.placed(a_plan(a_run()), a_run(compute=PLACES).spec.compute)
    assert plans.load(plan.to_json()) == plan
    assert plan.compute == a_run(compute=PLACES).spec.compute


def test_E_a_plan_of_an_older_release_of_version_2_is_laid_over_in_its_own_words():
    document = json.loads(a_plan(a_run()).to_json())
    del document["checkpoints"]["keep"]
    document["digest"] = plans.digest_in(json.dumps(document))
    older = plans.load(json.dumps(document))
    moved = plans.as_written(a_plan(a_run(compute=PLACES)), older)
    again = plans.load(moved.to_json())
    assert (again.digest, again.compute.nodes, again.compute.queue) == (older.digest, 4, "night")


def test_E_nodes_of_a_plan_of_version_1_stay_for_the_image_that_reads_them_there():
    plan, now = a_plan(a_run(), version=1), a_run(compute=PLACES).spec.compute
    moved = plans.placed(plan, now)
    assert (moved.compute.nodes, moved.compute.processes_per_node) == (1, 1)
    assert (moved.compute.queue, moved.compute.pod_template) == ("night", "infiniband")
    wanted = [(d.field, d.was, d.is_) for d in plans.fixed_in_1(plan, now)]
    assert wanted == [("compute.nodes", 1, 4), ("compute.processesPerNode", 1, 2)]
    assert plans.fixed_in_1(a_plan(a_run()), now) == []


def test_the_digest_of_a_text_is_that_of_what_it_says_whatever_it_claims():
    plan = a_plan(a_run())
    document = json.loads(plan.to_json())
    assert plans.digest_in(json.dumps({**document, "digest": "sha256:" + "0" * 64, "fromTheFuture": 1})) == plan.digest
    assert plans.digest_in(json.dumps({**document, "retries": 9})) != plan.digest
    assert plans.digest_in("{") is None
    assert plans.digest_in("[]") is None


@pytest.mark.parametrize(
    "other",
    [
        a_run(suspend=True),
        a_run(retention={"ttlAfterFinished": "1h"}),
        a_run(serving=False),
        a_run(serving={"endpoint": "other"}),
        a_run(tracking={"mlflow": {"uri": "http://mlflow:5000", "experiment": "e"}, "tensorboard": {}}),
    ],
    ids=["suspend", "retention", "no serving", "another endpoint", "tracking"],
)
def test_the_digest_leaves_out_what_does_not_make_the_model(other):
    assert a_plan(other).digest == a_plan(a_run()).digest


def test_a_plan_that_is_tracked_is_read_back_and_one_of_a_release_without_trackers_is_too():
    tracked = a_plan(a_run(tracking={"wandb": {"project": "p", "credentials": "k"}}))
    assert plans.load(tracked.to_json()) == tracked
    assert "tracking" not in json.loads(a_plan(a_run()).to_json())
    assert "push" not in json.loads(a_plan(a_run()).to_json())["export"]


def test_a_push_is_part_of_the_digest():
    pushed = a_run(export={"push": {"uri": "hf://org/name", "credentials": "k"}})
    assert a_plan(pushed).digest != a_plan(a_run()).digest


def test_the_address_of_a_tracker_is_no_model_and_no_run():
    run = a_run(model={"from": "run://base"}, tracking={"mlflow": {"uri": "http://mlflow:5000", "experiment": "e"}})
    assert plans.named_runs(run) == ["base"]


def test_the_digest_leaves_out_what_the_executor_adds():
    defaults = ExecutorDefaults(folder="/data", images=Images(train="train:2"), accelerator="nvidia.com/gpu")
    assert plans.resolve(a_run(), defaults).digest == a_plan(a_run()).digest


def test_differences_name_the_fields():
    stages = [{"name": "learn", "epochs": 3.0, "data": {"train": [{"uri": "file://train.jsonl"}]}}]
    found = plans.differences(a_plan(a_run()), a_plan(a_run(stages=stages, retries=7)))
    assert [(d.field, d.was, d.is_) for d in found] == [("stages[0].epochs", 1.0, 3.0), ("retries", 3, 7)]
    assert a_plan(a_run()).digest != a_plan(a_run(stages=stages)).digest


def test_relative_files_start_at_the_folder_and_absolute_ones_stay():
    data = {"train": [{"uri": "file://a/../b.jsonl"}, {"uri": "file:///abs.jsonl"}, {"uri": "package://tang"}]}
    plan = a_plan(a_run(stages=[{"name": "learn", "data": data}]))
    assert [s.uri for s in plan.stages[0].data.train] == ["file:///data/b.jsonl", "file:///abs.jsonl", "package://tang"]


def test_a_uri_outside_the_grammar_is_named_with_its_field():
    run = a_run(stages=[{"name": "learn", "data": {"train": [{"uri": "hf://only-one-part"}]}}])
    with pytest.raises(UriError, match=r"spec\.stages\[0\]\.data\.train\[0\]\.uri: .*hf://org/name"):
        a_plan(run)
    with pytest.raises(UriError, match=r"spec\.model\.from: .*leaves its claim"):
        plans.named_runs(a_run(model={"from": "pvc://claim/../x"}))


def test_an_adapter_of_no_method_is_no_adapter():
    stage = {"name": "learn", "adapter": {"method": "None"}, "data": {"train": [{"uri": "file://x.jsonl"}]}}
    assert a_plan(a_run(stages=[stage])).stages[0].adapter is None


@given(st.floats(1e-8, 10), st.integers(0, 2**31 - 1), st.integers(8, 1 << 20))
def test_a_plan_survives_json_whatever_its_numbers(rate, seed, length):
    data = {"train": [{"uri": "file://train.jsonl"}]}
    stage = {"name": "s", "seed": seed, "maxLength": length, "optimizer": {"learningRate": rate}, "data": data}
    plan = a_plan(a_run(stages=[stage], model={"from": "hf://org/name"}))
    assert plans.load(plan.to_json()) == plan


def test_E_another_run_becomes_the_artifact_that_it_has_when_the_run_is_planned():
    run = a_run(model={"from": "run://base"})
    assert plans.named_runs(run) == ["base"]
    where = {"base": "pvc://slipway-workspace/base-0123abcd/artifact"}
    planned = plans.resolve(run, ExecutorDefaults(runs=where))
    assert planned.model.from_ == where["base"]
    assert plans.resolve(run, ExecutorDefaults()).model.from_ == "run://base", "the trainer finds it on one machine"


def test_a_plan_that_goes_on_in_no_other_folder_says_nothing_of_it():
    """A trainer of an older release reads it."""
    plan = a_plan(a_run())
    assert plan.workspace_folder == "demo-0b5e1a52"
    assert plan.place == "slipway-workspace/demo-0b5e1a52"
    assert not {"folder", "attemptsBefore"} & json.loads(plan.to_json()).keys()


def test_D_the_attempts_of_a_run_that_goes_on_in_a_folder_are_above_all_there():
    plan = plans.going_on_in(a_plan(a_run()), "demo-0badcafe", 7)
    assert plans.load(plan.to_json()) == plan
    assert plan.digest == a_plan(a_run()).digest
    assert plan.workspace_folder == "demo-0badcafe"
    assert [plan.next_attempt(newest) for newest in (0, 7, 100_001)] == [100_001, 100_001, 100_002]
    assert [plan.attempts_made(newest) for newest in (0, 100_001, 100_003)] == [0, 1, 3]
    again = plans.going_on_in(plan, "demo-0badcafe", plan.attempts_before or 0)
    assert again.next_attempt(0) == 200_001


@pytest.mark.parametrize("folder", ["other-0badcafe", "demo-0badcaf", "demo-2-0badcafe", "../demo-0badcafe", "demo"])
def test_H_a_folder_is_called_like_one_of_a_run_of_that_name(folder: str):
    plan = json.loads(a_plan(a_run()).to_json()) | {"folder": folder}
    with pytest.raises(ValueError, match="is not"):
        plans.load(json.dumps(plan))


def test_a_plan_without_stages_judges_its_model_as_one_plain_model():
    plan = a_plan(a_run(model={"from": "file:///a-model"}, stages=[]))
    assert plan.steps == ["prepare", "export", "evaluate"]
    assert (plan.last_stage, plan.virtual_tokens, plan.exports_adapter) == (None, 0, False)
    assert plans.load(plan.to_json()) == plan
    with pytest.raises(KeyError, match="it has none"):
        plan.stage("learn")
