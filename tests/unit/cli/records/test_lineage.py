"""What a model was made of is followed to its data and to the runs before it; what cannot be read is said."""

import base64
import json
import shutil

from tests.unit.cli.evidence import entered
from tests.unit.cli.judged_run import HELD_OUT, judged, served

from slipway.local.state import State
from slipway.local.target import LocalTarget
from slipway.records import lineage, lineage_graph
from slipway.screen.lineage import mermaid, text


def shown(found):
    return "\n".join(text.lines(found))


def test_an_endpoint_is_followed_to_the_files_of_its_data_with_every_digest(tmp_path):
    folder = judged(tmp_path)
    served(tmp_path, folder)
    target = LocalTarget(State.below(tmp_path))
    found = lineage.of_endpoint(target, target.find("chat"))
    kinds = [node.kind for node in found.nodes]
    assert [kinds.count(kind) for kind in ("endpoint", "version", "artifact", "judgement", "plan", "base")] == [1] * 6
    said, made = shown(found), folder.status().artifact.digest
    for digest in (made, folder.status().plan_digest, HELD_OUT, "sha256:" + "e" * 64, "sha256:" + "c" * 64):
        assert digest in said
    assert "version 3" in said
    assert "corpus.jsonl" in said
    assert not [node.missing for node in found.nodes if node.missing]
    # The same from the run, and from where its model lies.
    assert {node.id for node in lineage.of_run(target, target.run("tang")).nodes} == {node.id for node in found.nodes}
    by_uri = lineage.of_uri(target, f"{folder.status().artifact.uri}/")
    assert [node.kind for node in by_uri.roots] == ["artifact"]
    assert by_uri.node(f"artifact/{made}").title == folder.status().artifact.uri


def test_a_base_that_another_run_made_is_followed_to_what_that_was_made_of(tmp_path):
    first = judged(tmp_path, "first")
    second = judged(tmp_path, "second", base=first.status().artifact.uri, data="9")
    third = judged(tmp_path, "third", base="run://second", data="8")
    target = LocalTarget(State.below(tmp_path))
    found = lineage.of_run(target, third.load())
    assert [node.title for node in found.nodes if node.kind == "plan"] == [
        f"the plan of run {name}" for name in ("third", "second", "first")
    ]
    assert {folder.status().artifact.digest for folder in (first, second, third)} <= {
        node.digest for node in found.nodes
    }


def test_a_circle_of_bases_ends(tmp_path):
    one = judged(tmp_path, "one", base="run://two")
    judged(tmp_path, "two", base="run://one")
    found = lineage.of_run(LocalTarget(State.below(tmp_path)), one.load())
    assert len([node for node in found.nodes if node.kind == "artifact"]) == 2
    assert "(see above)" in shown(found)


def test_what_is_gone_changed_or_out_of_reach_is_said(tmp_path):
    base = judged(tmp_path, "base")
    uri = base.status().artifact.uri
    folder = judged(tmp_path, base=uri)
    served(tmp_path, folder)
    target = LocalTarget(State.below(tmp_path))
    workspace = folder.workspace()
    shutil.rmtree(base.root)
    workspace.prepared.unlink()
    workspace.plan.write_text("{not json")
    manifest = json.loads((workspace.artifact / "manifest.json").read_text())
    manifest["files"]["model.safetensors"]["sha256"] = "0" * 64
    (workspace.artifact / "manifest.json").write_text(json.dumps(manifest))
    said = shown(lineage.of_run(target, target.run("tang")))
    assert f"! {uri}: there is no such folder" in said
    assert "its manifest's digest is not that of its files" in said
    assert "plan.json: is damaged" in said
    assert "which files it came from is not known" in said
    shutil.rmtree(folder.root)
    gone = shown(lineage.of_endpoint(target, target.find("chat")))
    assert "there is no such folder; run tang is not here any more, or has made another model since" in gone
    elsewhere = shown(lineage.of_uri(target, "hf://org/model"))
    assert "hf://org/model: does not lie on this machine" in elsewhere
    assert "no run and no endpoint" in elsewhere


def test_a_base_whose_place_a_pushed_model_leaves_out_goes_by_its_name(tmp_path):
    folder = judged(tmp_path)
    path = folder.workspace().artifact / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["lineage"]["base"] = {"name": "my-base", "digest": "sha256:" + "e" * 64}
    path.write_text(json.dumps(manifest))
    said = shown(lineage.of_run(LocalTarget(State.below(tmp_path)), folder.load()))
    assert f"starts from: my-base  sha256:{'e' * 64}" in said
    assert "! where it lay is not told" in said
    assert "None" not in said


def test_a_run_that_has_made_nothing_yet_shows_what_it_will_be_made_of(tmp_path):
    folder = entered(tmp_path)
    said = shown(lineage.of_run(LocalTarget(State.below(tmp_path)), folder.load()))
    assert "the run has made none yet: it is Pending" in said
    assert "starts from: a new model" in said
    assert "the plan of run tang  sha256:" in said


JUDGE = {"model": "large", "url": "http://judge:8000/v1", "repeats": 2, "criteria": HELD_OUT}


def test_signed_judgements_are_shown_and_those_that_are_about_something_else_or_damaged_are_said(tmp_path):
    folder = judged(tmp_path)
    digest, target = folder.status().artifact.digest, LocalTarget(State.below(tmp_path))
    kept = tmp_path / ".slipway" / "statements" / digest.removeprefix("sha256:")
    kept.mkdir(parents=True)

    def state(name, about, plan, **more):
        predicate = {"verdict": "Pass", "evaluation": 1, "plan": plan, "judgedAt": "2026-01-02T03:04:05Z", **more}
        subject = [{"name": "model", "digest": {"sha256": about.removeprefix("sha256:")}}]
        payload = base64.b64encode(json.dumps({"subject": subject, "predicate": predicate}).encode()).decode()
        signatures = [{"keyid": "me", "sig": "AAAA"}]
        document = {"payload": payload, "payloadType": "application/vnd.in-toto+json", "signatures": signatures}
        (kept / name).write_text(json.dumps(document))

    state("a-1.json", digest, folder.status().plan_digest)
    found = lineage.of_run(target, folder.load())
    (stated,) = (node for node in found.nodes if node.kind == "statement")
    assert (stated.title, stated.missing) == ("statement on evaluation 1: Pass", None)
    assert stated.facts == {"judged": "2026-01-02T03:04:05Z", "key": "me", "signature": "not checked here"}
    state("a-2.json", digest, HELD_OUT, run={"name": "another"})
    again = lineage.of_run(target, folder.load())
    assert not [node.missing for node in again.nodes if node.kind == "statement" and node.missing], "by its own plan"
    state("d-1.json", digest, folder.status().plan_digest, judge=JUDGE)
    assert "judge large at http://judge:8000/v1" in shown(lineage.of_run(target, folder.load()))
    state("b-1.json", HELD_OUT, HELD_OUT)
    (kept / "c-1.json").write_text('{"payload": "no base64"}')
    said = shown(lineage.of_run(target, folder.load()))
    assert f"it is about another model, {HELD_OUT}; it names another plan, {HELD_OUT}" in said
    assert "it is damaged: no signed statement can be read from it" in said


def test_the_chart_takes_no_title_for_its_own_signs(tmp_path):
    hostile = lineage_graph.Node("a", "artifact", 'x"]; click a "javascript:1"\n<b>%%{init}', "sha256:1")
    drawn = mermaid.chart(
        lineage_graph.Lineage((hostile, lineage_graph.Node("b", "base", "床")), (lineage_graph.Edge("a", "b", "is"),))
    )
    head, first, second, edge = drawn.splitlines()
    assert head == "flowchart TD"
    assert first.count('"') == 2
    assert "<b>" not in drawn
    assert "%%{" not in drawn
    assert '"床"' in second
    assert edge == '  n0 -->|"is"| n1'
