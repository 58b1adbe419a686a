"""Wrong values are refused with the place and what is allowed, and every value says what it is."""

import re

import pytest
from tests.unit.chart.rendering import CASES, CHART, Helm

REFUSED = [
    ({"operator": {"replics": 3}}, "/operator", "additional properties 'replics' not allowed"),
    ({"operator": {"replicas": 0}}, "/operator/replicas", "minimum: got 0, want 1"),
    (
        {"operator": {"leaderElection": {"enabled": False}}},
        "/operator/leaderElection",
        "additional properties 'enabled' not allowed",
    ),
    ({"operator": {"replicas": "two"}}, "/operator/replicas", "got string, want integer"),
    ({"operator": {"resync": "ten minutes"}}, "/operator/resync", "'ten minutes' does not match pattern"),
    ({"operator": {"port": 0}}, "/operator/port", "minimum: got 0, want 1"),
    ({"operator": {"client": {"workers": 0}}}, "/operator/client/workers", "minimum: got 0, want 1"),
    ({"images": {"train": {"digest": "abc"}}}, "/images/train/digest", "'abc' does not match pattern"),
    ({"images": {"pullPolicy": "Sometimes"}}, "/images/pullPolicy", "'IfNotPresent', 'Always', 'Never'"),
    ({"images": {"pullSecrets": [{"name": "x"}]}}, "/images/pullSecrets/0", "got object, want string"),
    ({"trustedKeys": [{"id": "old"}]}, "/trustedKeys/0", "missing property 'key'"),
    (
        {"trustedKeys": [{"id": "old", "key": "-----BEGIN PRIVATE KEY-----"}]},
        "/trustedKeys/0/key",
        "does not match pattern",
    ),
    ({"watchNamespaces": "team-a"}, "/watchNamespaces", "got string, want array"),
    ({"watchNamespaces": ["Team A"]}, "/watchNamespaces/0", "'Team A' does not match pattern"),
    ({"defaults": {"serving": {"device": "gpu"}}}, "/defaults/serving/device", "must be one of 'cpu', 'cuda'"),
    ({"defaults": {"training": {"accelerator": "gpu"}}}, "/defaults/training/accelerator", "does not match pattern"),
    ({"defaults": {"workspace": {"size": "50 GB"}}}, "/defaults/workspace/size", "'50 GB' does not match pattern"),
    ({"defaults": {"workspace": {"accessModes": ["RWX"]}}}, "/defaults/workspace/accessModes/0", "'ReadWriteMany'"),
    (
        {"defaults": {"training": {"resources": {"limits": {"memory": "lots"}}}}},
        "/defaults/training/resources/limits/memory",
        "'lots' does not match pattern",
    ),
    ({"networkPolicy": {"metricsFrom": [{}]}}, "/networkPolicy/metricsFrom/0", "minProperties: got 0, want 1"),
    (
        {"networkPolicy": {"metricsFrom": [{"namespace": "monitoring"}]}},
        "/networkPolicy/metricsFrom/0",
        "additional properties 'namespace' not allowed",
    ),
    (
        {"defaults": {"training": {"podTemplates": {"fast": {"volumes": [{"name": "t", "secret": {}}]}}}}},
        "/defaults/training/podTemplates/fast/volumes/0",
        "additional properties 'secret' not allowed",
    ),
    (
        {
            "defaults": {
                "serving": {
                    "podTemplates": {
                        "fast": {
                            "volumes": [
                                {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
                            ]
                        }
                    }
                }
            }
        },
        "/defaults/serving/podTemplates/fast/volumes/0/projected/sources/0",
        "additional properties 'serviceAccountToken' not allowed",
    ),
    (
        {"defaults": {"serving": {"podTemplates": {"fast": {"automountServiceAccountToken": True}}}}},
        "/defaults/serving/podTemplates/fast",
        "additional properties 'automountServiceAccountToken' not allowed",
    ),
    (
        {"defaults": {"training": {"podTemplates": {"fast": {"env": [{"name": "SLIPWAY_NODES", "value": "9"}]}}}}},
        "/defaults/training/podTemplates/fast/env/0/name",
        "'not' failed",
    ),
    (
        {"defaults": {"serving": {"podLabels": {"slipway.dev/endpoint": "other"}}}},
        "",
        "invalid propertyName 'slipway.dev/endpoint'",
    ),
    ({"monitoring": {"podMonitor": {"enabled": "yes"}}}, "/monitoring/podMonitor/enabled", "want boolean"),
]


@pytest.mark.parametrize(("values", "place", "reason"), REFUSED, ids=[place for _, place, _ in REFUSED])
def test_a_wrong_value_is_refused_with_its_place_and_the_reason(helm: Helm, values, place: str, reason: str) -> None:
    said = helm.refusal(values)
    assert f"at '{place}'" in said
    assert reason in said


def test_a_lease_that_runs_out_before_it_is_renewed_is_refused_with_the_fix(helm: Helm) -> None:
    said = helm.refusal({"operator": {"leaderElection": {"durationSeconds": 10, "renewSeconds": 5.5}}})
    assert "operator.leaderElection.renewSeconds is 5.5 and durationSeconds is 10" in said
    assert "set renewSeconds to at most half" in said


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_lint_finds_nothing(helm: Helm, case) -> None:
    done = helm.run("lint", CHART, "--strict", "--values", case)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_value_has_a_comment() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    indents = [len(line) - len(line.lstrip()) for line in lines]
    bare = []
    for number, line in enumerate(lines):
        is_leaf = re.match(r" *\w+: \S", line)
        if is_leaf and not lines[number - 1].lstrip().startswith("#"):
            above = next(n for n in range(number - 1, -1, -1) if indents[n] < indents[number])
            if not lines[above - 1].lstrip().startswith("# --"):
                bare.append(line.strip())
    assert bare == []
