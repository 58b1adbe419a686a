"""`make deploy` installs where somebody said so, and nowhere else."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]


def deploy(command: list[str], kubeconfig: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "KUBE", "MFLAGS"))}
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**environment, "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_exported_kubeconfig_is_no_order(tmp_path: Path):
    """A shell exports it for every command, and it may be production's."""
    production = tmp_path / "production"
    production.write_text("apiVersion: v1\nkind: Config\n")
    for target in ("deploy", "undeploy"):
        done = deploy(["make", target], production)
        assert done.returncode == 2
        assert f"KUBECONFIG={production} is exported" in done.stderr
        assert f"make {target} KUBECONFIG={production}" in done.stderr


def test_a_cluster_that_is_not_up_any_more_is_told_as_that(tmp_path: Path):
    done = deploy(["make", "deploy"], tmp_path / "gone")
    assert done.returncode == 2
    assert f"KUBECONFIG={tmp_path}/gone is not there; is its cluster up? make cluster-up" in done.stderr


def test_a_kubeconfig_that_is_named_is_taken(tmp_path: Path):
    nowhere = tmp_path / "nowhere"
    nowhere.write_text("apiVersion: v1\nkind: Config\n")
    done = deploy(["make", "undeploy", f"KUBECONFIG={nowhere}"], nowhere)
    assert "is exported" not in done.stderr
    assert str(nowhere) in done.stderr or "needs kubectl" in done.stderr
