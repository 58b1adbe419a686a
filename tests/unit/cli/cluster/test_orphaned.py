"""What runs of a cluster left that are gone: shown, and removed at once where a person asks for it."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.cli.cluster.objects import endpoint_document, run_document
from typer.testing import CliRunner

from slipway.main import app
from slipway_core.resources.conditions import timestamp
from slipway_core.resources.status import Phase, RunStatus

THERE = "-n other --context test"
UID = "0b5e1a52-7f0e-4f6e-9d56-0b6a1c7f3c11"
CLIENT = {"data": {"client.yaml": "images: {train: slipway-train:dev}\nretention: {grace: 24h}\n"}}


def slipway(*arguments, code=0):
    result = CliRunner().invoke(app, [*arguments, "-n", "other", "--context", "test"])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def a_record(run="gone", uid=UID, *, hours=1.5, **notes):
    own = {
        "slipway.dev/orphaned-at": timestamp(datetime.now(UTC) - timedelta(hours=hours)),
        "slipway.dev/folder": f"slipway-workspace/{run}-{uid[:8]}",
        **{f"slipway.dev/{name.replace('_', '-')}": value for name, value in notes.items()},
    }
    labels = {
        "app.kubernetes.io/managed-by": "slipway",
        "slipway.dev/role": "plan",
        "slipway.dev/run": run,
        "slipway.dev/run-uid": uid,
    }
    metadata = {"name": f"{run}-plan-{uid[:8]}", "namespace": "other", "labels": labels, "annotations": own}
    return {"metadata": metadata, "data": {"plan.json": json.dumps({"run": {"name": run}})}}


LIVING = run_document()["metadata"]["uid"]
OF_TANG = a_record("tang", LIVING)
EARLIER = "11111111-7f0e-4f6e-9d56-0b6a1c7f3c11"
OF_EARLIER = a_record("tang", EARLIER)["metadata"]["name"]


@pytest.fixture
def left(cluster):
    """A run that is there, with its record, and one that is gone."""
    cluster.save(
        **{
            "configmap/slipway-client": CLIENT,
            "trainingrun/tang": run_document(RunStatus(phase=Phase.TRAINING)),
            f"configmap/{OF_TANG['metadata']['name']}": OF_TANG,
            f"configmap/gone-plan-{UID[:8]}": a_record(),
        }
    )
    return cluster


def notes(cluster, name=f"gone-plan-{UID[:8]}"):
    return cluster.objects[f"configmap/{name}"]["metadata"]["annotations"]


def test_a_folder_is_listed_with_its_run_and_when_it_goes(left):
    said = slipway("ls", "--orphaned")
    assert f"pvc://slipway-workspace/gone-{UID[:8]}" in said
    assert UID in said
    assert "in 22 h " in said
    assert "tang" not in said


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (a_record(kept_by="endpoint chat"), [", but for the model", "endpoint chat"]),
        (a_record(hours=30, kept_by="endpoint chat"), ["the model stays", "endpoint chat"]),
        (a_record(hours=30), ["when it is its turn"]),
        (a_record(remove="now"), ["now"]),
        (a_record(orphaned_at=None), ["not marked yet"]),
    ],
    ids=["kept", "kept alone", "due", "asked for", "new"],
)
def test_it_says_what_of_a_folder_goes_when(cluster, record, words):
    kept = {name: value for name, value in record["metadata"]["annotations"].items() if value is not None}
    record["metadata"]["annotations"] = kept
    cluster.save(**{"configmap/slipway-client": CLIENT, f"configmap/{record['metadata']['name']}": record})
    said = slipway("ls", "--orphaned")
    assert all(word in said for word in words)


def test_where_nobody_tells_the_grace_the_time_from_which_it_counts_is_shown(cluster):
    cluster.save(**{f"configmap/gone-plan-{UID[:8]}": a_record()})
    assert "after the chart's retention.grace, from 20" in slipway("ls", "--orphaned")


def test_a_script_reads_all_of_it(left):
    (found,) = json.loads(slipway("ls", "--orphaned", "-o", "json"))
    assert (found["run"], found["uid"], found["place"]) == ("gone", UID, f"slipway-workspace/gone-{UID[:8]}")
    assert found["goes"] > timestamp(datetime.now(UTC) + timedelta(hours=22))


def test_where_nothing_is_left_it_says_so(cluster):
    assert "holds no folder of a run that is gone" in slipway("ls", "--orphaned")


def test_ls_alone_lists_what_there_is(left):
    assert slipway("ls", "-o", "json") == slipway("status", "-o", "json")


def test_a_run_is_removed_and_one_hears_what_stays(left):
    said = slipway("rm", "tang")
    assert "what it left stays for 24h" in said
    assert f"`slipway ls --orphaned {THERE}`" in said
    assert f"`slipway rm --now tang-{LIVING[:8]} {THERE}`" in said
    assert "slipway.dev/remove" not in notes(left, OF_TANG["metadata"]["name"])


@pytest.mark.parametrize("still_there", [False, True])
def test_a_run_is_removed_with_what_it_leaves(left, still_there):
    """Whoever waits for its Jobs keeps a deleted run there for a moment."""
    if still_there:
        left.keep_what_is_deleted()
    assert "of run tang goes at once" in slipway("rm", "tang", "--now")
    assert ("trainingrun/tang" in left.objects) is still_there
    assert notes(left, OF_TANG["metadata"]["name"])["slipway.dev/remove"] == "now"
    assert "slipway.dev/remove" not in notes(left)


def test_what_a_run_left_that_is_gone_is_removed_at_once(left):
    said = slipway("rm", "gone", "--now")
    assert f"pvc://slipway-workspace/gone-{UID[:8]} of run gone goes at once" in said
    assert notes(left)["slipway.dev/remove"] == "now"


@pytest.fixture
def both(left):
    """A run that is there, and the folder of an earlier one of its name."""
    left.save(**{f"configmap/{OF_EARLIER}": a_record("tang", EARLIER)})
    return left


def test_a_name_that_a_run_and_an_earlier_folder_have_removes_neither(both):
    said = " ".join(slipway("rm", "--now", "tang", code=2).split())
    assert f"`slipway rm --now tang-11111111 {THERE}`" in said
    assert f"`slipway rm tang {THERE}`" in said
    assert f"`slipway rm --now tang-{LIVING[:8]} {THERE}`" in said
    assert "trainingrun/tang" in both.objects
    assert not any("slipway.dev/remove" in notes(both, one) for one in (OF_EARLIER, OF_TANG["metadata"]["name"]))


@pytest.mark.parametrize("folder", ["tang-11111111", "pvc://slipway-workspace/tang-11111111"])
def test_a_folder_goes_by_its_own_name_and_nothing_else_does(both, folder):
    said = slipway("rm", "--now", folder)
    assert "pvc://slipway-workspace/tang-11111111 of run tang goes at once" in said
    assert "trainingrun/tang" in both.objects
    assert notes(both, OF_EARLIER)["slipway.dev/remove"] == "now"
    assert "slipway.dev/remove" not in notes(both, OF_TANG["metadata"]["name"])


def test_a_folder_that_is_not_marked_yet_goes_by_its_own_name_too(both):
    record = a_record("tang", EARLIER)
    record["metadata"]["annotations"] = {}
    both.save(**{f"configmap/{OF_EARLIER}": record})
    slipway("rm", "--now", "tang-11111111")
    assert notes(both, OF_EARLIER)["slipway.dev/remove"] == "now"


def test_a_run_that_is_called_as_a_folder_is_not_taken_for_it(both):
    both.save(**{"trainingrun/tang-11111111": {**run_document(), "metadata": {"name": "tang-11111111", "uid": "2"}}})
    said = " ".join(slipway("rm", "--now", "tang-11111111", code=2).split())
    assert f"`slipway rm --now pvc://slipway-workspace/tang-11111111 {THERE}`" in said
    assert {"trainingrun/tang", "trainingrun/tang-11111111"} <= both.objects.keys()
    assert "slipway.dev/remove" not in notes(both, OF_EARLIER)


def test_the_folder_of_a_run_that_is_there_goes_with_the_run_alone(left):
    said = slipway("rm", "--now", f"tang-{LIVING[:8]}", code=2)
    assert "there is no run" in said
    assert "trainingrun/tang" in left.objects
    assert "slipway.dev/remove" not in notes(left, OF_TANG["metadata"]["name"])


def test_once_the_run_is_told_to_go_its_name_means_what_is_left(both):
    both.keep_what_is_deleted()
    slipway("rm", "tang")
    leaving = both.objects["trainingrun/tang"]
    both.save(**{"trainingrun/tang": {**leaving, "metadata": {**leaving["metadata"], "deletionTimestamp": "now"}}})
    slipway("rm", "--now", f"tang-{LIVING[:8]}")
    assert notes(both, OF_TANG["metadata"]["name"])["slipway.dev/remove"] == "now"
    assert "slipway.dev/remove" not in notes(both, OF_EARLIER)


def test_what_is_removed_already_names_the_way_to_its_folder(left):
    assert f"`slipway rm --now gone {THERE}`" in slipway("rm", "gone", code=2)


def test_who_may_not_see_records_hears_that_there_is_no_such_run(left):
    left.refuse("get configmaps", "Error from server (Forbidden): configmaps is forbidden")
    assert "there is no run 'gone'" in slipway("rm", "gone", code=2)


def test_b_an_endpoint_has_no_folder(cluster):
    cluster.save(**{"modelendpoint/chat": endpoint_document("chat", replicas=0)})
    assert "--now: an endpoint has no folder" in slipway("rm", "--now", "endpoint/chat", code=2)
    assert "modelendpoint/chat" in cluster.objects
