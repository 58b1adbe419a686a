"""What must hold of the Dockerfiles without building them."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
IMAGES = ("train", "serve", "operator")
END = "# --- end of what is shared"


def dockerfile(name: str) -> str:
    return (ROOT / f"Dockerfile.{name}").read_text(encoding="utf-8")


def shared(name: str) -> str:
    """The instructions from the base image on that another image has too."""
    text = dockerfile(name)
    return text[text.index("FROM ") : text.index(END)]


def test_training_and_serving_begin_with_the_same_instructions_so_that_a_node_stores_their_libraries_once() -> None:
    assert shared("train") == shared("serve")
    assert "/opt/slipway/requirements.txt" in shared("train")


def test_the_operator_begins_as_they_do() -> None:
    assert shared("train").startswith(shared("operator").rstrip())


@pytest.mark.parametrize("name", IMAGES)
def test_H_every_image_runs_as_nobody_and_passes_signals_on(name: str) -> None:
    final = dockerfile(name).rpartition("\nFROM ")[2]
    assert "\nUSER 65532:65532\n" in final
    assert '\nENTRYPOINT ["tini", "--", "slipway-' in final
    assert "HOME=/tmp" in final


@pytest.mark.parametrize("name", IMAGES)
def test_everything_that_is_installed_is_pinned_by_hash(name: str) -> None:
    installs = [
        line for line in dockerfile(name).replace("\\\n", " ").splitlines() if " pip " in line or "/pip " in line
    ]
    assert installs
    for line in installs:
        assert "--require-hashes" in line or "/wheels/*.whl" in line


def test_what_a_build_sees_is_listed() -> None:
    listed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in listed
    assert {
        "!core",
        "!host",
        "!fetching",
        "!trainer",
        "!serving",
        "!operator",
        "!examples",
        "!requirements/*.txt",
    } <= set(listed)
