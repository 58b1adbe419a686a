"""A, B, H: verdicts are signed by a key that only the operator has, with the chart's rights, on a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.api_client import ApiClient, Manifest, eventually
from tests.integration.operator.operator_process import OperatorProcess
from tests.integration.operator.runs_on_cluster import Runs, verdicts
from tests.unit.core.statements import OTHER_KEY, sealed
from tests.unit.operator.manifests.samples import variables

from slipway_core.protocol import trust
from slipway_core.protocol.trust import TrustedKey
from slipway_operator import names
from slipway_operator.kube.kinds import CONFIG_MAP, DEPLOYMENT, MODEL_ENDPOINT, SECRET
from slipway_operator.settings import Signing

PLACE = Signing()
INVENTED = "sha256:" + "f" * 64


def trusted(api: ApiClient) -> tuple[TrustedKey, ...]:
    """The keys that count, as the operator tells everybody."""
    record = api.get(CONFIG_MAP, PLACE.namespace, PLACE.keys)
    assert record is not None
    return trust.keys_of(record["data"]["trusted.json"])


def server(runs: Runs, endpoint: str = "chat", version: int = 1) -> dict[str, Any]:
    deployment = runs.api.get(DEPLOYMENT, runs.namespace, names.version(endpoint, version))
    assert deployment is not None
    return variables(deployment["spec"]["template"]["spec"]["containers"][0])


@pytest.fixture
def key_is_away(runs: Runs) -> Iterator[Manifest]:
    """The Secret, which is put back in any case: later tests need one."""
    secret = runs.api.get(SECRET, PLACE.namespace, PLACE.secret)
    assert secret is not None, "a test before this one had something judged"
    runs.api.delete(SECRET, PLACE.namespace, PLACE.secret)
    yield _fresh(secret)
    if runs.api.get(SECRET, PLACE.namespace, PLACE.secret) is None:
        runs.api.create(_fresh(secret), PLACE.namespace)


def _fresh(manifest: Manifest) -> Manifest:
    metadata = {name: manifest["metadata"][name] for name in ("name", "namespace", "labels")}
    return {**manifest, "metadata": metadata}


def test_A_a_judgement_is_signed_and_its_server_can_verify_it(runs: Runs, operator: OperatorProcess) -> None:
    run = runs.apply("signed")
    status = run.reaches("Serving")
    keys = trusted(runs.api)
    (record,) = verdicts(runs.api, runs.namespace)
    found = trust.check(record["data"]["statement"], status["artifact"]["digest"], keys)
    assert (found.statement.predicate.run.name, found.statement.predicate.plan) == ("signed", status["planDigest"])
    assert runs.endpoint().live["signedBy"] == found.key.id == record["metadata"]["labels"][names.SIGNED_BY]
    told = server(runs)
    assert told["SLIPWAY_STATEMENT"] == record["data"]["statement"].strip()
    plain = tuple(key.model_copy(update={"own": False}) for key in keys)
    assert trust.keys_of(told["SLIPWAY_TRUSTED_KEYS"]) == plain, "an earlier image takes no field that it does not know"
    secret = runs.api.get(SECRET, PLACE.namespace, PLACE.secret)
    assert secret is not None
    assert secret["data"]["signing.pem"] not in operator.log
    assert "PRIVATE KEY" not in operator.log

    runs.api.delete(CONFIG_MAP, runs.namespace, record["metadata"]["name"])
    again = eventually(lambda: next(iter(verdicts(runs.api, runs.namespace)), None), "it is signed again")
    assert again["data"] == record["data"]


def test_A_a_statement_that_a_stranger_signed_lets_nothing_go_live(runs: Runs) -> None:
    forged = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names.judgement(INVENTED, "0123", 1),
            "labels": {
                names.MANAGED_BY: names.MANAGED_BY_VALUE,
                names.ROLE: "verdict",
                names.DIGEST: names.digest_label(INVENTED),
            },
        },
        "data": {"statement": sealed(digest=INVENTED, key=OTHER_KEY)},
    }
    runs.api.create(forged, runs.namespace)
    endpoint = runs.endpoint()
    endpoint.apply(model={"uri": "pvc://slipway-workspace/evil", "digest": INVENTED}, access={"anonymous": True})
    assert OTHER_KEY.public.id in endpoint.shows("Judged", "KeyNotTrusted", "False")
    assert endpoint.versions == []


def test_A_without_its_key_nothing_is_promoted_and_what_is_live_stays(runs: Runs, key_is_away: Manifest) -> None:
    run = runs.apply("unsigned")
    message = run.shows("Refused", "SigningKeyLost", seconds=60)
    assert f"{PLACE.namespace}/{PLACE.secret}" in message
    assert run.status["evaluation"]["verdict"] == "Pass"
    assert runs.endpoint().manifest == {}
    assert runs.api.get(SECRET, PLACE.namespace, PLACE.secret) is None, "no other key takes its place"
    runs.api.create(key_is_away, PLACE.namespace)
    run.annotate("look", "again")
    run.reaches("Serving", 60)


def test_B_a_revoked_key_takes_the_traffic_and_what_was_there_before_keys_goes_on(
    runs: Runs, operator: OperatorProcess
) -> None:
    signed, before = runs.apply("signed"), runs.apply("before", endpoint="old")
    signed.reaches("Serving")
    before.reaches("Serving")
    (own,) = trusted(runs.api)
    digest = before.status["artifact"]["digest"]
    before.delete()
    assert operator.stop() == 0
    _as_a_release_without_keys_left_it(runs, "old", digest)
    operator.settings["trustedKeys"] = [{"id": own.id, "key": own.key, "revoked": True}]
    try:
        operator.start()
        endpoint = runs.endpoint()
        assert own.id in endpoint.shows("KeyRevoked", "VerdictNotTrusted")
        eventually(lambda: (endpoint.routed, endpoint.versions) == ("none", []), "nothing gets its traffic")
        assert endpoint.live == {}
        assert [one.revoked for one in trusted(runs.api)] == [True]

        old = runs.endpoint("old")
        old.shows("Judged", "Unsigned")
        assert (old.live["version"], old.routed, old.versions) == (1, "1", ["1"])
    finally:
        assert operator.stop() == 0
        del operator.settings["trustedKeys"]
        operator.start()
    # A mistake: the operator trusts it again.
    runs.endpoint().reaches("Serving", version=2, seconds=60)


def _as_a_release_without_keys_left_it(runs: Runs, endpoint: str, digest: str) -> None:
    """The record of the verdict as it was, and a status that names no key."""
    for record in verdicts(runs.api, runs.namespace):
        if record["data"]["digest"] == digest:
            runs.api.delete(CONFIG_MAP, runs.namespace, record["metadata"]["name"])
            data = {name: text for name, text in record["data"].items() if name != "statement"}
            own = record["metadata"]["labels"]
            labelled = {name: own[name] for name in (names.MANAGED_BY, names.ROLE, names.DIGEST)}
            metadata = {"name": names.verdict(digest), "labels": labelled}
            runs.api.create(
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "immutable": True, "data": data},
                runs.namespace,
            )
    change = {"status": {"live": {"signedBy": None}}}
    runs.api.merge(MODEL_ENDPOINT, runs.namespace, endpoint, change, subresource="status")
