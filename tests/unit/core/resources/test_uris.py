import pytest

from slipway_core.resources import uris
from slipway_core.resources.uris import UriError


@pytest.mark.parametrize(
    ("text", "scheme", "authority", "path", "revision"),
    [
        ("hf://org/name", "hf", "org", "name", None),
        ("hf://org/na.me-1@refs/pr/3", "hf", "org", "na.me-1", "refs/pr/3"),
        ("s3://bucket/a/b*.jsonl", "s3", "bucket", "a/b*.jsonl", None),
        ("gs://bucket/a", "gs", "bucket", "a", None),
        ("pvc://claim/a/b", "pvc", "claim", "a/b", None),
        ("file://corpus.jsonl", "file", "", "corpus.jsonl", None),
        ("file:///abs/x", "file", "", "/abs/x", None),
        ("package://tang", "package", "tang", "", None),
        ("run://other-run", "run", "other-run", "", None),
    ],
)
def test_each_form_parses_and_prints_as_it_was(text, scheme, authority, path, revision):
    uri = uris.parse(text)
    assert (uri.scheme, uri.authority, uri.path, uri.revision) == (scheme, authority, path, revision)
    assert str(uri) == text


@pytest.mark.parametrize(
    ("text", "revision", "inside"),
    [
        ("hf://datasets/org/name", None, ""),
        ("hf://datasets/org/name@v1.0", "v1.0", ""),
        ("hf://datasets/org/name/data/*.jsonl", None, "data/*.jsonl"),
        ("hf://datasets/org/name@main/data/a.jsonl", "main", "data/a.jsonl"),
        ("hf://datasets/org/name@refs/convert/parquet", "refs/convert/parquet", ""),
        ("hf://datasets/org/name@refs/pr/3/a.jsonl", "refs/pr/3", "a.jsonl"),
    ],
)
def test_a_dataset_of_the_hub_has_files_inside(text, revision, inside):
    uri = uris.parse(text)
    assert (uri.repository, uri.dataset, uri.revision, uri.inside) == ("org/name", True, revision, inside)
    assert str(uri) == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("data.jsonl", "file://data.jsonl"),
        ("http://x/y", "hf://"),
        ("hf://name", "hf://org/name"),
        ("hf://a/b/c", "hf://org/name"),
        ("hf://datasets/name", "hf://datasets/org/name"),
        ("hf://datasets/a/b/../c", r"leaves its dataset by '\.\.'"),
        ("s3://bucket", "s3://bucket/path"),
        ("pvc://claim/../other", r"\.\."),
        ("package://a/b", "package://name"),
        ("run://Bad_Name", "run://name-of-the-run"),
        ("file://", "file://path"),
    ],
)
def test_anything_else_is_refused_and_the_right_form_shown(text, hint):
    with pytest.raises(UriError, match=hint):
        uris.parse(text)
