from pathlib import Path

import pytest
from tests.unit.core.statements import KEY

from slipway_operator import settings
from slipway_operator.settings import SettingsError

REFUSED = [
    ("lease: {durationSeconds: 5, renewSeconds: 15}", "lease: .*15 is more than half of durationSeconds 5"),
    ("lease: {durationSeconds: 5}", "renewSeconds 5 is more than half of durationSeconds 5"),
    ("lease: {enabled: false}", "lease.enabled: Extra inputs are not permitted, found False"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_would_let_two_operators_lead_is_refused(text: str, said: str, tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=said):
        settings.load(path)


def test_a_lease_that_is_renewed_twice_before_it_runs_out_is_taken(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text("lease: {durationSeconds: 4, renewSeconds: 2}")
    assert settings.load(path).lease.renew_seconds == 2


@pytest.mark.parametrize(
    ("peer", "said"),
    [
        ("{}", "networkPolicy.metricsFrom.0: .*name namespaceSelector, podSelector or both, or ipBlock alone"),
        ("{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}", "networkPolicy.metricsFrom.0: .*ipBlock alone"),
        ("{namespace: monitoring}", "networkPolicy.metricsFrom.0.namespace: Extra inputs are not permitted"),
        ("{namespaceSelector: {team: monitoring}}", "metricsFrom.0.namespaceSelector.team: Extra inputs"),
    ],
)
def test_a_peer_that_would_let_in_everybody_or_nobody_is_refused(peer: str, said: str, tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(f"networkPolicy: {{metricsFrom: [{peer}]}}")
    with pytest.raises(SettingsError, match=said):
        settings.load(path)


_KEY = '{id: own, key: "' + KEY.public.text + '"%s}'


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (f"[{_KEY % ''}, {_KEY % ''}]", "trustedKeys: .*the key 'own' is there twice"),
        ("[{id: own, key: AAAA}]", "trustedKeys.0.key: .*is no public ed25519 key"),
        (f"[{_KEY % ', notAfter: yesterday'}]", "trustedKeys.0.notAfter"),
        (f"[{_KEY % ', revokd: true'}]", "trustedKeys.0.revokd: Extra inputs"),
        (f"[{', '.join([_KEY % ''] * 64)}]", "trustedKeys: .*at most 63 items"),
    ],
)
def test_keys_of_which_nobody_could_say_what_they_mean_are_refused(keys: str, said: str, tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(f"trustedKeys: {keys}")
    with pytest.raises(SettingsError, match=said):
        settings.load(path)


TEMPLATE = """
training:
  podTemplates:
    infiniband:
      serviceAccountName: trainers
      runtimeClassName: nvidia
      affinity: {nodeAffinity: {}}
      topologySpreadConstraints: [{maxSkew: 1, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}]
      env:
      - {name: NCCL_IB_HCA, value: mlx5}
      - {name: HOST, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
      volumes: [{name: ca, configMap: {name: company-ca}}, {name: info, projected: {sources: [{downwardAPI: {}}]}}]
      volumeMounts: [{name: ca, mountPath: /etc/pki/company, readOnly: true}]
"""


def test_a_pod_template_is_taken_with_all_that_it_may_have(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(TEMPLATE)
    template = settings.load(path).training.pod_templates["infiniband"]
    assert template.service_account_name == "trainers"
    assert template.to_manifests("volume_mounts") == [{"name": "ca", "mountPath": "/etc/pki/company", "readOnly": True}]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            "volumes: [{name: t, projected: {sources: [{serviceAccountToken: {path: t}}]}}]",
            "source serviceAccountToken: .*H",
        ),
        (
            "volumes: [{name: t, projected: {sources: [{configMap: {}}, {secret: {name: t}}]}}]",
            "source secret: it may hold",
        ),
        ("volumes: [{name: t, secret: {secretName: t}}]", "volume t is a Secret: it may hold a token"),
        ("volumes: [{name: t, hostPath: {path: /}}]", "volume t is hostPath; it may be one of configMap, csi"),
        ("volumes: [{name: t}]", "volume t is nothing"),
        ("volumes: [{name: workspace, emptyDir: {}}]", "volume workspace is called like one of Slipway's own"),
        ("volumes: [{name: claim-0, emptyDir: {}}]", "volume claim-0 is called like one of Slipway's own"),
        ("env: [{name: SLIPWAY_NODES, value: '9'}]", "SLIPWAY_NODES: variables that begin with SLIPWAY_"),
        (
            "env: [{name: KEY, valueFrom: {secretKeyRef: {name: a, key: b}}}]",
            "valueFrom.secretKeyRef: it may hold a token",
        ),
        ("env: [{name: KEY}]", "KEY needs value or valueFrom"),
        ("env: [{name: A, value: '1'}, {name: A, value: '2'}]", "env has A more than once"),
        ("affinity: {anything: {}}", "affinity has anything; it may have nodeAffinity"),
        ("topologySpreadConstraints: [{maxSkew: 1}]", "a constraint needs topologyKey, whenUnsatisfiable"),
        ("automountServiceAccountToken: true", "automountServiceAccountToken: Extra inputs are not permitted"),
        ("securityContext: {}", "securityContext: Extra inputs are not permitted"),
        ("volumeMounts: [{name: a, mountPath: /data}]", "volumeMounts names a, which is none of volumes"),
    ],
)
def test_H_a_pod_template_that_takes_from_what_a_pod_promises_is_refused_by_its_name(
    part: str, said: str, tmp_path: Path
):
    path = tmp_path / "config.yaml"
    path.write_text(f"serving: {{podTemplates: {{fast: {{{part}}}}}}}")
    with pytest.raises(SettingsError, match=rf"serving\.podTemplates\.fast.*{said}"):
        settings.load(path)


@pytest.mark.parametrize(
    "path",
    ["/workspace", "/workspace/x", "/etc", "/", "/etc/slipway/plan", "/claims/a", "/model", "/tmp/a", "/var/run",
     "relative", "/data/../workspace", "/dev/shm", "/opt/venv"],
)  # fmt: skip
def test_a_pod_template_mounts_nothing_over_what_a_pod_has(path: str, tmp_path: Path):
    file = tmp_path / "config.yaml"
    mount = f"volumes: [{{name: a, emptyDir: {{}}}}], volumeMounts: [{{name: a, mountPath: {path}}}]"
    file.write_text(f"training: {{podTemplates: {{fast: {{{mount}}}}}}}")
    with pytest.raises(SettingsError, match=r"training\.podTemplates\.fast\.volumeMounts\.0\.mountPath"):
        settings.load(file)


@pytest.mark.parametrize("key", ["slipway.dev/run", "app.kubernetes.io/managed-by", "kueue.x-k8s.io/queue-name"])
@pytest.mark.parametrize("field", ["podLabels", "podAnnotations"])
def test_keys_of_our_own_are_nobody_elses(field: str, key: str, tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(f"serving: {{{field}: {{{key}: a}}}}")
    with pytest.raises(SettingsError, match=f"{field}: {key} is a key by which"):
        settings.load(path)
