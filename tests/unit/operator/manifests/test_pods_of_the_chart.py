"""What the chart gives to pods by default and by name, and what it cannot take from them (invariant H)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.manifests.pod_defaults import DEFAULTS, OWN, TEMPLATE
from tests.unit.operator.manifests.samples import (
    CLAIM,
    Manifest,
    a_deployment,
    a_job,
    a_plan,
    a_version,
    an_endpoint,
    the_owner,
    variables,
)

from slipway_core.resources import pod_security
from slipway_core.resources.model_endpoint import ModelEndpointSpec
from slipway_core.rollout.revision import revision_of
from slipway_operator.manifests.errors import ManifestError
from slipway_operator.manifests.run.cleanup_job import cleanup_job
from slipway_operator.settings import Settings

PLACED = ("nodeSelector", "tolerations", "priorityClassName")


def settings(**fields: Any) -> dict[str, Any]:
    loaded = Settings.model_validate(fields)
    return {name: getattr(loaded, name) for name in fields}


def of_step(step: str = "learn", defaults: Manifest = DEFAULTS, **compute: Any) -> Manifest:
    return a_job(a_plan(compute=compute), step, **settings(training=defaults))["spec"]["template"]


def of_endpoint(defaults: Manifest = DEFAULTS, **spec: Any) -> Manifest:
    return a_deployment(an_endpoint(**spec), **settings(serving=defaults))["spec"]["template"]


PODS = pytest.mark.parametrize("pod_of", [of_step, of_endpoint], ids=["a step", "an endpoint"])


@PODS
def test_a_pod_goes_where_the_chart_says_unless_its_resource_says_otherwise(pod_of) -> None:
    default = pod_of()
    assert {name: default["spec"][name] for name in PLACED} == {name: DEFAULTS[name] for name in PLACED}
    assert default["metadata"]["labels"].items() >= DEFAULTS["podLabels"].items()
    assert default["metadata"]["annotations"] == DEFAULTS["podAnnotations"]
    own = pod_of(**OWN)
    assert {name: own["spec"].get(name, []) for name in PLACED} == {name: OWN[name] for name in PLACED}
    assert own["metadata"]["labels"].items() >= OWN["podLabels"].items()
    assert "cost-center" not in own["metadata"]["labels"]
    assert "annotations" not in own["metadata"]


@PODS
def test_a_resource_wins_field_by_field_and_empties_what_it_does_not_want(pod_of) -> None:
    pod = pod_of(nodeSelector={})["spec"]
    assert "nodeSelector" not in pod
    assert pod["tolerations"] == DEFAULTS["tolerations"]


@pytest.mark.parametrize("step", ["prepare", "learn", "export", "evaluate"])
def test_every_step_may_stand_on_a_tainted_node(step: str) -> None:
    assert of_step(step)["spec"]["tolerations"] == DEFAULTS["tolerations"]


def test_what_cleans_up_after_a_run_goes_where_its_steps_went() -> None:
    plan = a_plan()
    job = cleanup_job(plan, the_owner(plan), settings=Settings.model_validate({"training": DEFAULTS}), claim=CLAIM)
    pod = job["spec"]["template"]
    assert pod["spec"]["tolerations"] == DEFAULTS["tolerations"]
    assert pod["metadata"]["labels"].items() >= {**DEFAULTS["podLabels"], "slipway.dev/role": "cleanup"}.items()


def test_labels_of_a_version_stay_those_that_its_deployment_selects_by() -> None:
    deployment = a_deployment(an_endpoint(podLabels={"team": "a"}))
    selected = deployment["spec"]["selector"]["matchLabels"]
    assert "team" not in selected
    assert deployment["spec"]["template"]["metadata"]["labels"] == {**selected, "team": "a"}


@PODS
def test_a_template_is_added_to_a_pod_by_its_name(pod_of) -> None:
    pod, plain = pod_of(podTemplate="company"), pod_of()
    for name in ("serviceAccountName", "runtimeClassName", "affinity"):
        assert pod["spec"][name] == TEMPLATE[name]
        assert name not in plain["spec"]
    (spread,) = pod["spec"]["topologySpreadConstraints"]
    assert spread.items() > TEMPLATE["topologySpreadConstraints"][0].items()
    assert spread["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (container,) = pod["spec"]["containers"]
    assert variables(container)["HTTPS_PROXY"] == "http://proxy:3128"
    assert TEMPLATE["volumeMounts"][0] in container["volumeMounts"]
    assert TEMPLATE["volumes"][0] in pod["spec"]["volumes"]


@PODS
def test_H_a_template_brings_no_token_and_takes_nothing_of_what_is_ours(pod_of) -> None:
    pod, plain = pod_of(podTemplate="company")["spec"], pod_of()["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == pod_security.pod_security()
    (container,), (before,) = pod["containers"], plain["containers"]
    assert container["securityContext"] == pod_security.container_security()
    assert variables(container).items() >= variables(before).items(), "HOME among them"
    assert container["volumeMounts"][: len(before["volumeMounts"])] == before["volumeMounts"]
    assert pod["volumes"][: len(plain["volumes"])] == plain["volumes"]


def test_a_secret_of_a_store_wins_over_a_template() -> None:
    data = {"uri": "s3://bucket/a.jsonl", "credentials": "store"}
    stage = {"name": "learn", "data": {"train": [data]}}
    plan = a_plan(stages=[stage], compute={"podTemplate": "company"})

    def told(step: str) -> Manifest:
        (container,) = a_job(plan, step, **settings(training=DEFAULTS))["spec"]["template"]["spec"]["containers"]
        return variables(container)

    secret = {"name": "store", "key": "AWS_ENDPOINT_URL", "optional": True}
    assert told("prepare")["AWS_ENDPOINT_URL"] == {"secretKeyRef": secret}
    assert told("learn")["AWS_ENDPOINT_URL"] == "http://elsewhere"


def test_what_fetches_a_model_has_the_template_too() -> None:
    endpoint = an_endpoint(podTemplate="company")
    deployment = a_deployment(endpoint, a_version(uri="hf://org/model"), **settings(serving=DEFAULTS))
    (fetch,) = deployment["spec"]["template"]["spec"]["initContainers"]
    assert variables(fetch)["HTTPS_PROXY"] == "http://proxy:3128"
    assert TEMPLATE["volumeMounts"][0] in fetch["volumeMounts"]


@pytest.mark.parametrize(
    ("pod_of", "field"),
    [
        (of_step, "compute.podTemplate: 'fast' is none of defaults.training.podTemplates of Slipway's chart"),
        (of_endpoint, "podTemplate: 'fast' is none of defaults.serving.podTemplates of Slipway's chart"),
    ],
)
def test_a_template_that_the_chart_does_not_have_is_refused_with_those_that_it_has(pod_of, field: str) -> None:
    with pytest.raises(ManifestError) as refused:
        pod_of(podTemplate="fast")
    assert str(refused.value).startswith(field)
    assert "which has company" in str(refused.value)
    with pytest.raises(ManifestError, match="which has none"):
        pod_of(defaults={}, podTemplate="fast")


def test_E_an_endpoint_that_sets_none_of_it_is_the_version_that_it_was() -> None:
    endpoint = an_endpoint()
    plain = a_deployment(endpoint)
    assert plain["spec"]["template"]["metadata"] == {"labels": plain["spec"]["selector"]["matchLabels"]}
    model = endpoint.spec.model
    assert model is not None
    before = revision_of(model, ModelEndpointSpec())
    assert before == "51db837c6be8953e", "as the release before had it"
    for field, value in {**OWN, "podTemplate": "company"}.items():
        changed = ModelEndpointSpec.model_validate({field: value}, by_alias=True, by_name=False)
        assert revision_of(model, changed) != before, field
