"""Every call of the operator, against a real API server: what it refuses, it refuses in our own words."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.integration.control_plane import ControlPlane

from slipway_core.resources.events import Event
from slipway_operator.kube import cluster as cluster_module
from slipway_operator.kube.cluster import Cluster
from slipway_operator.kube.connection import Connection, NoCluster, connect
from slipway_operator.kube.errors import (
    AlreadyExists,
    Busy,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    NotLeading,
    QuotaExceeded,
    Unreachable,
)
from slipway_operator.kube.kinds import CONFIG_MAP, EVENT, TRAINING_RUN, WORKLOAD
from slipway_operator.kube.manifest import Manifest
from slipway_operator.kube.rate_limit import TokenBucket

Scenario = Callable[[Cluster], Awaitable[None]]


def a_cluster(connection: Connection, api: Any, **options: Any) -> Cluster:
    return Cluster(api, TokenBucket(1000, 1000, time.monotonic), lambda: datetime.now(UTC), **options)


def on(kubeconfig: Path, scenario: Scenario, **options: Any) -> None:
    """Plays a scenario with a client of its own."""

    async def play() -> None:
        connection = await connect(kubeconfig, None)
        api = connection.api_client()
        try:
            await scenario(a_cluster(connection, api, **options))
        finally:
            await api.close()

    asyncio.run(play())


def a_config_map(namespace: str, name: str = "a", **data: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {"test": "yes"}},
        "data": data,
    }


def a_run(namespace: str, name: str = "demo", **spec: Any) -> Manifest:
    metadata = {"name": name, "namespace": namespace}
    stages = [{"name": "learn", "data": {"train": [{"uri": "file://train.jsonl"}]}}]
    document = {"model": {"scratch": {"tokenizer": {"train": {"vocabSize": 512}}}}, "stages": stages, **spec}
    return {"apiVersion": TRAINING_RUN.api_version, "kind": "TrainingRun", "metadata": metadata, "spec": document}


def test_an_object_is_made_once_read_and_deleted(control_plane: ControlPlane, namespace: str):
    async def scenario(cluster: Cluster) -> None:
        made = await cluster.create(a_config_map(namespace, word="one"))
        with pytest.raises(AlreadyExists):
            await cluster.create(a_config_map(namespace))
        assert await cluster.get(CONFIG_MAP, namespace, "a") == made
        await cluster.delete(CONFIG_MAP, namespace, "a", uid="another")
        assert await cluster.get(CONFIG_MAP, namespace, "a") is not None, "one of another uid is left alone"
        await cluster.delete(CONFIG_MAP, namespace, "a", uid=made["metadata"]["uid"])
        await cluster.delete(CONFIG_MAP, namespace, "a")
        assert await cluster.get(CONFIG_MAP, namespace, "a") is None

    on(control_plane.kubeconfig, scenario)


def test_an_object_that_changed_since_it_was_read_is_not_deleted_as_it_was_read(
    control_plane: ControlPlane, namespace: str
):
    async def scenario(cluster: Cluster) -> None:
        read = (await cluster.create(a_config_map(namespace, word="one")))["metadata"]
        changed = (await cluster.replace(a_config_map(namespace, word="two")))["metadata"]
        with pytest.raises(Conflict):
            await cluster.delete(CONFIG_MAP, namespace, "a", uid=read["uid"], resource_version=read["resourceVersion"])
        assert await cluster.get(CONFIG_MAP, namespace, "a") is not None
        await cluster.delete(CONFIG_MAP, namespace, "a", uid=read["uid"], resource_version=changed["resourceVersion"])
        assert await cluster.get(CONFIG_MAP, namespace, "a") is None

    on(control_plane.kubeconfig, scenario)


def test_a_list_comes_whole_though_it_comes_in_pages(
    control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cluster_module, "PAGE", 3)
    asked: list[tuple[str, str, str]] = []

    async def scenario(cluster: Cluster) -> None:
        for number in range(7):
            await cluster.create(a_config_map(namespace, f"c{number}"))
        found, version = await cluster.list(CONFIG_MAP, namespace, "test=yes")
        assert sorted(one["metadata"]["name"] for one in found) == [f"c{number}" for number in range(7)]
        assert {(one["apiVersion"], one["kind"]) for one in found} == {("v1", "ConfigMap")}
        assert all("data" not in one for one in found), "of ConfigMaps the metadata alone is listed"
        assert int(version) >= max(int(one["metadata"]["resourceVersion"]) for one in found)

    on(control_plane.kubeconfig, scenario, counted=lambda *one: asked.append(one))
    assert asked.count(("list", "ConfigMap", "200")) == 3
    assert asked.count(("create", "ConfigMap", "201")) == 7


def test_an_apply_takes_its_fields_from_whoever_had_them_and_leaves_the_others(
    control_plane: ControlPlane, namespace: str
):
    control_plane.api.create({**a_config_map(namespace), "data": {"mine": "old", "theirs": "kept"}}, namespace)

    async def scenario(cluster: Cluster) -> None:
        applied = await cluster.apply(a_config_map(namespace, mine="new", more="yes"))
        assert applied["data"] == {"mine": "new", "theirs": "kept", "more": "yes"}
        assert (await cluster.apply(a_config_map(namespace, mine="new")))["data"] == {"mine": "new", "theirs": "kept"}
        same = await cluster.apply(a_config_map(namespace, mine="new"))
        again = await cluster.apply(a_config_map(namespace, mine="new"))
        assert same["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]

    on(control_plane.kubeconfig, scenario)


def test_an_apply_to_one_object_makes_no_other_of_its_name(control_plane: ControlPlane, namespace: str):
    async def scenario(cluster: Cluster) -> None:
        made = await cluster.create(a_config_map(namespace, "one"))
        meant = {**a_config_map(namespace, "one"), "data": {"mine": "2"}}
        meant["metadata"]["uid"] = made["metadata"]["uid"]
        assert (await cluster.apply(meant))["metadata"]["uid"] == made["metadata"]["uid"]
        await cluster.delete(CONFIG_MAP, namespace, "one")
        with pytest.raises(Conflict):
            await cluster.apply(meant)
        assert await cluster.get(CONFIG_MAP, namespace, "one") is None
        await cluster.create(a_config_map(namespace, "one"))
        with pytest.raises(Conflict):
            await cluster.apply(meant)

    on(control_plane.kubeconfig, scenario)


def test_a_status_is_replaced_unless_the_object_has_changed(control_plane: ControlPlane, namespace: str):
    async def scenario(cluster: Cluster) -> None:
        read = await cluster.create(a_run(namespace))
        written = await cluster.replace_status({**read, "status": {"phase": "Pending"}})
        assert written["status"]["phase"] == "Pending"
        with pytest.raises(Conflict):
            await cluster.replace_status({**read, "status": {"phase": "Queued"}})

    on(control_plane.kubeconfig, scenario)


def test_what_the_server_refuses_says_which_field(control_plane: ControlPlane, namespace: str):
    async def scenario(cluster: Cluster) -> None:
        with pytest.raises(Invalid, match="stages"):
            await cluster.create(a_run(namespace, stages=[]))
        with pytest.raises(NotFound):
            await cluster.list(WORKLOAD)
        with pytest.raises(NotFound):
            await cluster.create(a_config_map("no-such-namespace"))

    on(control_plane.kubeconfig, scenario)


def test_a_full_quota_is_told_from_what_the_role_forbids(control_plane: ControlPlane, namespace: str):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace}}
    control_plane.api.create({**quota, "spec": {"hard": {"configmaps": "0"}}}, namespace)

    async def create_until_refused(cluster: Cluster) -> None:
        for _ in range(100):  # The quota's controller takes a moment to see it.
            with contextlib.suppress(Busy):
                await cluster.create(a_config_map(namespace))
                await cluster.delete(CONFIG_MAP, namespace, "a")
            await asyncio.sleep(0.2)

    async def scenario(cluster: Cluster) -> None:
        with pytest.raises(QuotaExceeded, match="exceeded quota: none"):
            await create_until_refused(cluster)

    async def as_the_operator(cluster: Cluster) -> None:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": namespace}}
        with pytest.raises(Forbidden, match="secrets"):
            await cluster.create(secret)

    on(control_plane.kubeconfig, scenario)
    on(control_plane.operator_kubeconfig, as_the_operator)


def test_an_event_is_told_once_whoever_repeats_the_pass(control_plane: ControlPlane, namespace: str):
    said = Event("Warning", "Retrying", "train failed with exit code 1; the next attempt starts in 10 s")

    async def scenario(cluster: Cluster) -> None:
        run = await cluster.create(a_run(namespace))
        for _ in range(3):
            await cluster.record(run, said)
        told = [event async for page, _ in cluster.pages(EVENT, namespace) for event in page]
        assert [(event["reason"], event["message"]) for event in told] == [(said.reason, said.message)]
        assert told[0]["involvedObject"]["uid"] == run["metadata"]["uid"]
        assert await cluster.get(EVENT, namespace, told[0]["metadata"]["name"]) is not None

    on(control_plane.kubeconfig, scenario)


def test_a_replica_that_does_not_lead_reads_and_writes_nothing(control_plane: ControlPlane, namespace: str):
    async def scenario(cluster: Cluster) -> None:
        with pytest.raises(NotLeading):
            await cluster.create(a_config_map(namespace))
        assert await cluster.get(CONFIG_MAP, namespace, "a") is None

    on(control_plane.kubeconfig, scenario, may_write=lambda: False)


def test_a_server_that_is_not_there_is_unreachable_and_only_reads_are_repeated(tmp_path: Path):
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}]\n"
        "users: [{name: u, user: {}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
    )
    asked: list[str] = []

    async def at_once(_: float) -> None:
        return None

    async def scenario(cluster: Cluster) -> None:
        with pytest.raises(Unreachable, match="GET /api/v1/namespaces/n/configmaps/a"):
            await cluster.get(CONFIG_MAP, "n", "a")
        with pytest.raises(Unreachable, match="POST"):
            await cluster.create(a_config_map("n"))

    on(kubeconfig, scenario, counted=lambda verb, kind, code: asked.append(f"{verb} {code}"), sleep=at_once)
    assert asked == ["get error"] * 3 + ["create error"]


def test_without_an_api_server_it_says_where_it_looked(tmp_path: Path):
    with pytest.raises(NoCluster, match="missing"):
        asyncio.run(connect(tmp_path / "missing", None))
