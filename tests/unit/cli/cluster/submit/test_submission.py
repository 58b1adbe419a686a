"""What is said of a run that was submitted: also when it was there already, and nothing happens."""

import pytest
from tests.unit.cli.evidence import YAML
from typer.testing import CliRunner

from slipway.main import app
from slipway_core.resources.status import Phase


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch, cluster):
    monkeypatch.chdir(tmp_path)
    text = YAML.format(name="tang")
    for file in ("corpus", "chat", "heldout"):
        text = text.replace(f"file://{file}.jsonl", "package://tang")
    (tmp_path / "run.yaml").write_text(text)


def submit(*options, code=0):
    result = CliRunner().invoke(app, ["submit", "run.yaml", *options])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.stdout


def becomes(cluster, phase, **spec):
    run = cluster.objects["trainingrun/tang"]
    run["spec"].update(spec)
    cluster.save(**{"trainingrun/tang": {**run, "status": {"phase": phase}}})


def test_a_new_run_is_submitted():
    said = submit()
    assert said.startswith("run tang is submitted to namespace team of context test\n")
    assert "slipway watch tang -n team" in said


@pytest.mark.parametrize(
    ("phase", "told"),
    [
        (Phase.FAILED, "run tang is there already and Failed; `slipway resume tang -n team` tries it again\n"),
        (Phase.HELD, "run tang is there already and Held; `slipway doctor tang -n team` says what lets it be judged\n"),
        (
            Phase.AWAITING_APPROVAL,
            "run tang is there already and waits for an approval; `slipway approve tang -n team` shows what is to be "
            "approved\n",
        ),
        (Phase.SERVING, "run tang was done already (Serving); no step runs again\n"),
        (Phase.COMPLETED, "run tang was done already (Completed); no step runs again\n"),
        (Phase.REJECTED, "run tang was done already (Rejected); no step runs again\n"),
    ],
)
def test_a_finished_run_is_not_said_to_be_submitted(cluster, phase, told):
    submit()
    becomes(cluster, phase)
    assert submit() == told


def test_a_run_that_somebody_stopped_stays_stopped_and_that_is_said(cluster):
    submit()
    becomes(cluster, Phase.SUSPENDED, suspend=True)
    assert submit() == "run tang is there already and stopped; `slipway resume tang -n team` takes it up again\n"
    assert cluster.objects["trainingrun/tang"]["spec"]["suspend"] is True


def test_a_run_at_work_goes_on(cluster):
    submit()
    becomes(cluster, Phase.TRAINING)
    assert submit() == "run tang is there already and Training\nslipway watch tang -n team\n"


def test_a_run_of_which_the_file_says_something_else_is_changed(cluster):
    submit()
    becomes(cluster, Phase.COMPLETED)
    assert "run tang is changed in namespace team" in submit("--set", "retention.keepArtifacts=2")


def test_a_run_that_a_new_annotation_asks_something_of_is_changed(cluster, tmp_path):
    submit()
    becomes(cluster, Phase.FAILED)
    file = tmp_path / "run.yaml"
    file.write_text(file.read_text().replace("{name: tang}", "{name: tang, annotations: {slipway.dev/retry: a}}"))
    assert "run tang is changed in namespace team" in submit()
