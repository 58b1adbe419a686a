"""What is said of a cluster that is asked whether it can take a run."""

import pytest

from slipway.cluster import client_settings, diagnosis
from slipway.cluster.kubectl import Forbidden
from slipway.cluster.place import ClusterPlace
from slipway.finding import Level

NO_RIGHT = 'Error from server (Forbidden): configmaps "slipway-client" is forbidden: User "ann" cannot get it'


def found(cluster, subject):
    findings = diagnosis.diagnose(lambda: ClusterPlace(cluster.kubectl))
    return [finding for finding in findings if finding.subject == subject]


def test_the_train_image_that_the_chart_names_is_told(cluster):
    cluster.save(**{"configmap/slipway-client": {"data": {"client.yaml": "images: {train: a:1}"}}})
    assert [(finding.level, finding.title) for finding in found(cluster, "train image")] == [(Level.GOOD, "a:1")]


def test_settings_that_are_not_there_are_a_problem(cluster):
    [finding] = found(cluster, "train image")
    assert finding.level is Level.PROBLEM
    assert "name an image to submit with --image" in finding.fix


def test_settings_that_this_user_may_not_read_are_no_problem_of_the_cluster(cluster):
    cluster.refuse("get configmap slipway-client", NO_RIGHT)
    [finding] = found(cluster, "train image")
    assert finding.level is Level.NOTE
    assert "name an image to submit with --image" in finding.fix


def test_settings_that_may_not_be_read_stay_told_apart_from_those_that_are_not_there(cluster):
    cluster.refuse("get configmap slipway-client", NO_RIGHT)
    with pytest.raises(Forbidden, match="this user sees no ConfigMap slipway-client in namespace kube-public"):
        client_settings.read(cluster.kubectl)
    assert client_settings.read(cluster.kubectl, "a:1").image == "a:1"
