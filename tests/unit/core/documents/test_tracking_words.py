"""What a person may write of trackers and of a push, and what is said about the rest."""

import pytest
from tests.unit.core.documents.test_generate import run_of

from slipway_core.documents import loading


def problems_of(**spec):
    import json

    run = run_of(
        {"evaluation": {"data": [{"uri": "package://b"}], "gates": [{"metric": "perplexity", "max": 9}]}, **spec}
    )
    return [f"{one.field}: {one.message}" for one in loading.problems(json.dumps(run))]


@pytest.mark.parametrize("project", ["a\nb", "a\x07", "a\x9b", "team/project", "50%", "a#b", "what?"])
def test_a_project_of_wandb_holds_no_control_characters_and_no_parts_of_an_address(project):
    found = problems_of(tracking={"wandb": {"project": project, "credentials": "k"}})
    assert len(found) == 1
    assert found[0].startswith("spec.tracking.wandb.project: ")
    assert found[0].endswith("may hold no control characters and none of / \\ # ? % :")


@pytest.mark.parametrize(
    ("name", "fits"), [("x" * 256, True), ("x" * 257, False), ("a\tb", False), ("团队 / tang", True)]
)
def test_an_experiment_is_bounded(name, fits):
    found = problems_of(tracking={"mlflow": {"uri": "https://host", "experiment": name}})
    assert bool(found) != fits, found
    assert all(one.startswith("spec.tracking.mlflow.experiment: ") for one in found)


@pytest.mark.parametrize("uri", ["mlflow:5000", "file:///mlruns", "ftp://host", "http://a b", "http://host?token=x"])
def test_a_server_is_an_address_and_nothing_beside(uri):
    found = problems_of(tracking={"mlflow": {"uri": uri, "experiment": "e"}})
    assert [one.rpartition("is no")[2] for one in found] == [" address of a server"], found


@pytest.mark.parametrize("uri", ["hf://org", "hf://org/name@main", "hf://org/name/file", "s3://bucket/path", "hf:///x"])
def test_a_push_names_a_repository(uri):
    found = problems_of(export={"push": {"uri": uri, "credentials": "k"}})
    assert any(one.endswith("is no repository of the hub") for one in found), found


def test_a_tracker_and_a_push_name_their_secret():
    assert problems_of(tracking={"wandb": {"project": "p"}}) == ["spec.tracking.wandb.credentials: is missing"]
    assert problems_of(export={"push": {"uri": "hf://a/b"}}) == ["spec.export.push.credentials: is missing"]


def test_what_is_right_is_taken():
    tracking = {
        "wandb": {"project": "tang poems", "entity": "my-team", "credentials": "wandb"},
        "mlflow": {"uri": "http://mlflow.ml:5000/base", "experiment": "/Shared/tang", "credentials": "mlflow"},
        "tensorboard": {},
    }
    assert (
        problems_of(tracking=tracking, export={"push": {"uri": "hf://my-org/tang-7b.v2", "credentials": "hub"}}) == []
    )


def test_a_stage_is_not_called_like_the_step():
    found = problems_of(stages=[{"name": "publish"}])
    assert found == [
        "spec.stages[0].name: prepare, export, evaluate and publish are names of Slipway's own steps; call the stage "
        "something else"
    ]
