from pathlib import Path

import pytest

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
