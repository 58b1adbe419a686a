import pytest

from slipway_core.protocol import artifact
from slipway_core.protocol.artifact import ArtifactError

PLAN = "sha256:" + "c" * 64


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "model.safetensors").write_bytes(b"weights" * 1000)
    (tmp_path / "sub" / "config.json").write_text("{}")
    write_manifest(tmp_path)
    return tmp_path


def write_manifest(folder):
    manifest = artifact.build(folder, run="demo", plan_digest=PLAN, created_at="2026-01-01T00:00:00Z")
    (folder / artifact.MANIFEST).write_text(artifact.dump(manifest))
    return manifest


def test_a_whole_artifact_verifies_and_keeps_its_digest(folder):
    manifest = artifact.verify(folder)
    assert artifact.verify(folder, manifest.digest) == manifest
    assert set(manifest.files) == {"model.safetensors", "sub/config.json"}


def test_the_digest_is_of_the_content_alone(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "sub").mkdir()
    for name in ("model.safetensors", "sub/config.json"):
        (other / name).write_bytes((folder / name).read_bytes())
    manifest = artifact.build(other, run="another", plan_digest="sha256:" + "d" * 64, created_at="2027-01-01T00:00:00Z")
    assert manifest.digest == artifact.read(folder).digest


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.safetensors").write_bytes(b"weighty" * 1000), "model.safetensors: damaged"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "damaged: 0 bytes"),
        (
            lambda f: (f / "sub" / "config.json").unlink(),
            "config.json: the manifest names it and it is missing. Put it back from a copy",
        ),
        (lambda f: (f / "extra.py").write_text("x"), "extra.py: not in the manifest. Remove the file"),
        (lambda f: (f / "link").symlink_to("/etc/passwd"), "is a link"),
        (lambda f: (f / "linked-folder").symlink_to("/etc"), "is a link"),
        (lambda f: (f / artifact.MANIFEST).unlink(), "it has no manifest.json"),
        (lambda f: (f / artifact.MANIFEST).write_text('{"digest": 3}'), "damaged manifest"),
        (lambda f: (f / artifact.MANIFEST).write_text("cut o"), "damaged manifest"),
    ],
)
def test_A_damage_is_found_and_named(folder, damage, message):
    damage(folder)
    with pytest.raises(ArtifactError, match=message):
        artifact.verify(folder)


def test_a_card_that_the_manifest_does_not_name_may_say_anything(folder):
    manifest = artifact.read(folder)
    (folder / artifact.CARD).write_text("written later")
    assert artifact.verify(folder, manifest.digest) == manifest
    named = write_manifest(folder)
    assert named.digest != manifest.digest
    (folder / artifact.CARD).write_text("changed")
    with pytest.raises(ArtifactError, match=r"README\.md: damaged"):
        artifact.verify(folder)


def test_a_card_in_a_folder_below_is_a_file_like_others(folder):
    (folder / "sub" / artifact.CARD).write_text("x")
    with pytest.raises(ArtifactError, match=r"README\.md: not in the manifest"):
        artifact.verify(folder)


def test_a_manifest_that_was_made_to_fit_has_another_digest(folder):
    before = artifact.read(folder).digest
    (folder / "model.safetensors").write_bytes(b"evil")
    write_manifest(folder)
    with pytest.raises(ArtifactError, match="was asked for"):
        artifact.verify(folder, before)


def test_H_a_format_that_runs_code_is_refused(folder):
    (folder / "model.bin").write_bytes(b"pickle")
    with pytest.raises(ArtifactError, match="safetensors"):
        artifact.build(folder, run="demo", plan_digest=PLAN, created_at="x")


def test_a_folder_without_weights_or_no_folder_is_no_artifact(tmp_path):
    with pytest.raises(ArtifactError, match="holds no weights"):
        artifact.build(tmp_path, run="demo", plan_digest=PLAN, created_at="x")
    with pytest.raises(ArtifactError, match="no such folder"):
        artifact.verify(tmp_path / "nowhere")
