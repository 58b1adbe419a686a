"""Reports, comparisons and lineages of what is in a cluster: read in a short-lived pod, and what cannot be is said."""

import json
import shutil

from tests.unit.cli.cluster.objects import endpoint_document, run_document
from tests.unit.cli.evidence import run_named
from tests.unit.cli.judged_run import judged, served
from typer.testing import CliRunner

from slipway.main import app
from slipway_core.protocol.workspace import run_folder
from slipway_core.resources import labels
from slipway_core.resources.status import EvaluationStatus, Phase, RunStatus, StepState, StepStatus, Verdict

SETTINGS = {"data": {"client.yaml": "images: {train: a:1}"}}


def slipway(*arguments, code=0):
    result = CliRunner().invoke(app, [*arguments, "-n", "other", "--context", "test"])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def moved(cluster, tmp_path, *names):
    """Puts runs that were judged in a folder into the cluster, with an endpoint that serves the last one."""
    for name in names:
        folder = judged(tmp_path, name)
        endpoint = served(tmp_path, folder).load()
        place = cluster.workspace / run_folder(name, run_named(name).metadata.uid)
        shutil.copytree(folder.workspace().root, place)
        plan = (place / "plan.json").read_text()
        (place / "plan.json").unlink()
        uri = f"pvc://slipway-workspace/{place.name}/artifact"
        run, live = folder.load().to_document(), endpoint.to_document()
        run["status"]["artifact"]["uri"] = live["spec"]["model"]["uri"] = live["status"]["live"]["uri"] = uri
        own = {labels.RUN_UID: run["metadata"]["uid"], labels.ROLE: "plan"}
        record = {"metadata": {"name": f"{name}-plan", "labels": own}, "data": {"plan.json": plan}}
        cluster.save(**{f"trainingrun/{name}": run, "modelendpoint/chat": live, f"configmap/{name}-plan": record})
    cluster.save(**{"persistentvolumeclaim/slipway-workspace": {}, "configmap/slipway-client": SETTINGS})
    return cluster


def test_a_report_and_a_comparison_have_what_lies_in_the_workspace(cluster, tmp_path):
    moved(cluster, tmp_path / "there", "tang", "other")
    said = slipway("report", "tang")
    assert "Passed: the one gate that applies holds." in said
    assert "床前明月光" in said
    page = tmp_path / "report.html"
    slipway("report", "tang", "-o", str(page))
    assert "corpus.jsonl" in page.read_text()
    assert "Settings and data are the same." in slipway("compare", "tang", "chat")
    assert not any(key.startswith("pod/") for key in cluster.objects)


def test_a_lineage_goes_from_an_endpoint_to_the_data_and_a_model_of_a_run_that_is_gone_is_read_in_its_claim(
    cluster, tmp_path
):
    moved(cluster, tmp_path / "there", "tang")
    told = json.loads(slipway("lineage", "chat", "-o", "json"))
    assert not [node for node in told["nodes"] if "missing" in node]
    assert {"endpoint", "version", "artifact", "plan", "file"} <= {node["kind"] for node in told["nodes"]}
    kept = cluster.objects
    del kept["trainingrun/tang"]
    (cluster.root / "objects.json").write_text(json.dumps(kept))
    said = slipway("lineage", "chat")
    assert "run tang is not here any more" in said
    assert "learned from: pretrain/train  sha256:" + "e" * 64 in said
    elsewhere = slipway("lineage", "s3://bucket/model")
    assert "s3://bucket/model: lies in no claim of the cluster" in elsewhere


def test_how_often_data_was_judged_upon_is_in_the_endpoint_and_before_there_is_one_in_the_runs(cluster):
    sketch = "0123456789abcdef"
    held = {"judgements": 3, "data": [{"sketch": sketch, "judgements": 3, "since": "2026-01-01T00:00:00Z"}]}
    cluster.save(**{"modelendpoint/chat": endpoint_document("chat", status={"heldOut": held})})
    evaluation = EvaluationStatus(number=2, verdict=Verdict.FAIL, data_digest="sha256:1", judgements=2)
    step = StepStatus(name="evaluate", state=StepState.SUCCEEDED, finished_at="2026-01-01T00:00:00Z")
    status = RunStatus(phase=Phase.REJECTED, evaluation=evaluation, held_out_sketch=sketch, stages=[step])
    for endpoint, times in (("chat", 3), ("new", 2)):
        cluster.save(**{"trainingrun/tang": run_document(status, serving={"endpoint": endpoint})})
        assert f"judged upon {times} times for this endpoint" in slipway("status", "tang")
    cluster.refuse("get modelendpoint", "Error from server (Forbidden): modelendpoints is forbidden: no")
    assert "judged upon" not in slipway("status", "tang")


def test_where_the_files_are_out_of_reach_the_report_says_so_and_what_the_status_tells(cluster, tmp_path):
    moved(cluster, tmp_path / "there", "tang")
    cluster.refuse("create", "Error from server (Forbidden): pods is forbidden: no")
    said = slipway("report", "tang")
    assert "! the files of run tang cannot be read:" in said
    assert "2.9 (2.8 to 2.97)" in said
