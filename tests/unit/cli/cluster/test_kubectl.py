"""What kubectl says, in our own words."""

import pytest

from slipway import exit_codes
from slipway.cluster import kubectl
from slipway.cluster.kubectl import Kubectl

TEST = Kubectl("kubectl", "test", "team")


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ('error: the server doesn\'t have a resource type "trainingruns"', kubectl.NotInstalled, "docs/install.md"),
        (
            'error: resource mapping not found for name: "a": no matches for kind "TrainingRun" in version '
            '"slipway.dev/v1alpha1"',
            kubectl.NotInstalled,
            "Slipway is not installed in the cluster of context test",
        ),
        ('Error from server (NotFound): pods "a" not found', kubectl.NotFound, 'pods "a" not found'),
        ('Error from server (NotFound): namespaces "a" not found', kubectl.NoNamespace, "choose another with -n"),
        ('Error from server (Forbidden): pods is forbidden: User "b" cannot', kubectl.Forbidden, "ask whoever"),
        ("error: You must be logged in to the server (Unauthorized)", kubectl.Forbidden, "log in again"),
        ("Unable to connect to the server: dial tcp: lookup a: no such host", kubectl.Unreachable, "context test"),
        ("The connection to the server 127.0.0.1:1 was refused - did you", kubectl.Unreachable, "--local"),
        (
            "E1125 09:00:00.0 1 memcache.go:265] x\nUnable to connect to the server: net/http: TLS handshake timeout",
            kubectl.Unreachable,
            "TLS handshake timeout",
        ),
        ('The TrainingRun "a" is invalid: spec: Invalid value: immutable', kubectl.Refused, "immutable"),
        ("error: something else", kubectl.ClusterError, "something else"),
        ("", kubectl.ClusterError, "gave no reason"),
    ],
)
def test_an_error_has_a_kind_and_says_what_to_do(said, kind, told):
    error = kubectl.error_of(said, TEST)
    assert type(error) is kind
    assert told in str(error)
    assert "memcache" not in str(error)


def test_what_quota_and_pod_security_refuse_is_no_lack_of_rights():
    for reason in ("exceeded quota: small, requested: pods=1", 'violates PodSecurity "restricted:latest"'):
        error = kubectl.error_of(f'Error from server (Forbidden): pods "a" is forbidden: {reason}', TEST)
        assert str(error).endswith(reason)


def test_the_context_and_namespace_are_those_of_the_kubeconfig_or_those_asked_for(cluster):
    assert cluster.kubectl.title == "namespace team of context test"
    assert kubectl.connect(namespace="other").namespace == "other"


def test_without_kubectl_there_is_no_cluster(monkeypatch):
    monkeypatch.delenv("SLIPWAY_KUBECTL", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(kubectl.NoCluster, match="it is not on PATH; install it, or work here with --local"):
        kubectl.connect()


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        (None, r"KUBECONFIG is not set and ~/\.kube/config does not exist; set KUBECONFIG"),
        ("/nonexistent/a", "KUBECONFIG names /nonexistent/a, which does not exist"),
        ("/nonexistent/a:/nonexistent/b", "KUBECONFIG names /nonexistent/a, /nonexistent/b, which do not exist"),
    ],
)
@pytest.mark.parametrize("context", [None, "prod"])
def test_a_kubeconfig_that_is_not_there_is_named(cluster, monkeypatch, tmp_path, variable, told, context):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    if variable is not None:
        monkeypatch.setenv("KUBECONFIG", variable)
    cluster.refuse("config", "error: current-context must exist in order to minify")
    with pytest.raises(kubectl.NoCluster, match=told):
        kubectl.connect(context)


def test_a_kubeconfig_without_a_chosen_context_says_how_one_is_chosen(cluster, monkeypatch, tmp_path):
    (tmp_path / "config").write_text("")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    cluster.refuse("config", "error: current-context must exist in order to minify")
    with pytest.raises(kubectl.NoCluster, match="no kube context is chosen; choose one with --context"):
        kubectl.connect()


def test_what_the_server_finds_invalid_ends_like_a_wrong_file():
    assert kubectl.error_of('The TrainingRun "a" is invalid: spec: x', TEST).code == exit_codes.BAD_INPUT


def test_a_name_that_is_not_there_ends_like_wrong_input(cluster):
    with pytest.raises(kubectl.NotFound) as caught:
        cluster.kubectl.get("pod", "nobody")
    assert caught.value.code == exit_codes.BAD_INPUT
