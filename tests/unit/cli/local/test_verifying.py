"""`slipway verify` on real files: what holds, what does not, and the exit code of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.core.runs import a_run
from tests.unit.core.statements import KEY, OTHER_KEY, judgement
from typer.testing import CliRunner

from slipway.local.state import State
from slipway.local.statements import Statements
from slipway.main import app
from slipway_core.protocol import artifact, trust
from slipway_core.protocol.envelope import seal
from slipway_core.protocol.statement import JudgeAgreement, JudgedBy, JudgedGate, Statement
from slipway_core.protocol.trust import TrustedKey
from slipway_core.resources.metadata import Metadata
from slipway_core.resources.model_endpoint import ModelEndpoint, ModelEndpointSpec, ServedModel
from slipway_core.resources.status import ArtifactStatus, EndpointStatus, RunStatus, Verdict, VersionStatus


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State.below(tmp_path)


def _verify(*arguments: object, code: int) -> str:
    result = CliRunner().invoke(app, ["verify", *map(str, arguments)])
    assert result.exit_code == code, result.output + repr(result.exception)
    assert "Traceback" not in result.output
    return result.output


def _model(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    made = artifact.build(folder, run="poems", plan_digest="sha256:" + "12" * 32, created_at="2026-11-29T04:00:00Z")
    (folder / artifact.MANIFEST).write_text(artifact.dump(made))
    return made.digest


def _judge(state: State, digest: str, verdict: Verdict = Verdict.PASS, **fields: object) -> Path:
    statement = Statement.about(digest, judgement(verdict, **fields))
    path = state.statements(digest) / f"{statement.predicate.evaluation}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(seal(statement, Statements(state).signing_key()))
    return path


def _run(state: State) -> tuple[str, Path]:
    """A run whose model passed; returns its digest and its folder."""
    run = a_run()
    folder = state.run(run.name)
    folder.save(run)
    place = folder.workspace(run).artifact
    digest = _model(place)
    folder.save_status(RunStatus(artifact=ArtifactStatus(uri=f"file://{place}", digest=digest)))
    _judge(state, digest)
    return digest, place


def test_a_run_an_endpoint_a_folder_and_a_uri_are_the_same_model(state: State) -> None:
    digest, place = _run(state)
    live = VersionStatus(version=1, uri=f"file://{place}", digest=digest, since="2026-01-01T00:00:00Z")
    spec = ModelEndpointSpec(model=ServedModel(uri=live.uri, digest=digest))
    state.endpoint("chat").save(ModelEndpoint(metadata=Metadata(name="chat"), spec=spec))
    state.endpoint("chat").save_status(EndpointStatus(live=live))
    for what in ("demo", "run://demo", "chat", "endpoint/chat", place, f"file://{place}"):
        said = _verify(what, code=0)
        assert digest in said
        assert "2, 0.0 MB: all as the manifest says" in said
        assert "bits_per_byte 3.5 (3.25 to 3.75), wanted <= 4: Pass" in said
        assert said.endswith("holds\n")


def test_it_says_of_each_gate_which_rows_counted_and_the_data_that_it_was_measured_on(state: State) -> None:
    digest, place = _run(state)
    poems = "sha256:" + "7" * 64
    gate = JudgedGate(metric="chrf", source="poems", threshold=">= 30", verdict=Verdict.PASS, value=35.0, data=poems)
    _judge(state, digest, gates=[gate], judged_at="2026-11-29T05:30:00Z")
    assert f"chrf of source poems 35, wanted >= 30: Pass, on {poems}\n" in _verify(place, code=0)


def test_keys_that_came_with_a_model_are_not_trusted(tmp_path: Path) -> None:
    """Whoever gives a model away can give a .slipway with it that says that it passed."""
    theirs = State.below(tmp_path / "elsewhere")
    _, place = _run(theirs)
    said = _verify(place, code=1)
    assert f"if those in {theirs.trusted_keys} are yours, name them with --key" in said
    assert "holds" in _verify(place, "--key", theirs.trusted_keys, code=0)
    assert "holds" in _verify(place, "--workdir", tmp_path / "elsewhere", code=0)


def test_names_of_files_steer_no_terminal(tmp_path: Path) -> None:
    _model(tmp_path / "copy")
    path = tmp_path / "copy" / artifact.MANIFEST
    document = json.loads(path.read_text())
    document["files"]["a\x1b[2K\nholds\n"] = {"size": 1, "sha256": "0" * 64}
    path.write_text(json.dumps(document))
    said = _verify("copy", code=1)
    assert "\x1b" not in said
    assert "holds" not in said.split("\n")


def test_as_json(state: State) -> None:
    digest, _ = _run(state)
    found = json.loads(_verify("demo", "-o", "json", code=0))
    assert (found["digest"], found["holds"], found["passed"], found["reason"]) == (digest, True, True, None)
    assert found["statement"]["predicate"]["verdict"] == "Pass"


def test_a_changed_byte_is_found(state: State) -> None:
    _, place = _run(state)
    (place / "config.json").write_text("{ }")
    said = _verify("demo", code=1)
    assert "config.json: damaged" in said
    assert said.endswith("does not hold\n")
    assert json.loads(_verify("demo", "-o", "json", code=1))["reason"] == "Damaged"


def test_another_model_in_its_place_is_found(state: State) -> None:
    _, place = _run(state)
    (place / "config.json").write_text("{ }")
    _model_again = artifact.build(place, run="other", plan_digest="sha256:" + "12" * 32, created_at="now")
    (place / artifact.MANIFEST).write_text(artifact.dump(_model_again))
    assert "was asked for" in _verify("demo", code=1)
    assert "there is no statement on the model" in _verify(place, code=1), "its own digest is one that nobody judged"


def test_a_statement_that_was_changed_is_found(state: State) -> None:
    digest, _ = _run(state)
    (path,) = state.statements(digest).iterdir()
    path.write_text(path.read_text().replace('"sig":"', '"sig":"A'))
    said = _verify("demo", code=1)
    assert f"statement  {path}: " in said
    assert "does not hold" in said


def test_a_failed_model_has_a_code_of_its_own(state: State) -> None:
    digest, _ = _run(state)
    _judge(state, digest, Verdict.FAIL, evaluation=2, judged_at="2026-11-29T05:00:00Z", reason="too many bits")
    said = _verify("demo", code=3)
    assert "the newest of 2" in said
    assert "did not pass: evaluation 2 of the run poems came out as Fail: too many bits" in said


def test_keys_and_statements_of_elsewhere(tmp_path: Path) -> None:
    digest = _model(tmp_path / "copy")
    (tmp_path / "s.json").write_text(seal(Statement.about(digest, judgement()), KEY))
    (tmp_path / "theirs.json").write_text(trust.dump([TrustedKey.of(KEY.public)]))
    (tmp_path / "ours.json").write_text(trust.dump([TrustedKey.of(OTHER_KEY.public)]))
    assert "there is no statement on the model" in _verify("copy", code=1)
    assert "trusted are: none" in _verify("copy", "--statement", "s.json", code=1)
    assert OTHER_KEY.public.id in _verify("copy", "--statement", "s.json", "--key", "ours.json", code=1)
    both = ("--key", "ours.json", "--key", "theirs.json")
    assert "holds" in _verify("./copy", "--statement", "s.json", *both, code=0)
    assert "twice" in _verify("copy", "--statement", "s.json", "--key", "ours.json", "--key", "ours.json", code=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing",), "is no run or endpoint in"),
        (("pvc://claim/model",), "is not within reach of this machine"),
        (("s4://bucket/model",), "s4"),
        ((".", "--key", "none.json"), "there is no such file of trusted keys"),
        ((".", "--statement", "none.json"), "cannot be read"),
    ],
)
def test_what_is_not_there_is_bad_input(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    _model(tmp_path)
    assert words in _verify(*arguments, code=2)


def test_a_run_without_a_model_says_how_far_it_is(state: State) -> None:
    state.run("demo").save(a_run())
    assert "that run is Pending and has no model yet" in _verify("demo", code=2)


def test_who_judged_is_told(state: State, tmp_path: Path) -> None:
    criteria = "sha256:" + "56" * 32
    judge = JudgedBy(
        model="large", url="http://judge:8000/v1", compare="Reference", repeats=2, criteria=criteria,
        agreement=JudgeAgreement(orders=0.875),
    )  # fmt: skip
    folder = tmp_path / "model"
    _judge(state, _model(folder), judge=judge)
    told = _verify(folder, code=0)
    assert "judge      large at http://judge:8000/v1, beside Reference, each question put 2 times" in told
    assert f"criteria   {criteria}; both orders agree by 0.88" in told
