"""The pinned sets are installed together, so they must not contradict each other."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REQUIREMENTS = Path(__file__).parents[3] / "requirements"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")


def pins(name: str, python: str, machine: str) -> dict[str, str]:
    """The version of every package that the set installs on such a Linux machine."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    found: dict[str, str] = {}
    for line in (REQUIREMENTS / f"{name}.txt").read_text().splitlines():
        if re.match(r"[A-Za-z0-9]", line):
            requirement = Requirement(line.rstrip(" \\"))
            if requirement.marker is None or requirement.marker.evaluate(environment):
                assert requirement.name not in found, f"{name}.txt pins {requirement.name} twice"
                found[requirement.name] = str(requirement.specifier)
    return found


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_development_set_agrees_with_variant(variant: str, python: str, machine: str) -> None:
    run_time, development = pins(variant, python, machine), pins("dev", python, machine)
    both = run_time.keys() & development.keys()
    assert both, "the sets overlap in the packages that both depend on"
    assert {name: development[name] for name in both} == {name: run_time[name] for name in both}


@pytest.mark.parametrize("name", ["cpu", "cuda", "dev", "uv", "build"])
def test_set_pins_every_package_by_hash_and_names_no_index(name: str) -> None:
    text = (REQUIREMENTS / f"{name}.txt").read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    unpinned = [entry.splitlines()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry]
    assert not unpinned
    assert "://" not in text
    assert "--index" not in text


def test_both_variants_train_with_the_same_libraries() -> None:
    cpu, cuda = (pins(variant, "3.11", "x86_64") for variant in ("cpu", "cuda"))
    for name in ("torch", "transformers", "datasets", "peft", "deepspeed", "accelerate", "tokenizers"):
        assert cpu[name] == cuda[name], name
