"""The commands on a real API server; the operator's part is played by hand, in the status."""

import json

import pytest
from tests.programs import program
from tests.unit.cli.evidence import YAML
from typer.testing import CliRunner

from slipway.main import app
from slipway_operator.kube.kinds import TRAINING_RUN


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch, control_plane):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    monkeypatch.setenv("SLIPWAY_KUBECTL", program("kubectl"))
    text = YAML.format(name="tang")
    for file in ("corpus", "chat", "heldout"):
        text = text.replace(f"file://{file}.jsonl", "package://tang")
    (tmp_path / "run.yaml").write_text(text)


def slipway(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def says(control_plane, namespace, **status):
    control_plane.api.merge(TRAINING_RUN, namespace, "tang", {"status": status}, subresource="status")


def test_a_run_is_submitted_stopped_taken_up_again_watched_and_removed(control_plane, namespace):
    assert "run tang is submitted" in slipway("submit", "run.yaml", "-n", namespace).stdout
    assert "slipway resume tang" in slipway("stop", "tang", "-n", namespace).stdout
    assert control_plane.api.get(TRAINING_RUN, namespace, "tang")["spec"]["suspend"] is True
    slipway("resume", "tang", "-n", namespace)
    assert control_plane.api.get(TRAINING_RUN, namespace, "tang")["spec"]["suspend"] is False
    step = {"name": "prepare", "state": "Failed", "attempt": 1, "message": "BadData: a.jsonl:3: no text"}
    says(control_plane, namespace, phase="Failed", stages=[step])
    assert "run tang is Failed" in slipway("watch", "tang", "-n", namespace, code=2).stdout
    slipway("resume", "tang", "-n", namespace)
    assert "slipway.dev/retry" in control_plane.api.get(TRAINING_RUN, namespace, "tang")["metadata"]["annotations"]
    assert "is removed" in slipway("rm", "tang", "-n", namespace).stdout
    assert json.loads(slipway("status", "-n", namespace, "-o", "json").stdout)["runs"] == []


def test_what_is_not_there_is_named_with_what_there_is(namespace):
    slipway("submit", "run.yaml", "-n", namespace)
    assert "runs: tang; endpoints: none" in slipway("status", "nobody", "-n", namespace, code=2).stderr
