"""What NetworkPolicies of the node do to a firewall that the machine has already: nothing.

Each command has a network of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[3] / "tools/testcluster"
UNSHARE = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
NEEDS = "iptables -w -N SLIPWAY-TRY && iptables -w -X SLIPWAY-TRY && nft list ruleset && ipset list"

NETPOL = """
ipset create KUBE-SRC-AAAA hash:ip
ipset create kube-router-local-pods hash:ip
iptables -w -N KUBE-ROUTER-FORWARD
iptables -w -N KUBE-POD-FW-AAAA
iptables -w -N KUBE-NWPLCY-AAAA
iptables -w -I FORWARD -m comment --comment "kube-router netpol - TEMCG2JMHZYE7H7T" -j KUBE-ROUTER-FORWARD
iptables -w -A KUBE-ROUTER-FORWARD -s 10.244.0.2/32 -j KUBE-POD-FW-AAAA
iptables -w -A KUBE-POD-FW-AAAA -j KUBE-NWPLCY-AAAA
iptables -w -A KUBE-NWPLCY-AAAA -m set --match-set KUBE-SRC-AAAA src -j ACCEPT
"""
"""What kube-router makes."""

DOCKER = """
iptables -w -P FORWARD DROP
iptables -w -N DOCKER-USER
iptables -w -A FORWARD -j DOCKER-USER
iptables -w -A DOCKER-USER -s 192.0.2.1/32 -m comment --comment "says KUBE-ROUTER-FORWARD" -j DROP
"""
NATIVE_CHAIN = (
    "nft add chain ip filter mine '{ type filter hook input priority 5; }'; "
    "nft add rule ip filter mine tcp dport 22 accept"
)
NATIVE_SET = "nft add set ip filter friends '{ type ipv4_addr; }'; nft add element ip filter friends '{ 192.0.2.7 }'"
TABLE = "nft add table ip filter"
SAY = 'say() { echo "$*"; }'
SHOWN = "nft list ruleset; ipset list -name"


def inside(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs it in a network of its own, with the functions of the node's network."""
    state = folder / "node"
    state.mkdir(exist_ok=True)
    names = f"STATE={state} NODE={state} BIN={folder} NODE_NAME=node SERVICE_RANGE=10.96.0.0/16"
    parts = "; ".join(f". {TOOLS}/lib/{part}.sh" for part in ("process", "network"))
    command = [*UNSHARE, "bash", "-c", f"set -euo pipefail; {names}; {SAY}; {parts}; {script}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | variables)


@pytest.fixture(autouse=True)
def firewall(tmp_path: Path) -> None:
    missing = [name for name in ("unshare", "iptables", "nft", "ipset") if not shutil.which(name)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    tried = inside(NEEDS, tmp_path)
    if tried.returncode:
        pytest.skip(f"needs a network of its own with a firewall: {tried.stderr.strip()}")
    if "nf_tables" not in subprocess.run(["iptables", "-V"], capture_output=True, text=True).stdout:
        pytest.skip("needs iptables of nft")


def around(owners: str, folder: Path, marked: bool = False) -> tuple[str, str, str]:
    """What there is without policies, and after policies_down; and what that said."""
    mark = "touch $NODE/no-filter-before;" if marked else ""
    before = inside(f"{owners}\n{SHOWN}", folder)
    assert before.returncode == 0, before.stderr
    after = inside(f"{owners}\n{NETPOL}\n{mark} policies_down >$NODE/said 2>&1\n{SHOWN}", folder)
    assert after.returncode == 0, after.stderr
    return before.stdout, after.stdout, (folder / "node/said").read_text()


@pytest.mark.parametrize(
    "owners",
    [
        DOCKER,
        f"{DOCKER}\n{NATIVE_CHAIN}\n{NATIVE_SET}",
        f"{TABLE}\n{NATIVE_CHAIN}\n{NATIVE_SET}\niptables -w -P FORWARD ACCEPT",
    ],
    ids=["docker", "docker and native chains and sets", "native alone"],
)
@pytest.mark.parametrize("marked", [False, True])
def test_down_takes_away_its_own_and_leaves_what_others_have(owners: str, marked: bool, tmp_path: Path) -> None:
    before, after, said = around(owners, tmp_path, marked)
    rules = lambda text: sorted(line for line in text.splitlines() if "counter" not in line)  # noqa: E731
    assert "KUBE-" not in "\n".join(rules(after)).replace("says KUBE-ROUTER-FORWARD", "")
    # Chains of iptables that rules of netpol stood in stay, empty: the machine's own are all there.
    assert set(rules(before)) <= set(rules(after))
    assert before.count("counter") == after.count("counter")
    assert said == ""


def test_down_leaves_an_empty_table_that_was_there_before(tmp_path: Path) -> None:
    _, after, _ = around(TABLE, tmp_path)
    assert "table ip filter" in after


def test_down_leaves_no_table_where_there_was_none(tmp_path: Path) -> None:
    before, after, _ = around("true", tmp_path, marked=True)
    assert (before, after) == ("", "")


def test_with_iptables_of_before_nft_the_table_of_nft_is_somebody_elses(tmp_path: Path) -> None:
    for name in ("iptables", "iptables-save", "iptables-restore"):
        found = shutil.which(name.replace("iptables", "iptables-legacy"))
        if not found:
            pytest.skip("needs iptables-legacy")
        (tmp_path / name).symlink_to(found)
    path = f"{tmp_path}:{os.environ['PATH']}"
    if inside("iptables -w -n --list", tmp_path, PATH=path).returncode:
        pytest.skip("needs a kernel with the tables of iptables-legacy")
    script = f"{TABLE}\n{NATIVE_CHAIN}\n{NATIVE_SET}\nnft list ruleset >$NODE/before; remember_table; {NETPOL}"
    done = inside(
        f"{script}\ntouch $NODE/no-filter-before; policies_down; nft list ruleset >$NODE/after; iptables-save",
        tmp_path,
        PATH=path,
    )
    assert done.returncode == 0, done.stderr
    assert "KUBE-" not in done.stdout
    assert "filter" in (tmp_path / "node/before").read_text()
    assert (tmp_path / "node/before").read_text() == (tmp_path / "node/after").read_text()


def test_up_remembers_whether_there_was_a_table(tmp_path: Path) -> None:
    tell = "[ -f $NODE/no-filter-before ] && echo none || echo one"
    script = f"remember_table; {tell}; {NETPOL}\nremember_table; {tell}; policies_down; {TABLE}; remember_table; {tell}"
    assert inside(script, tmp_path).stdout.split() == ["none", "none", "one"]


def test_a_down_that_fails_says_so_and_goes_on(tmp_path: Path) -> None:
    # A rule that iptables does not show holds a chain.
    script = f"{NETPOL}\n{NATIVE_CHAIN}; nft add rule ip filter mine jump KUBE-ROUTER-FORWARD"
    held = inside(f"{script}; policies_down; echo goes on", tmp_path)
    assert held.returncode == 0, held.stderr
    assert "could not be taken away" in held.stdout
    assert held.stdout.endswith("goes on\n")


@pytest.mark.parametrize(
    ("owners", "word"),
    [
        (DOCKER, ":FORWARD DROP"),
        ("iptables -w -P INPUT DROP", ":INPUT DROP"),
        ("iptables -w -A INPUT -s 192.0.2.9/32 -j DROP", "192.0.2.9"),
        (f"{TABLE}\n{NATIVE_SET}", "set friends"),
        (f"{TABLE}\n{NATIVE_CHAIN}", "nft list table ip filter"),
        (f"iptables -w -P INPUT ACCEPT\n{NATIVE_CHAIN}", "nft list table ip filter"),
    ],
)
def test_up_enforces_nothing_beside_a_firewall_of_the_owner(owners: str, word: str, tmp_path: Path) -> None:
    stand_ins = 'start() { touch $NODE/started; }; annotate_node() { echo "node: $1"; }'
    compared = "nft list ruleset >$NODE/before\npolicies_up\nnft list ruleset >$NODE/after"
    done = inside(f"{stand_ins}\n{owners}\n{compared}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "NetworkPolicies are not enforced here" in done.stdout
    assert word in done.stdout
    assert "node: slipway.dev/network-policies-unenforced=" in done.stdout
    assert not (tmp_path / "node/started").exists()
    assert (tmp_path / "node/before").read_text() == (tmp_path / "node/after").read_text()


@pytest.mark.parametrize(
    "owners",
    [
        "true",
        "iptables -w -P INPUT ACCEPT",
        NETPOL,
        "iptables -w -N KUBE-FIREWALL; iptables -w -A INPUT -j KUBE-FIREWALL; iptables -w -A KUBE-FIREWALL -j DROP",
        "nft add table inet mine; nft add chain inet mine input '{ type filter hook input priority 0; policy drop; }'",
    ],
    ids=["nothing", "an empty table", "its own", "kubelet's", "another table"],
)
def test_up_enforces_policies_where_there_is_none(owners: str, tmp_path: Path) -> None:
    stand_ins = 'start() { touch $NODE/started; }; annotate_node() { echo "node: $1"; }; bridge_filter() { true; }'
    done = inside(f"{stand_ins}\n{owners}\npolicies_hold() {{ true; }}\npolicies_up", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "node: slipway.dev/network-policies-unenforced-\n"
    assert (tmp_path / "node/started").exists()


def test_whoever_wants_none_gets_none(tmp_path: Path) -> None:
    stand_ins = 'annotate_node() { echo "node: $1"; }'
    done = inside(f"{stand_ins}\n{NETPOL}\npolicies_up; {SHOWN}", tmp_path, POLICIES="off")
    assert done.returncode == 0, done.stderr
    assert "node: slipway.dev/network-policies-unenforced=POLICIES=off" in done.stdout
    assert "KUBE-" not in done.stdout
