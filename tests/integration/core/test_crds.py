"""The CRDs on a real API server: it refuses what `slipway validate` refuses, with the same words, and nothing else."""

import json
import re
from pathlib import Path

import pytest
from tests.integration.api_client import Cause, Refused
from tests.integration.core.rule_cases import ENDPOINT, RUN, RuleCase, changed, every_rule

from slipway_core.documents import loading, yaml12
from slipway_operator.kube.kinds import MODEL_ENDPOINT, TRAINING_RUN

EXAMPLES = sorted(Path(__file__).parents[3].glob("examples/*.yaml"))
DIGEST = "sha256:" + "a" * 64
_VALUE = re.compile(r'^Invalid value: ("object"|null): ')
"""How the API server begins the words of a rule."""


@pytest.fixture
def api(control_plane):
    return control_plane.api


def refused(api, document):
    """What the API server has against a document: where, and in which words."""
    with pytest.raises(Refused) as caught:
        api.create(document, "default", dry_run=True)
    return {Cause(cause.field, _VALUE.sub("", cause.message)) for cause in caught.value.causes}


def told(document):
    """What `slipway validate` has against it."""
    return {Cause(problem.field, problem.message) for problem in loading.problems(json.dumps(document))}


@pytest.mark.parametrize("one", every_rule(), ids=str)
def test_what_breaks_a_rule_is_refused_with_the_words_of_validate(api, one: RuleCase):
    words = refused(api, one.broken)
    assert words == told(one.broken)
    assert one.rule.message in {cause.message for cause in words}


@pytest.mark.parametrize("one", every_rule(), ids=str)
def test_what_just_keeps_a_rule_is_accepted(api, one: RuleCase):
    assert told(one.kept) == set()
    api.create(one.kept, "default", dry_run=True)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_accepted(api, example):
    api.create(yaml12.read(example.read_text()).value, "default", dry_run=True)


@pytest.mark.parametrize(
    "assignment",
    [
        "retries=three", "retries=1.5", "suspend=1", "stages=learn", "stages.learn.epochs=two", "model=hf://org/name",
        "stages.learn.objective=chat", "retries=-1", "retries=101", "stages.learn.name=Learn",
        "retention={ttlAfterFinished: 7 days}", "compute={resources: {limits: {memory: lots}}}",
        "stages.learn.data.train=[{uri: http://example.org/data}]", "stages.learn.optimizer={learningRate: 0}",
        "storage={claimName: ''}",
    ],
)  # fmt: skip
def test_wrong_types_and_values_are_refused_at_the_same_field(api, assignment):
    document = changed(RUN, assignment)
    words, known = refused(api, document), told(document)
    assert {cause.field for cause in words} & {cause.field for cause in known}


@pytest.mark.parametrize(
    ("assignment", "where"),
    [
        ("metricss=1", "spec.metricss"),
        ("stages.learn.learningRate=1e-3", "spec.stages[0].learningRate"),
        ("evaluation.gates.perplexity.maximum=3", "spec.evaluation.gates[0].maximum"),
    ],
)
def test_unknown_fields_are_refused(api, assignment, where):
    document = changed(RUN, assignment)
    with pytest.raises(Refused, match=f'unknown field "{where}"'.replace("[", r"\[").replace("]", r"\]")):
        api.create(document, "default", dry_run=True)
    assert where in {problem.field for problem in told(document)}


def test_an_endpoint_is_as_strict(api):
    with pytest.raises(Refused, match=r'unknown field "spec\.modle"'):
        api.create(changed(ENDPOINT, "modle=1"), "default", dry_run=True)
    assert refused(api, changed(ENDPOINT, "model={uri: hf://org/name, digest: sha256:abc}"))
    api.create(changed(ENDPOINT, f"model={{uri: 'hf://org/name', digest: '{DIGEST}'}}"), "default", dry_run=True)


def test_names_may_have_63_characters_and_no_more(api):
    for kind in (RUN, ENDPOINT):
        api.create(changed(kind, f"metadata.name={'a' * 63}"), "default", dry_run=True)
        assert refused(api, changed(kind, f"metadata.name={'a' * 64}")) == {
            Cause("<nil>", "the name must have at most 63 lower-case letters, digits and '-'")
        }
        assert told(changed(kind, f"metadata.name={'a' * 64}"))


@pytest.fixture
def planned(api, namespace):
    """A run that the operator has planned."""
    api.create(changed(RUN, "serving={endpoint: chat}", "retries=1"), namespace)
    status = {"status": {"phase": "Preparing", "planDigest": DIGEST}}
    api.merge(TRAINING_RUN, namespace, "a-run", status, subresource="status")
    return namespace


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("model", {"from": "hf://org/other"}),
        ("stages", []),
        ("compute.accelerator", {"accelerator": "example.com/gpu"}),
        ("compute.resources", {"resources": {"limits": {"memory": "1Gi"}}}),
        ("checkpoints", {"keep": 1}),
        ("retries", 2),
        ("retries", None),
        ("evaluation", {"maxNewTokens": 5}),
        ("export", {"mergeAdapter": True}),
        ("storage", {"claimName": "other"}),
    ],
)
def test_a_planned_run_stays_as_it_is(api, planned, field, change):
    if field == "stages":
        change = [{"name": "other", "data": {"train": [{"uri": "package://tang"}]}}]
    with pytest.raises(Refused) as caught:
        api.merge(TRAINING_RUN, planned, "a-run", {"spec": {field.split(".")[0]: change}})
    [cause] = caught.value.causes
    assert cause.field == f"spec.{field}"
    assert f"{field} cannot change once the run is planned; delete the run" in cause.message


def test_suspend_retention_serving_and_tracking_of_a_planned_run_may_change(api, planned):
    change = {"suspend": True, "retention": {"keepArtifacts": 2}, "serving": {"endpoint": "other"}}
    change["tracking"] = {"mlflow": {"uri": "http://mlflow:5000", "experiment": "e"}, "tensorboard": {}}
    assert api.merge(TRAINING_RUN, planned, "a-run", {"spec": change})["spec"]["suspend"]
    assert "serving" not in api.merge(TRAINING_RUN, planned, "a-run", {"spec": {"serving": None}})["spec"]


ELSEWHERE = {
    "nodes": 4, "processesPerNode": 2, "queue": "night", "priorityClassName": "low", "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}], "podLabels": {"team": "a"}, "podAnnotations": {"a": "b"},
    "podTemplate": "infiniband",
}  # fmt: skip


def begin(api, namespace):
    stages = [{"name": "prepare", "state": "Running", "attempt": 1}]
    api.merge(TRAINING_RUN, namespace, "a-run", {"status": {"stages": stages}}, subresource="status")


@pytest.mark.parametrize("field", ELSEWHERE)
def test_E_where_a_run_runs_stays_while_it_does(api, planned, field):
    begin(api, planned)
    with pytest.raises(Refused) as caught:
        api.merge(TRAINING_RUN, planned, "a-run", {"spec": {"compute": {field: ELSEWHERE[field]}}})
    [cause] = caught.value.causes
    assert cause.field == f"spec.compute.{field}"
    assert "set suspend: true, edit it, and set suspend: false" in cause.message


def test_E_where_a_run_runs_may_be_edited_before_it_begins_and_while_it_is_suspended(api, planned):
    assert api.merge(TRAINING_RUN, planned, "a-run", {"spec": {"compute": ELSEWHERE}})
    begin(api, planned)
    with pytest.raises(Refused):
        api.merge(TRAINING_RUN, planned, "a-run", {"spec": {"compute": {"nodes": 8}}})
    assert api.merge(TRAINING_RUN, planned, "a-run", {"spec": {"suspend": True}})
    assert api.merge(TRAINING_RUN, planned, "a-run", {"spec": {"compute": {"nodes": 8, "queue": None}}})
    assert api.merge(TRAINING_RUN, planned, "a-run", {"spec": {"compute": None, "suspend": False}})


def test_a_run_that_is_not_planned_may_change_in_everything(api, namespace):
    api.create(changed(RUN), namespace)
    other = changed(RUN, "model.from=hf://org/other", "retries=7", "stages.learn.epochs=3")["spec"]
    assert api.merge(TRAINING_RUN, namespace, "a-run", {"spec": other})["spec"]["retries"] == 7


def test_numbers_mean_the_same_to_kubectl_and_to_our_reader(control_plane):
    text = RUN.replace(
        "{name: learn,",
        "{name: learn, optimizer: {learningRate: 2e-4, epsilon: 1E-8, beta1: .5, weightDecay: 1., beta2: 9.5e-1},",
    )
    printed = control_plane.kubectl("create", "--dry-run=client", "-o", "json", "-f", "-", stdin=text)
    theirs, ours = json.loads(printed)["spec"]["stages"][0], yaml12.read(text).value["spec"]["stages"][0]
    assert theirs["optimizer"]["learningRate"] == ours["optimizer"]["learningRate"] == 2e-4
    assert isinstance(ours["optimizer"]["learningRate"], float)
    assert theirs == ours


@pytest.mark.parametrize("scalar", ["yes", "on", "1:30", "0x1F", "0o17", "1e3", "~", "1_000", "2026-01-01", "'1'"])
def test_scalars_mean_the_same_to_kubectl_or_are_refused_by_our_reader(control_plane, scalar):
    text = RUN + f"  compute: {{priorityClassName: {scalar}}}\n"
    document = yaml12.read(text)
    if document.errors:
        return
    printed = control_plane.kubectl(
        "create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-", stdin=text
    )
    theirs = json.loads(printed)["spec"]["compute"]["priorityClassName"]
    ours = document.value["spec"]["compute"]["priorityClassName"]
    assert (theirs, type(theirs)) == (ours, type(ours))


def test_explain_says_what_a_stage_is(control_plane):
    text = " ".join(control_plane.kubectl("explain", "trainingrun.spec.stages").split())
    assert "Trainings in order." in text
    for words in (
        "Passes over the data; 1 when epochs, steps and tokens are left out.",
        "CausalLM learns every token of",
        "Tokens of a packed row.",
        "-required-",
    ):
        assert words in text


def test_get_shows_how_a_run_fares(control_plane, namespace):
    api = control_plane.api
    api.create(changed(RUN, "serving={endpoint: chat}"), namespace)
    running = {"step": 120, "total": 400, "loss": 2.345678}
    status = {
        "phase": "Training",
        "planDigest": DIGEST,
        "stages": [
            {"name": "prepare", "state": "Succeeded"},
            {"name": "learn", "state": "Running", "progress": running},
        ],
        "evaluation": {"number": 1, "verdict": "Pass"},
        "endpoint": {"name": "chat"},
        "warnings": 2,
    }
    api.merge(TRAINING_RUN, namespace, "a-run", {"status": status}, subresource="status")
    head, row = control_plane.kubectl("get", "tr", "-n", namespace).splitlines()
    assert head.split() == [
        "NAME",
        "PHASE",
        "STAGE",
        "PROGRESS",
        "OF",
        "LOSS",
        "VERDICT",
        "WARNINGS",
        "ENDPOINT",
        "AGE",
    ]
    assert row.split()[:-1] == ["a-run", "Training", "learn", "120", "400", "2.345678", "Pass", "2", "chat"]


def test_get_shows_what_an_endpoint_serves(control_plane, namespace):
    control_plane.api.create(changed(ENDPOINT), namespace)
    live = {"version": 3, "uri": "pvc://a/b", "digest": DIGEST, "run": "a-run", "since": "2026-01-01T00:00:00Z"}
    status = {"phase": "Serving", "live": live, "url": "http://chat.default.svc:8000"}
    control_plane.api.merge(MODEL_ENDPOINT, namespace, "an-endpoint", {"status": status}, subresource="status")
    head, row = control_plane.kubectl("get", "me", "-n", namespace).splitlines()
    assert head.split() == ["NAME", "PHASE", "VERSION", "RUN", "CANDIDATE", "URL", "AGE"]
    assert row.split()[:-1] == ["an-endpoint", "Serving", "3", "a-run", "http://chat.default.svc:8000"]
