"""What docs/operations.md says of a backup and a restore, done: nothing is cleaned up, and training goes on.

On a control plane of its own, since its CRDs are deleted.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.integration.api_client import Manifest, eventually
from tests.integration.control_plane import ControlPlane, define, started
from tests.integration.fresh_namespace import fresh_namespace
from tests.integration.operator.operator_process import OperatorProcess
from tests.integration.operator.pod_stand_in import PodStandIn
from tests.integration.operator.runs_on_cluster import Run, Runs

from slipway_operator import names
from slipway_operator.kube.kinds import CONFIG_MAP, EVENT, JOB, MODEL_ENDPOINT, POD, TRAINING_RUN

HELD = "hold-learn-1-x"
OF_THE_SERVER = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with started(tmp_path_factory.mktemp("restored")) as plane:
        yield plane


@pytest.fixture(scope="module")
def operator(
    control_plane: ControlPlane, pods_say: PodStandIn, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """One that Kopf's words about kinds that are gone do not condemn."""
    folder = tmp_path_factory.mktemp("operator")
    process = OperatorProcess(control_plane.operator_kubeconfig, folder, {"podUrl": pods_say.url})
    process.start()
    yield process
    process.stop()


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    with fresh_namespace(control_plane.api, f"restored-{uuid.uuid4().hex[:6]}") as name:
        yield name


@dataclass(frozen=True)
class Backup:
    records: list[Manifest]
    endpoints: list[Manifest]
    runs: list[Manifest]

    @classmethod
    def of(cls, runs: Runs) -> Backup:
        kinds = (CONFIG_MAP, MODEL_ENDPOINT, TRAINING_RUN)
        found = (runs.api.list(kind, runs.namespace, names.CHILDREN if kind is CONFIG_MAP else "") for kind in kinds)
        # Lists leave out what all their items have in common.
        return cls(
            *(
                [{**one, "apiVersion": kind.api_version, "kind": kind.kind} for one in own]
                for kind, own in zip(kinds, found, strict=True)
            )
        )

    def restore(self, plane: ControlPlane, namespace: str, *, records: bool = True, status: bool = True) -> None:
        """By the commands of the page, in its order."""
        for manifests in (self.records if records else [], self.endpoints, self.runs):
            if manifests:
                plane.kubectl("create", "-n", namespace, "-f", "-", stdin=_document(manifests))
        for manifests in (self.endpoints, self.runs) if status else ():
            plane.kubectl("replace", "-n", namespace, "--subresource", "status", "-f", "-", stdin=_document(manifests))


def _fresh(manifest: Manifest) -> Manifest:
    """An object as a new one: what the API server gives is its own."""
    metadata = {name: value for name, value in manifest["metadata"].items() if name not in OF_THE_SERVER}
    return {**manifest, "metadata": metadata}


def _document(manifests: list[Manifest]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [_fresh(one) for one in manifests]})


def again(run: Run) -> Run:
    """The run of that name as it is now, under another uid."""
    uid = run.manifest["metadata"]["uid"]
    assert uid != run.uid
    return Run(run.api, run.namespace, run.name, uid)


def folder_told(run: Run, step: str) -> str:
    """Where the newest Job of a step works."""
    job = max(run.jobs(step), key=lambda one: int(one["metadata"]["labels"][names.ATTEMPT]))
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return args[args.index("--workspace") + 1].removeprefix("/workspace/")


def cleanups(runs: Runs) -> list[Manifest]:
    return runs.api.list(JOB, runs.namespace, f"{names.ROLE}={names.CLEANUP}")


def marked(runs: Runs) -> list[str]:
    """The runs whose records are marked."""
    records = runs.api.list(CONFIG_MAP, runs.namespace, f"{names.ROLE}=plan")
    own = [one["metadata"] for one in records if names.ORPHANED_AT in one["metadata"].get("annotations", {})]
    return sorted(one["labels"][names.RUN] for one in own)


def told(runs: Runs) -> list[str]:
    """The records that an Event says are left."""
    found = runs.api.list(EVENT, runs.namespace)
    return [event["involvedObject"]["name"] for event in found if event["reason"] == "FolderOrphaned"]


def delete_definitions(plane: ControlPlane) -> None:
    plane.kubectl("delete", "crd", "trainingruns.slipway.dev", "modelendpoints.slipway.dev", "--wait", "--timeout=50s")


def three(runs: Runs) -> tuple[Run, Run, Run]:
    """One that serves, one that is over, and one that trains."""
    served, over = runs.apply("served"), runs.apply("over", endpoint=None)
    trains = runs.apply(HELD, endpoint=None)
    trains.pod("learn").runs()
    trains.reaches("Training")
    served.reaches("Serving")
    over.reaches("Completed")
    return served, over, trains


@pytest.mark.slow
def test_D_crds_that_were_deleted_and_restored_cost_nothing(
    runs: Runs, operator: OperatorProcess, control_plane: ControlPlane
) -> None:
    served, over, trains = three(runs)
    digest = runs.endpoint().live["digest"]
    backup = Backup.of(runs)
    delete_definitions(control_plane)
    # Its watches have ended: its container is started again, and waits for the CRDs.
    operator.kill()
    define(control_plane)
    operator.start()
    eventually(lambda: marked(runs) == [HELD, "over", "served"], "the records are marked", 60)
    assert cleanups(runs) == []
    assert operator.stop() == 0
    backup.restore(control_plane, runs.namespace, records=False)
    operator.start()

    trains_again = again(trains)
    trains_again.reaches("Completed", 90)
    assert trains_again.record("prepare")["attempt"] == 1, "what was done stays done"
    assert trains_again.record("learn")["attempt"] == 100_001
    folder = names.run_folder(trains.name, trains.uid)
    assert folder_told(trains_again, "learn") == folder
    assert trains_again.status["artifact"]["uri"].endswith(f"/{folder}/artifact")
    assert runs.endpoint().reaches("Serving")["live"]["digest"] == digest
    assert again(served).reaches("Serving")["folder"] == names.run_folder(served.name, served.uid)
    over_again = again(over)
    assert over_again.reaches("Completed")["artifact"] == backup_of(backup, "over")["status"]["artifact"]
    assert over_again.jobs() == []
    eventually(lambda: len(runs.api.list(CONFIG_MAP, runs.namespace, f"{names.ROLE}=plan")) == 3, "a record a run")
    assert marked(runs) == []
    assert cleanups(runs) == []


def backup_of(backup: Backup, run: str) -> Manifest:
    return next(one for one in backup.runs if one["metadata"]["name"] == run)


@pytest.mark.slow
def test_D_runs_whose_status_is_lost_go_on_by_their_records(
    runs: Runs, operator: OperatorProcess, control_plane: ControlPlane
) -> None:
    """What a tool restores that knows no status: in a new cluster, with the old claims."""
    served, over, trains = three(runs)
    backup = Backup.of(runs)
    assert operator.stop() == 0
    for kind in (TRAINING_RUN, MODEL_ENDPOINT, CONFIG_MAP):
        runs.api.delete_all(kind, runs.namespace)
    eventually(lambda: runs.api.list(POD, runs.namespace, f"{names.ROLE}=step") == [], "the pods are gone", 60)
    backup.restore(control_plane, runs.namespace, status=False)
    operator.start()
    for run, phase in ((trains, "Completed"), (over, "Completed"), (served, "Serving")):
        restored = again(run)
        status = restored.reaches(phase, 120)
        assert [stage["attempt"] for stage in status["stages"]] == [100_001] * 4
        assert status["folder"] == names.run_folder(run.name, run.uid)
        assert folder_told(restored, "prepare") == status["folder"]
    assert cleanups(runs) == []


def test_D_a_run_that_is_replaced_goes_on_where_it_was(runs: Runs) -> None:
    """`kubectl replace --force` deletes a run and creates it again; its pod is still ending then."""
    run = runs.apply(HELD, endpoint=None)
    pod = run.pod("learn").runs().stays_when_deleted()
    run.reaches("Training")
    manifest = run.manifest
    run.delete()
    runs.api.create(_fresh(manifest), runs.namespace)
    replaced = again(run)
    assert pod.name in replaced.shows("Planned", "EarlierRunEnds", "False")
    assert replaced.jobs() == []
    pod.node_is_back()
    status = replaced.reaches("Completed", 60)
    assert status["folder"] == names.run_folder(run.name, run.uid)
    assert [stage["attempt"] for stage in status["stages"]] == [100_001] * 4
    assert cleanups(runs) == []


def test_what_a_run_left_goes_at_once_when_a_person_asks_for_it(runs: Runs) -> None:
    run = runs.apply("over", endpoint=None)
    run.reaches("Completed")
    run.delete()
    eventually(lambda: marked(runs) == ["over"], "the record is marked")
    eventually(lambda: told(runs) == [names.plan("over", run.uid)], "an Event says so")
    assert cleanups(runs) == []
    at_once = {"metadata": {"annotations": {"slipway.dev/remove": "now"}}}
    runs.api.merge(CONFIG_MAP, runs.namespace, names.plan("over", run.uid), at_once)
    eventually(lambda: runs.api.list(CONFIG_MAP, runs.namespace, f"{names.ROLE}=plan") == [], "the record is gone")
