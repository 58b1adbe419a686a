"""`slipway verify` of what lies in a cluster: hashed there, and held against what its operator signed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.cluster.folder_cluster import FolderCluster
from tests.unit.cli.cluster.objects import endpoint_document, run_document
from tests.unit.core.statements import KEY, OTHER_KEY, judgement
from typer.testing import CliRunner

from slipway.cluster.target import ClusterTarget
from slipway.main import app
from slipway.records.lineage import files
from slipway_core.protocol import artifact, trust
from slipway_core.protocol.envelope import seal
from slipway_core.protocol.statement import JudgedRun, Statement
from slipway_core.protocol.trust import TrustedKey
from slipway_core.resources import labels
from slipway_core.resources.status import ArtifactStatus, Phase, RunStatus, Verdict

CLIENT = """
images: {train: slipway-train:dev}
operator: {namespace: slipway-system, lease: slipway-operator, trustedKeys: keys}
"""


@pytest.fixture(autouse=True)
def _the_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the train image has on its PATH, and a folder of nobody's."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def digest(cluster: FolderCluster) -> str:
    """A model in the claim, that a run made and an endpoint serves, and whose keys the operator tells."""
    folder = cluster.workspace / "tang-0123" / "artifact"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    made = artifact.build(folder, run="tang", plan_digest="sha256:" + "12" * 32, created_at="2026-11-29T04:00:00Z")
    (folder / artifact.MANIFEST).write_text(artifact.dump(made))
    uri = "pvc://slipway-workspace/tang-0123/artifact"
    own = TrustedKey.of(KEY.public).model_copy(update={"own": True})
    status = RunStatus(phase=Phase.SERVING, artifact=ArtifactStatus(uri=uri, digest=made.digest))
    live = {
        "version": 1,
        "uri": uri,
        "digest": made.digest,
        "revision": "r",
        "state": "Live",
        "since": "2026-01-01T00:00:00Z",
    }
    cluster.save(
        **{
            "trainingrun/tang": run_document(status),
            "modelendpoint/chat": endpoint_document("chat", status={"phase": "Serving", "live": live}),
            "configmap/slipway-client": {"data": {"client.yaml": CLIENT}},
            "configmap/keys": {"data": {"trusted.json": trust.dump([own])}},
        }
    )
    return made.digest


def judged(cluster: FolderCluster, digest: str, verdict: Verdict = Verdict.PASS, **fields: Any) -> None:
    said = Statement.about(digest, judgement(verdict, **fields))
    name = f"slipway-verdict-{said.predicate.evaluation}"
    own = {labels.ROLE: "verdict", labels.DIGEST: labels.digest_label(digest)}
    record = {"metadata": {"name": name, "labels": own}, "data": {"statement": seal(said, KEY)}}
    cluster.save(**{f"configmap/{name}": record})


def verify(*arguments: str, code: int) -> str:
    result = CliRunner().invoke(app, ["verify", *arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


@pytest.mark.parametrize("what", ["endpoint/chat", "pvc://slipway-workspace/tang-0123/artifact"])
def test_a_model_that_passed_holds(cluster: FolderCluster, digest: str, what: str) -> None:
    judged(cluster, digest)
    said = verify(what, "--cluster", code=0)
    assert said.rstrip().endswith("holds")
    assert (digest in said, f"signed by  {KEY.public.id}" in said) == (True, True)
    assert [key for key in cluster.objects if key.startswith("pod/")] == [], "its pod is gone"


def test_a_file_that_changed_does_not_hold_whatever_was_signed(cluster: FolderCluster, digest: str) -> None:
    judged(cluster, digest)
    (cluster.workspace / "tang-0123" / "artifact" / "config.json").write_text("{ }")
    said = verify("tang", "--cluster", code=1)
    assert "config.json" in said
    assert said.rstrip().endswith("does not hold")


def test_the_newest_judgement_counts(cluster: FolderCluster, digest: str) -> None:
    judged(cluster, digest)
    judged(cluster, digest, Verdict.FAIL, evaluation=2, judged_at="2026-11-29T05:00:00Z")
    assert "the newest of 2" in verify("tang", "--cluster", code=3)


def test_what_was_judged_in_another_namespace_holds_there(cluster: FolderCluster, digest: str) -> None:
    judged(cluster, digest, run=JudgedRun(name="tang", uid="0123", namespace="neighbor"))
    assert "of the namespace neighbor, whose gates count there" in verify("tang", "--cluster", code=1)


def test_without_a_statement_nothing_holds_and_it_says_where_it_looked(cluster: FolderCluster, digest: str) -> None:
    assert "there is no statement on the model" in (said := verify("tang", "--cluster", code=1))
    assert "in namespace team; name its file with --statement" in said


def test_keys_and_statements_of_files_count_instead(cluster: FolderCluster, digest: str, tmp_path: Path) -> None:
    judged(cluster, digest)
    theirs, stated = tmp_path / "keys.json", tmp_path / "statement.json"
    theirs.write_text(trust.dump([TrustedKey.of(OTHER_KEY.public)]))
    assert "signed by the key" in verify("tang", "--cluster", "--key", str(theirs), code=1)
    stated.write_text(seal(Statement.about(digest, judgement()), OTHER_KEY))
    verify("tang", "--cluster", "--key", str(theirs), "--statement", str(stated), code=0)


def test_keys_that_nobody_tells_are_asked_for(cluster: FolderCluster, digest: str) -> None:
    cluster.save(**{"configmap/slipway-client": {"data": {"client.yaml": CLIENT.replace(", trustedKeys: keys", "")}}})
    result = CliRunner().invoke(app, ["verify", "tang", "--cluster"])
    assert result.exit_code != 0
    assert "name them with --key" in str(result.output) + str(result.exception)


def test_a_lineage_has_the_statements_of_the_namespace(cluster: FolderCluster, digest: str) -> None:
    judged(cluster, digest)
    found = ClusterTarget(cluster.kubectl).statements(digest)
    assert (list(found.contents), found.trouble) == (["slipway-verdict-1"], None)
    assert ClusterTarget(cluster.kubectl).statements("sha256:" + "f" * 64) == files.Files()
    cluster.refuse("get configmaps", "Error from server (Forbidden): configmaps is forbidden")
    assert "cannot be read" in (ClusterTarget(cluster.kubectl).statements(digest).trouble or "")
