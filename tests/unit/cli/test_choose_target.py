"""Which target a command is about."""

from pathlib import Path

import pytest
from tests.unit.cli.cluster import folder_cluster
from tests.unit.cli.evidence import entered

from slipway.choose_target import Wanted, choose
from slipway.cluster.target import ClusterTarget
from slipway.exit_codes import BadInput
from slipway.local.target import LocalTarget


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_cluster.make(tmp_path / "cluster", monkeypatch)


def test_the_folder_that_holds_the_run_is_meant(tmp_path):
    entered(tmp_path)
    assert isinstance(choose(Wanted(), "tang"), LocalTarget)
    assert isinstance(choose(Wanted()), LocalTarget)


def test_what_the_folder_has_not_is_looked_for_in_the_current_context(tmp_path, capsys):
    entered(tmp_path)
    target = choose(Wanted(), "other")
    assert isinstance(target, ClusterTarget)
    assert "namespace team of context test" in capsys.readouterr().err
    with pytest.raises(BadInput, match=r"there is no run 'other' in namespace team .*, nor in /.*\.slipway"):
        target.run("other")


@pytest.mark.parametrize("wanted", [Wanted(context="a"), Wanted(namespace="a"), Wanted(local=False)])
def test_an_option_that_names_a_cluster_decides(tmp_path, wanted):
    entered(tmp_path)
    assert isinstance(choose(wanted, "tang"), ClusterTarget)


@pytest.mark.parametrize("wanted", [Wanted(local=True), Wanted(Path("elsewhere"))])
def test_an_option_that_names_a_folder_decides(wanted):
    assert isinstance(choose(wanted, "tang"), LocalTarget)


def test_without_a_cluster_it_is_the_folder(monkeypatch):
    monkeypatch.setenv("SLIPWAY_KUBECTL", "/nonexistent")
    assert isinstance(choose(Wanted(), "tang"), LocalTarget)


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(BadInput, match="--local and --context"):
        choose(Wanted(local=True, context="a"))
