"""Who may say what an endpoint takes, on a real API server: nobody without the verb `approve`, and nobody but in their
own name, about what waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.api_client import ApiClient, Manifest, Refused, eventually
from tests.integration.chart.role_binding import bound
from tests.integration.control_plane import ControlPlane
from tests.integration.fresh_namespace import fresh_namespace

from slipway_operator.kube.kinds import CONFIG_MAP, MODEL_ENDPOINT

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
RUN, NEXT_RUN = "0c2f9d5e-demo", "77aa01b2-the-next-of-that-name"
PROMOTION = {"mode": "Approval", "requiredGates": [{"metric": "perplexity", "max": 20}]}
NEEDS_THE_VERB = "takes the verb approve on modelendpoints"


def endpoint(name: str, **spec: Any) -> Manifest:
    model = {"uri": "pvc://models/a", "digest": DIGEST}
    head = {"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelEndpoint", "metadata": {"name": name}}
    return {**head, "spec": {"model": model, **spec}}


def approval(
    user: str | None, digest: str | None = DIGEST, evaluation: str | None = "3", run: str | None = RUN
) -> Manifest:
    own = {"approved-by": user, "approved-digest": digest, "approved-evaluation": evaluation, "approved-run": run}
    return {"metadata": {"annotations": {f"slipway.dev/{name}": value for name, value in own.items()}}}


WITHDRAWN = approval(None, None, None, None)


@pytest.fixture(scope="module")
def team(control_plane: ControlPlane) -> Iterator[str]:
    with fresh_namespace(control_plane.api, "approvals") as name:
        for user, role in (("mallory", "edit"), ("ada", "edit"), ("ada", "slipway-approver")):
            control_plane.api.create(bound(user, role), name)
        yield name


@pytest.fixture(scope="module")
def mallory(control_plane: ControlPlane, team: str) -> Iterator[ApiClient]:
    """Somebody with the role `edit`, once the API server has taken up the policy."""
    client = ApiClient(control_plane.kubeconfig, acts_as="mallory")
    early = {**endpoint("early"), **approval("mallory")}
    early["metadata"]["name"] = "early"

    def refused() -> bool:
        try:
            client.create(early, team, dry_run=True)
        except Refused as refused:
            return NEEDS_THE_VERB in str(refused)
        return False

    eventually(refused, "the policy holds")
    yield client
    client.close()


@pytest.fixture(scope="module")
def ada(control_plane: ControlPlane, team: str) -> Iterator[ApiClient]:
    """Somebody with the role `slipway-approver` too."""
    client = ApiClient(control_plane.kubeconfig, acts_as="ada")
    eventually(lambda: client.get(MODEL_ENDPOINT, team, "x") is None, "ada may look")
    yield client
    client.close()


@pytest.fixture
def chat(control_plane: ControlPlane, team: str) -> Iterator[str]:
    """An endpoint at which a model waits for an approval."""
    api = control_plane.api
    api.create(endpoint("chat", promotion=PROMOTION), team)
    waits = {"awaitingApproval": {"digest": DIGEST, "run": "demo", "runUid": RUN, "evaluation": 3}}
    api.merge(MODEL_ENDPOINT, team, "chat", {"status": waits}, subresource="status")
    yield "chat"
    if api.get(MODEL_ENDPOINT, team, "chat") is not None:
        api.delete(MODEL_ENDPOINT, team, "chat")


def test_A_whoever_may_edit_may_neither_approve_nor_change_nor_delete_what_asks_for_it(
    mallory: ApiClient, team: str, chat: str
) -> None:
    for change in (
        approval("mallory"),
        approval("ada"),
        {"metadata": {"annotations": {"slipway.dev/approved-by": "ada"}}},
        {"metadata": {"annotations": {"slipway.dev/approved-run": RUN}}},
        {"spec": {"promotion": None}},
        {"spec": {"promotion": {"mode": "Automatic"}}},
        {"spec": {"promotion": {"requiredGates": []}}},
    ):
        with pytest.raises(Refused, match=NEEDS_THE_VERB):
            mallory.merge(MODEL_ENDPOINT, team, chat, change)
    with pytest.raises(Refused, match=NEEDS_THE_VERB):
        mallory.delete(MODEL_ENDPOINT, team, chat)
    with pytest.raises(Refused, match=NEEDS_THE_VERB):
        mallory.delete_all(MODEL_ENDPOINT, team)
    owned = mallory.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}}, team)
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owned["metadata"]["uid"]}
    with pytest.raises(Refused, match=r"an endpoint with spec\.promotion has no owner"):
        mallory.merge(MODEL_ENDPOINT, team, chat, {"metadata": {"ownerReferences": [owner]}})
    mallory.delete(CONFIG_MAP, team, "owner")
    # What else the endpoint has is the team's.
    mallory.merge(MODEL_ENDPOINT, team, chat, {"spec": {"replicas": 2}, "metadata": {"annotations": {"note": "x"}}})
    mallory.merge(MODEL_ENDPOINT, team, chat, {"spec": {"rollbackTo": 1}})


def test_an_endpoint_that_asks_for_nothing_is_whoevers_may_edit(mallory: ApiClient, ada: ApiClient, team: str) -> None:
    mallory.create(endpoint("free"), team)
    mallory.merge(MODEL_ENDPOINT, team, "free", {"spec": {"replicas": 0}})
    with pytest.raises(Refused, match=NEEDS_THE_VERB):
        mallory.merge(MODEL_ENDPOINT, team, "free", {"spec": {"promotion": PROMOTION}})
    ada.merge(MODEL_ENDPOINT, team, "free", {"spec": {"promotion": PROMOTION}})
    ada.merge(MODEL_ENDPOINT, team, "free", {"spec": {"promotion": None}})
    mallory.delete(MODEL_ENDPOINT, team, "free")
    mallory.create(endpoint("strict", promotion=PROMOTION), team)  # To ask for more takes no right.
    with pytest.raises(Refused, match=NEEDS_THE_VERB):
        mallory.delete(MODEL_ENDPOINT, team, "strict")
    ada.delete(MODEL_ENDPOINT, team, "strict")


def test_A_an_approval_has_its_givers_name_and_is_about_what_waits(
    ada: ApiClient, mallory: ApiClient, control_plane: ControlPlane, team: str, chat: str
) -> None:
    with pytest.raises(Refused, match="has the name of who gives it, which is ada"):
        ada.merge(MODEL_ENDPOINT, team, chat, approval("eve"))
    wrong = (
        approval("ada", OTHER),
        approval("ada", evaluation="2"),
        approval("ada", None),
        approval("ada", run=NEXT_RUN),
        approval("ada", run="demo"),
        approval("ada", run=None),
    )
    told = f"approved-digest: {DIGEST}, slipway.dev/approved-evaluation: 3 and slipway.dev/approved-run: {RUN}"
    for one in wrong:
        with pytest.raises(Refused, match=told):
            ada.merge(MODEL_ENDPOINT, team, chat, one)
    ada.merge(MODEL_ENDPOINT, team, chat, approval("ada"))
    with pytest.raises(Refused, match=told):
        # Given for the one run, it is not turned into that of another.
        ada.merge(MODEL_ENDPOINT, team, chat, {"metadata": {"annotations": {"slipway.dev/approved-run": NEXT_RUN}}})
    with pytest.raises(Refused, match=NEEDS_THE_VERB):
        mallory.merge(MODEL_ENDPOINT, team, chat, WITHDRAWN)
    mallory.merge(MODEL_ENDPOINT, team, chat, {"spec": {"replicas": 2}})
    ada.merge(MODEL_ENDPOINT, team, chat, WITHDRAWN)
    api = control_plane.api
    api.merge(MODEL_ENDPOINT, team, chat, {"status": {"awaitingApproval": None}}, subresource="status")
    with pytest.raises(Refused, match="nothing waits for an approval at this endpoint"):
        ada.merge(MODEL_ENDPOINT, team, chat, approval("ada"))


def test_A_of_a_model_that_no_run_judged_an_approval_names_none(
    ada: ApiClient, control_plane: ControlPlane, team: str, chat: str
) -> None:
    waits = {"awaitingApproval": {"digest": DIGEST, "run": None, "runUid": None, "evaluation": 0}}
    control_plane.api.merge(MODEL_ENDPOINT, team, chat, {"status": waits}, subresource="status")
    with pytest.raises(Refused, match=r"approved-evaluation: 0, and no slipway\.dev/approved-run"):
        ada.merge(MODEL_ENDPOINT, team, chat, approval("ada", evaluation="0"))
    ada.merge(MODEL_ENDPOINT, team, chat, approval("ada", evaluation="0", run=None))


def test_A_a_service_account_approves_at_no_endpoint_of_its_own_namespace(
    control_plane: ControlPlane, team: str, chat: str
) -> None:
    """Whoever may edit there may act as it; one of another namespace is somebody else's."""
    own, other = (f"system:serviceaccount:{namespace}:pipeline" for namespace in (team, f"{team}-releases"))
    for user in (own, other):
        control_plane.api.create(bound(user, "slipway-approver"), team)
    pipeline = ApiClient(control_plane.kubeconfig, acts_as=other)

    def approved() -> bool:
        try:
            pipeline.merge(MODEL_ENDPOINT, team, chat, approval(other))
        except Refused:
            return False
        return True

    eventually(approved, "the pipeline of the other namespace may approve")
    pipeline.close()
    insider = ApiClient(control_plane.kubeconfig, acts_as=own)
    eventually(lambda: insider.get(MODEL_ENDPOINT, team, "x") is None, "the one of this namespace has the role too")
    for change in (approval(own), WITHDRAWN, {"spec": {"promotion": None}}):
        with pytest.raises(Refused, match=NEEDS_THE_VERB):
            insider.merge(MODEL_ENDPOINT, team, chat, change)
    insider.close()


def test_A_an_approval_may_be_of_an_endpoint_by_its_name(control_plane: ControlPlane, team: str, chat: str) -> None:
    rule = {"apiGroups": ["slipway.dev"], "resources": ["modelendpoints"], "resourceNames": ["other"]}
    role = {**bound("", "x"), "kind": "Role", "metadata": {"name": "of-other"}}
    del role["roleRef"], role["subjects"]
    control_plane.api.create({**role, "rules": [{**rule, "verbs": ["approve"]}]}, team)
    for name in ("edit", "of-other"):
        binding = bound("bob", name)
        binding["roleRef"]["kind"] = "ClusterRole" if name == "edit" else "Role"
        control_plane.api.create(binding, team)
    bob = ApiClient(control_plane.kubeconfig, acts_as="bob")
    bob_may = {"spec": {"promotion": {"mode": "Automatic"}}}
    control_plane.api.create(endpoint("other", promotion=PROMOTION), team)

    def changed() -> bool:
        try:
            bob.merge(MODEL_ENDPOINT, team, "other", bob_may)
        except Refused:
            return False
        return True

    eventually(changed, "bob may change the other one")
    with pytest.raises(Refused, match=NEEDS_THE_VERB):
        bob.merge(MODEL_ENDPOINT, team, chat, bob_may)
    bob.delete(MODEL_ENDPOINT, team, "other")
    bob.close()


def test_the_operator_is_in_nobodys_way(control_plane: ControlPlane, team: str, chat: str) -> None:
    operator = ApiClient(control_plane.operator_kubeconfig)
    told = {**approval("ada"), "spec": {"model": {"uri": "pvc://models/b", "digest": OTHER}}}
    operator.merge(MODEL_ENDPOINT, team, chat, told)
    operator.close()
