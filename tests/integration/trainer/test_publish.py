"""The step publish: a verdict told, a model pushed, against a hub that speaks the library's protocol."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.http_server import QuietHandler, served
from tests.integration.fetching.hub_server import AWAY, Hub
from tests.unit.trainer.tracking.metrics_file import scalars, texts, write_rows
from tests.unit.trainer.tracking.runs import TENSORBOARD, a_plan, told

from slipway_core.plan import Plan
from slipway_core.protocol import artifact, variables
from slipway_core.protocol.artifact import Manifest
from slipway_core.protocol.judged import Judged, JudgedMetric
from slipway_core.protocol.step_result import StepResult
from slipway_core.protocol.workspace import Workspace
from slipway_core.resources.status import Verdict
from slipway_fetching import served_model
from slipway_trainer.card import model_card
from slipway_trainer.publish import publish
from slipway_trainer.step.errors import BadConfig, PublishFailed, PublishRefused

PUSH: dict[str, Any] = {"push": {"uri": "hf://org/tang", "credentials": "writer"}}
MODEL = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "tokenizer.json": b'{"a": 1}'}


CARD: dict[str, Any] = {
    "base": {"scratch": {}},
    "dtype": "float32",
    "libraries": {},
    model_card.FACTS: {
        "base": {},
        "stages": {"learn": {"objective": "CausalLM"}},
        "data": [],
        "held_out": "sha256:" + "d" * 64,
    },
}


def export(workspace: Workspace, files: dict[str, bytes] = MODEL, lineage: dict[str, Any] | None = None) -> Manifest:
    """Leaves what the step export leaves."""
    folder = workspace.artifact
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    data = {"learn/train": "sha256:" + "d" * 64}
    manifest = artifact.build(
        folder,
        run="demo",
        plan_digest="sha256:" + "c" * 64,
        created_at="2026-01-01T00:00:00Z",
        data=data,
        lineage=lineage,
    )
    (folder / artifact.MANIFEST).write_text(artifact.dump(manifest))
    return manifest


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path)
    export(found)
    write_rows(found.stage("learn").metrics, range(1, 6))
    report = found.report(1)
    report.parent.mkdir(parents=True)
    digest = artifact.read(found.artifact).digest
    report.write_text(
        json.dumps({"artifact": {"digest": digest}, "metrics": {"perplexity": 9.5, "bits_per_byte": 1.25}})
    )
    return found


@pytest.fixture(autouse=True)
def our_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    for name in (variables.TRACKING_VARIABLE, "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def run(workspace: Workspace, plan: Plan, monkeypatch: pytest.MonkeyPatch, **judged: Any) -> StepResult:
    digest = artifact.read(workspace.artifact).digest
    verdict = Judged(**{"number": 1, "verdict": Verdict.PASS, "artifact_digest": digest, **judged})
    monkeypatch.setenv(variables.JUDGED_VARIABLE, verdict.to_json())
    return publish.run(plan, workspace, attempt=1)


def links(result: StepResult) -> dict[str, str]:
    assert result.progress is not None
    return result.progress.links or {}


def test_a_model_that_passed_is_pushed_to_a_private_repository(
    workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(workspace, a_plan(export=PUSH), monkeypatch)
    commit = hub.commit("org/tang")
    assert links(result) == {"hub": f"{hub.address}/org/tang/commit/{commit}"}
    assert "org/tang" in hub.private
    assert commit
    pushed = dict(hub.repositories["org/tang"][commit])
    pushed.pop(".gitattributes")
    assert pushed == {path.name: path.read_bytes() for path in workspace.artifact.iterdir()}
    digest = artifact.read(workspace.artifact).digest
    assert digest in hub.messages[0].splitlines()[0]
    assert "plan sha256:cccc" in hub.messages[0]


def test_the_same_model_again_makes_no_commit(workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = a_plan(export=PUSH)
    first, second = (links(run(workspace, plan, monkeypatch)) for _ in range(2))
    assert first == second
    assert len(hub.messages) == 1


def test_another_model_takes_the_place_of_the_weights_and_leaves_what_people_wrote(
    workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = a_plan(export=PUSH)
    run(workspace, plan, monkeypatch)
    hub.put("org/tang", {"README.md": b"ours"})
    shards = {f"model-0000{n}-of-00002.safetensors": b"%d" % n * 500 for n in (1, 2)}
    export(workspace, {"config.json": b"{}", "model.safetensors.index.json": b"{}", **shards})
    run(workspace, plan, monkeypatch)
    files = hub.repositories["org/tang"][hub.commit("org/tang") or ""]
    assert "model.safetensors" not in files, "it would be loaded beside the shards"
    assert shards.keys() < files.keys()
    assert files["README.md"] == b"ours"


def test_nothing_of_an_earlier_push_is_loaded_with_another_model(
    workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = a_plan(export=PUSH)
    adapter = {"adapter_config.json": b"{}", "base.json": b"{}", "chat_template.jinja": b"x"}
    export(workspace, adapter | {"adapter_model.safetensors": b"a" * 500})
    run(workspace, plan, monkeypatch)
    hub.put("org/tang", {"notes.json": b"ours"})
    export(workspace)
    run(workspace, plan, monkeypatch)
    files = hub.repositories["org/tang"][hub.commit("org/tang") or ""]
    assert not {*adapter, "adapter_model.safetensors"} & files.keys()
    assert files["notes.json"] == b"ours"


def test_a_manifest_that_is_somebody_elses_takes_nothing_away(
    workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("org/tang", {artifact.MANIFEST: b'{"files": {"notes.json": 1}}', "notes.json": b"ours"})
    hub.private.add("org/tang")
    run(workspace, a_plan(export=PUSH), monkeypatch)
    assert hub.repositories["org/tang"][hub.commit("org/tang") or ""]["notes.json"] == b"ours"


def test_a_push_tells_nobody_where_the_base_lay_and_the_model_is_still_the_one_that_was_judged(
    workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base = {"uri": "s3://secret-project/base", "digest": "sha256:" + "e" * 64}
    manifest = export(workspace, lineage={"base": base, "passages": {"base_unknown": base["uri"]}})
    run(workspace, a_plan(export=PUSH), monkeypatch)
    pushed = hub.repositories["org/tang"][hub.commit("org/tang") or ""]
    assert not [name for name, content in pushed.items() if b"secret" in content]
    for name in (*manifest.files, artifact.MANIFEST):
        (tmp_path / "back").mkdir(exist_ok=True)
        (tmp_path / "back" / name).write_bytes(pushed[name])
    found = artifact.verify(tmp_path / "back", manifest.digest)
    assert found.lineage["base"] == {"name": "base", "digest": base["digest"]}
    assert artifact.read(workspace.artifact) == manifest, "the run keeps what it knows"


def card_of(hub: Hub) -> str:
    return hub.repositories["org/tang"][hub.commit("org/tang") or ""][artifact.CARD].decode()


def test_the_card_that_is_pushed_says_the_verdict_and_what_is_fetched_back_is_whole(
    workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manifest = export(workspace, lineage=CARD)
    (workspace.artifact / artifact.CARD).write_text("others can write here")
    plan = a_plan(export=PUSH)
    gate = JudgedMetric(name="perplexity", value=9.5, threshold="max 20", verdict=Verdict.PASS)
    run(workspace, plan, monkeypatch, metrics=[gate], scored_tokens=500)
    assert "| perplexity | 9.5 | max 20 | Pass |" in card_of(hub)
    assert "others can write here" not in card_of(hub)
    run(workspace, plan, monkeypatch, metrics=[gate], scored_tokens=500)
    assert len(hub.messages) == 1, "the same card again makes no commit"
    gate = gate.model_copy(update={"value": 9.25})
    run(workspace, plan, monkeypatch, metrics=[gate], number=2, scored_tokens=500)
    assert "| perplexity | 9.25 |" in card_of(hub), "a new judgement is told"
    folder = tmp_path / "served"
    store = served_model.store_for("hf://org/tang", folder)
    fetched = served_model.fetch(
        store, "hf://org/tang", folder, digest=manifest.digest, accept_unjudged=False, now=datetime.now(UTC)
    )
    assert fetched.digest == manifest.digest


def test_a_card_in_somebodys_own_words_stays(workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    export(workspace, lineage=CARD)
    plan = a_plan(export=PUSH)
    run(workspace, plan, monkeypatch)
    own = card_of(hub).replace(model_card.MARK, "").replace("# demo", "# Ours")
    hub.put("org/tang", {artifact.CARD: own.encode()})
    run(workspace, plan, monkeypatch, number=2, scored_tokens=9)
    assert card_of(hub) == own


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.NOT_APPLICABLE])
def test_A_nothing_is_pushed_that_did_not_pass(
    workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch, verdict: Verdict
) -> None:
    assert links(run(workspace, a_plan(export=PUSH), monkeypatch, verdict=verdict)) == {}
    assert hub.repositories == {}


def test_A_another_model_than_the_one_that_was_judged_is_not_pushed(
    workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PublishRefused, match="was asked for"):
        run(workspace, a_plan(export=PUSH), monkeypatch, artifact_digest="sha256:" + "e" * 64)
    (workspace.artifact / "model.safetensors").write_bytes(b"others")
    with pytest.raises(PublishRefused, match="damaged"):
        run(workspace, a_plan(export=PUSH), monkeypatch)
    assert hub.repositories == {}


@pytest.mark.parametrize("token", ["hf_reader", ""])
def test_a_push_without_rights_is_refused_with_the_field_and_what_to_do(
    workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(PublishRefused) as caught:
        run(workspace, a_plan(export=PUSH), monkeypatch)
    said = str(caught.value)
    assert said.startswith("export.push.uri: hf://org/tang: the hub does not let us write")
    assert "export.push.credentials" in said
    assert not token or token not in said


def test_a_repository_that_everybody_sees_gets_no_private_model(
    workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("org/tang", {"README.md": b"hello"})
    with pytest.raises(PublishRefused, match="everybody sees"):
        run(workspace, a_plan(export=PUSH), monkeypatch)
    assert hub.messages == []
    public = a_plan(export={"push": {**PUSH["push"], "private": False}})
    assert links(run(workspace, public, monkeypatch))


def test_a_hub_that_is_away_is_another_attempt(workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    address, hub.address = hub.address, AWAY
    hub.used_by(monkeypatch)
    with pytest.raises(PublishFailed, match="the hub does not answer"):
        run(workspace, a_plan(export=PUSH), monkeypatch)
    hub.address, hub.busy = address, 1
    hub.used_by(monkeypatch)
    with pytest.raises(PublishFailed, match="does not take it now"):
        run(workspace, a_plan(export=PUSH), monkeypatch)
    assert links(run(workspace, a_plan(export=PUSH), monkeypatch))


def test_trackers_get_what_they_lack_and_the_verdict_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in told(**TENSORBOARD).items():
        monkeypatch.setenv(name, value)
    plan = a_plan(tracking=TENSORBOARD)
    result = run(workspace, plan, monkeypatch, verdict=Verdict.FAIL, reason="perplexity is 9.5")
    assert links(result) == {"tensorboard": f"file://{workspace.tensorboard}"}
    found = scalars(workspace.tensorboard)
    assert [step for step, _ in found["learn/loss"]] == [1, 2, 3, 4, 5]
    assert found["evaluation/perplexity"] == [(5, 9.5)]
    assert found["evaluation/bits_per_byte"] == [(5, 1.25)]
    facts = json.loads(texts(workspace.tensorboard)["verdict"])
    assert (facts["verdict"], facts["reason"]) == ("Fail", "perplexity is 9.5")
    assert facts["plan_digest"] == plan.digest
    assert facts["model_digest"] == artifact.read(workspace.artifact).digest
    assert facts["data.learn/train"] == "sha256:" + "d" * 64
    files = sorted(workspace.tensorboard.iterdir())
    run(workspace, plan, monkeypatch, verdict=Verdict.FAIL, reason="perplexity is 9.5")
    assert sorted(workspace.tensorboard.iterdir()) == files, "told once"
    run(workspace, plan, monkeypatch, number=2)
    assert json.loads(texts(workspace.tensorboard)["verdict"])["verdict"] == "Pass"


def test_one_tracker_that_is_away_keeps_neither_the_others_nor_the_push_back(
    workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = {**TENSORBOARD, "mlflow": {"uri": "http://127.0.0.1:9", "experiment": "e"}}
    for name, value in told(**tracking).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PublishFailed, match=r"tracking\.mlflow: http://127\.0\.0\.1:9 does not") as caught:
        run(workspace, a_plan(tracking=tracking, export=PUSH), monkeypatch)
    assert caught.value.progress is not None
    assert (caught.value.progress.links or {}).keys() == {"tensorboard", "hub"}
    assert len(hub.messages) == 1


def test_one_that_hangs_is_left_behind(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    class Silent(QuietHandler):
        def do_GET(self) -> None:
            gate.wait(60)

    with served(Silent) as address:
        tracking = {"mlflow": {"uri": address, "experiment": "e"}}
        for name, value in told(**tracking).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv(variables.JUDGED_VARIABLE, Judged(number=1, verdict=Verdict.FAIL).to_json())
        begun = time.monotonic()
        with pytest.raises(PublishFailed, match="it has not answered within 2 s"):
            publish.run(a_plan(tracking=tracking), workspace, attempt=1, seconds=2)
        assert time.monotonic() - begun < 10
        gate.set()


@pytest.mark.parametrize("text", ["", "{", '{"number": 1, "verdict": "Great"}'])
def test_A_without_a_verdict_nothing_is_done(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(variables.JUDGED_VARIABLE, text)
    with pytest.raises(BadConfig, match=variables.JUDGED_VARIABLE):
        publish.run(a_plan(export=PUSH), workspace, attempt=1)
    assert "SLIPWAY_TRACKING" not in os.environ
