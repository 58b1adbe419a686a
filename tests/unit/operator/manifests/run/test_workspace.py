"""The claim of a namespace's workspaces, and the Job that takes a folder off it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.manifests.samples import CLAIM, UID, a_plan

from slipway_operator.manifests.owner import Owner
from slipway_operator.manifests.run.cleanup_job import cleanup_job
from slipway_operator.manifests.run.workspace_claim import workspace_claim
from slipway_operator.settings import Settings

RECORD = Owner("v1", "ConfigMap", "demo-plan-0b5e1a52", "uid-of-the-config-map")


@pytest.mark.parametrize(("wanted", "found"), [(None, {}), ("fast", {"storageClassName": "fast"})])
def test_the_claim_is_as_the_settings_say(wanted: str | None, found: dict[str, str]) -> None:
    settings = Settings.model_validate(
        {"workspace": {"storageClass": wanted, "size": "1Ti", "accessModes": ["ReadWriteMany"]}}
    )
    assert workspace_claim("team", settings)["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "1Ti"}},
        **found,
    }


def cleanup(**options: Any) -> dict[str, Any]:
    return cleanup_job(a_plan(), RECORD, settings=Settings(), claim=CLAIM, **options)


@pytest.mark.parametrize(("keep", "tail"), [(False, []), (True, ["--keep-artifact"])])
def test_the_runs_own_folder_is_what_goes(keep: bool, tail: list[str]) -> None:
    pod = cleanup(keep_artifact=keep)["spec"]["template"]["spec"]
    assert pod["containers"][0]["args"] == ["cleanup", "--workspace", f"/workspace/demo-{UID[:8]}", *tail]
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": CLAIM}


@pytest.mark.parametrize(
    ("keep", "mount"),
    [
        (True, {"mountPath": f"/workspace/demo-{UID[:8]}", "subPath": f"demo-{UID[:8]}"}),
        # A folder is removed from the one that it lies in.
        (False, {"mountPath": "/workspace"}),
    ],
)
def test_invariant_h_a_cleanup_reaches_no_more_than_it_removes(keep: bool, mount: dict[str, str]) -> None:
    (container,) = cleanup(keep_artifact=keep)["spec"]["template"]["spec"]["containers"]
    assert container["volumeMounts"][0] == {"name": "workspace", **mount}


def test_a_whole_cleanup_may_follow_one_that_kept_the_artifact() -> None:
    assert cleanup()["metadata"]["name"] != cleanup(keep_artifact=True)["metadata"]["name"]


def test_it_goes_with_the_record_of_the_folder() -> None:
    (owner,) = cleanup()["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("ConfigMap", "uid-of-the-config-map")


def test_it_is_no_attempt_of_a_step() -> None:
    assert "slipway.dev/step" not in cleanup()["metadata"]["labels"]


def test_it_gets_a_pod_under_a_quota_on_limits() -> None:
    (container,) = cleanup()["spec"]["template"]["spec"]["containers"]
    for kind in ("requests", "limits"):
        assert set(container["resources"][kind]) == {"cpu", "memory"}
