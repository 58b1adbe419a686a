import json

import numpy as np
import pytest

from slipway_trainer.batches.shards import Shards, ShardWriter
from slipway_trainer.step.errors import BadModel, DamagedShard, Superseded


def write(folder, documents, *, masks=None, ids=1000, weight=1.0, attempt=1) -> str:
    with ShardWriter(folder, ids=ids, masked=masks is not None, attempt=attempt) as writer:
        for index, tokens in enumerate(documents):
            writer.add(np.array(tokens), np.array([len(tokens)]), weight, masks and np.array(masks[index]))
        return writer.finish()


DOCUMENTS = [[1, 2, 3], [4], [5, 6]]
MASKS = [[False, True, True], [True], [False, False]]


def test_documents_come_back_as_they_were_written(tmp_path):
    digest = write(tmp_path / "train", DOCUMENTS, masks=MASKS, weight=0.5)
    shards = Shards.open(tmp_path / "train")
    assert (shards.n_documents, shards.n_tokens, shards.digest) == (3, 6, digest)
    assert shards.lengths.tolist() == [3, 1, 2]
    assert shards.lengths.dtype == np.int32
    assert shards.weights.tolist() == [0.5] * 3
    for index, (tokens, mask) in enumerate(zip(DOCUMENTS, MASKS, strict=True)):
        found, learn = shards.document(index)
        assert found.tolist() == tokens
        assert learn.tolist() == mask


def test_without_a_mask_every_token_is_a_target(tmp_path):
    write(tmp_path / "train", DOCUMENTS)
    assert Shards.open(tmp_path / "train").document(0)[1].tolist() == [True] * 3


@pytest.mark.parametrize(("ids", "dtype"), [(65536, "uint16"), (65537, "uint32")])
def test_tokens_take_two_bytes_where_the_ids_allow_it(tmp_path, ids, dtype):
    write(tmp_path / "train", [[ids - 1]], ids=ids)
    shards = Shards.open(tmp_path / "train")
    assert shards.tokens.dtype == dtype
    assert shards.document(0)[0].tolist() == [ids - 1]


def test_the_same_documents_have_the_same_digest_and_others_another(tmp_path):
    first = write(tmp_path / "a", DOCUMENTS, masks=MASKS)
    assert first == write(tmp_path / "b", DOCUMENTS, masks=MASKS, attempt=2)
    assert first != write(tmp_path / "c", DOCUMENTS)
    assert first != write(tmp_path / "d", [[1, 2, 3, 4], [5, 6]], masks=[[True] * 4, [True] * 2])
    assert first != write(tmp_path / "e", DOCUMENTS, masks=MASKS, weight=2.0)


@pytest.mark.parametrize("name", ["tokens.bin", "learn.bin", "offsets.npy", "weights.npy"])
def test_one_flipped_bit_is_found_before_anything_is_learned(tmp_path, name):
    write(tmp_path / "train", DOCUMENTS, masks=MASKS)
    path = tmp_path / "train" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedShard, match=rf"{name}: damaged: .* bytes with sha256 .*Start the run again"):
        Shards.open(tmp_path / "train")


def test_a_missing_or_cut_file_is_found(tmp_path):
    write(tmp_path / "train", DOCUMENTS)
    (tmp_path / "train" / "tokens.bin").write_bytes(b"\1\0")
    with pytest.raises(DamagedShard, match=r"tokens\.bin: damaged: 2 bytes"):
        Shards.open(tmp_path / "train")
    (tmp_path / "train" / "tokens.bin").unlink()
    with pytest.raises(DamagedShard, match=r"tokens\.bin: cannot be read: No such file"):
        Shards.open(tmp_path / "train")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 1, "digest": 1, "dtype": 2, "files": {"a": {}}}'])
def test_a_damaged_index_is_named(tmp_path, text):
    write(tmp_path / "train", DOCUMENTS)
    (tmp_path / "train" / "shard.json").write_text(text)
    with pytest.raises(DamagedShard, match=r"shard.json: cannot be read"):
        Shards.open(tmp_path / "train")


def test_an_index_with_another_digest_is_refused(tmp_path):
    write(tmp_path / "train", DOCUMENTS)
    path = tmp_path / "train" / "shard.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"digest": "sha256:" + "0" * 64}))
    with pytest.raises(DamagedShard, match="its digest is not that of its files"):
        Shards.open(tmp_path / "train")


def test_nothing_is_there_before_the_end(tmp_path):
    with ShardWriter(tmp_path / "train", ids=10, masked=False, attempt=1) as writer:
        writer.add(np.array([1]), np.array([1]), 1.0)
        assert not (tmp_path / "train").exists()
        with pytest.raises(DamagedShard, match="there is no such file"):
            Shards.open(tmp_path / "train")
    assert list(tmp_path.iterdir()) == []


def test_an_older_attempt_does_not_replace_what_is_there(tmp_path):
    digest = write(tmp_path / "train", DOCUMENTS, attempt=2)

    def refuse():
        raise Superseded("attempt 2 has taken over")

    with ShardWriter(tmp_path / "train", ids=10, masked=False, attempt=1) as writer:
        writer.add(np.array([1]), np.array([1]), 1.0)
        with pytest.raises(Superseded):
            writer.finish(refuse)
    assert Shards.open(tmp_path / "train").digest == digest


def test_a_mask_where_none_belongs_is_refused(tmp_path):
    with (
        ShardWriter(tmp_path / "train", ids=10, masked=False, attempt=1) as writer,
        pytest.raises(ValueError, match="mask"),
    ):
        writer.add(np.array([1]), np.array([1]), 1.0, np.array([True]))


def test_an_id_that_there_is_not_is_refused_and_not_made_another(tmp_path):
    with (
        ShardWriter(tmp_path / "train", ids=601, masked=False, attempt=1) as writer,
        pytest.raises(BadModel, match=r"the tokenizer writes the id 66000, and the largest of its vocabulary is 600\."),
    ):
        writer.add(np.array([1, 66000]), np.array([2]), 1.0)
