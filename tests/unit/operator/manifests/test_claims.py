"""What of a claim a pod gets for what it names."""

from __future__ import annotations

import pytest

from slipway_core.resources import uris
from slipway_operator.manifests.pod import claims


@pytest.mark.parametrize(
    ("path", "mounted"),
    [
        ("train.jsonl", "train.jsonl"),
        ("sft/2026/train.jsonl", "sft/2026/train.jsonl"),
        ("demo-0b5e1a52/artifact/", "demo-0b5e1a52/artifact"),
        ("./sft//train", "sft/train"),
        ("/sft", "sft"),
        # A glob is looked for in the longest folder that has a name.
        ("sft/2026/*.jsonl", "sft/2026"),
        ("sft/**/train-[0-9].jsonl", "sft"),
        ("*.jsonl", ""),
        (".", ""),
        # Some runtimes take a colon in a path for the end of it.
        ("sft/12:30/train.jsonl", "sft"),
        # What a hub's cache has of a revision is links into its repository.
        ("hub/models--org--name/snapshots/c0ffee", "hub/models--org--name"),
        ("models--org--name/snapshots/c0ffee/data/*.parquet", "models--org--name"),
        ("hub/models--org--name", "hub/models--org--name"),
        ("backups/snapshots/1", "backups/snapshots/1"),
    ],
)
def test_what_is_mounted_for_a_uri(path: str, mounted: str) -> None:
    assert claims.sub_path(uris.parse(f"pvc://corpus/{path}")) == mounted


@pytest.mark.parametrize(
    ("named", "mounted"),
    [
        (["pvc://b/x", "pvc://a/y", "pvc://a/y", "s3://a/z"], {"a": ("y",), "b": ("x",)}),
        (["pvc://a/sft", "pvc://a/sft/train.jsonl", "pvc://a/sft-2"], {"a": ("sft", "sft-2")}),
        (["pvc://a/sft-2/x", "pvc://a/sft/x", "pvc://a/sft"], {"a": ("sft", "sft-2/x")}),
        (["pvc://a/sft", "pvc://a/*.jsonl"], {"a": ("",)}),
        ([f"pvc://a/data/{n}.jsonl" for n in range(17)], {"a": ("data",)}),
        ([f"pvc://a/data/{n}/{n}.jsonl" for n in range(17)] + ["pvc://a/eval/x"], {"a": ("",)}),
    ],
)
def test_no_mount_lies_in_another_and_there_are_never_many(
    named: list[str], mounted: dict[str, tuple[str, ...]]
) -> None:
    assert claims.named(named) == mounted


def test_paths_are_those_of_the_whole_claim() -> None:
    read = claims.named(["pvc://data/sft/a.jsonl", "pvc://data/eval", "pvc://models/*", "pvc://shared/other/artifact"])
    mounts = claims.mounts("shared", "demo-12345678", read)
    assert {m["mountPath"] for m in mounts} == {
        "/workspace/demo-12345678",
        "/claims/data/sft/a.jsonl",
        "/claims/data/eval",
        "/claims/models",
        "/claims/shared/other/artifact",
    }
    assert claims.as_whole(mounts) == [
        {"name": "workspace", "mountPath": "/workspace"},
        {"name": "claim-0", "mountPath": "/claims/data", "readOnly": True},
        {"name": "claim-1", "mountPath": "/claims/models", "readOnly": True},
        {"name": "workspace", "mountPath": "/claims/shared", "readOnly": True},
    ]
