import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from slipway_core.protocol.workspace import Workspace
from slipway_trainer.data.encode import Encoder
from slipway_trainer.data.rows import Conversation, Turn
from slipway_trainer.step.errors import BadModel
from slipway_trainer.tokens import tokenizer as tokenizers

TEXTS = ["床前明月光，疑是地上霜。举头望明月，低头思故乡。", "The quick brown fox jumps over the lazy dog."] * 30


@pytest.fixture(scope="module")
def words():
    return tokenizers.train(TEXTS, vocabulary=400, max_length=128)


def test_any_text_comes_back(words):
    for text in ("床前明月光", "ünïcödé 🚢 \n\t  x", "def f():\n    return 1"):
        assert words.decode(words(text)["input_ids"], skip_special_tokens=True) == text


def test_a_text_starts_with_bos(words):
    assert words("床前")["input_ids"][0] == words.bos_token_id == 0
    assert words("床前", add_special_tokens=False)["input_ids"][0] != 0


def test_special_tokens_are_single_and_first(words):
    assert words.convert_tokens_to_ids(list(tokenizers.SPECIAL_TOKENS)) == [0, 1, 2, 3, 4]
    assert words("<|im_start|>", add_special_tokens=False)["input_ids"] == [3]


def test_the_vocabulary_is_as_large_as_asked_or_as_the_texts_allow(words):
    assert len(words) <= 400
    assert len(tokenizers.train(TEXTS, vocabulary=300, max_length=128)) == 300


def test_no_token_is_a_whole_sentence(words):
    assert max(len(token) for token in words.get_vocab()) <= tokenizers.LONGEST_TOKEN


def test_the_same_texts_give_the_same_tokenizer(words):
    again = tokenizers.train(TEXTS, vocabulary=400, max_length=128)
    assert again.backend_tokenizer.to_str() == words.backend_tokenizer.to_str()


def test_what_is_saved_is_what_transformers_and_vllm_load(words, tmp_path):
    tokenizers.give_template(words, "PlainChinese")
    workspace = Workspace(tmp_path)
    tokenizers.save(words, workspace.tokenizer)
    for found in (tokenizers.load(workspace), AutoTokenizer.from_pretrained(workspace.tokenizer)):
        assert found(TEXTS[:2])["input_ids"] == words(TEXTS[:2])["input_ids"]
        assert found.chat_template == words.chat_template
        assert (found.bos_token, found.eos_token, found.pad_token) == ("<s>", "</s>", "<pad>")
        assert found.model_max_length == 128
    assert str(tmp_path) not in "".join(path.read_text() for path in workspace.tokenizer.iterdir())


def sentencepiece_like(**special) -> PreTrainedTokenizerFast:
    """A tokenizer that puts a space before a text, as Llama 2 does, and has no ChatML tokens."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for character in "▁abcdefghijklmnopqrstuvwxyz|<>_\n:!?ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        vocabulary[character] = len(vocabulary)
    made = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", unk_token="<unk>", **({"eos_token": "</s>"} | special)
    )


def test_a_base_model_keeps_its_own_template(tmp_path):
    base = sentencepiece_like()
    base.chat_template = "{{ messages }}"
    base.save_pretrained(tmp_path)
    found = tokenizers.from_folder(tmp_path, "model.from")
    assert tokenizers.give_template(found, "Auto") == "Own"
    assert found.chat_template == "{{ messages }}"
    assert tokenizers.give_template(found, "Plain") == "Plain"
    assert found.chat_template != "{{ messages }}"


def test_chatml_on_a_base_model_without_its_tokens_ends_answers_with_eos(tmp_path):
    sentencepiece_like().save_pretrained(tmp_path)
    found = tokenizers.from_folder(tmp_path, "model.from")
    size = len(found)
    assert tokenizers.give_template(found, "Auto") == "ChatML"
    assert tokenizers.end_of_turn(found) == "</s>"
    assert tokenizers.end_ids(found) == [2]
    assert len(found) == size
    assert "bos_token" not in found.chat_template


def test_a_pad_token_that_is_missing_is_eos_and_nothing_cuts_or_pads(tmp_path):
    base = sentencepiece_like()
    base.backend_tokenizer.enable_truncation(4)
    base.backend_tokenizer.enable_padding(length=4, pad_id=2, pad_token="</s>")
    base.save_pretrained(tmp_path)
    found = tokenizers.from_folder(tmp_path, "model.from")
    assert found.pad_token == "</s>"
    assert len(found.backend_tokenizer.encode("abcdefgh").ids) == 9
    assert len(found.backend_tokenizer.encode("a").ids) == 2


def test_answers_are_exact_with_a_tokenizer_that_puts_a_space_before_a_text():
    words = sentencepiece_like()
    tokenizers.give_template(words, "Plain")
    coder = Encoder(
        words.backend_tokenizer.to_str(), tokenizers.renderer(words), "Chat", 512, words.eos_token_id
    )  # fmt: skip
    turns = (Turn("user", "hi there"), Turn("assistant", "hello you"))
    (found, _), _ = coder._chat("f", [Conversation(1, turns * 2)])
    theirs = words.apply_chat_template(Conversation(1, turns * 2).messages, tokenize=True, return_dict=True)
    assert found.tokens.tolist() == theirs["input_ids"][: len(found.tokens)]
    learned = [token for token, target in zip(found.tokens.tolist(), found.learn, strict=True) if target]
    assert "".join(words.convert_ids_to_tokens(learned)) == "hello▁you</s>hello▁you</s>"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), r"has no tokenizer\.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot be loaded"),
    ],
)
def test_a_folder_without_a_usable_tokenizer_is_refused(tmp_path, change, message):
    sentencepiece_like().save_pretrained(tmp_path)
    change(tmp_path)
    with pytest.raises(BadModel, match=rf"^model\.from: .*{message}"):
        tokenizers.from_folder(tmp_path, "model.from")


def test_a_tokenizer_without_eos_is_refused(tmp_path):
    base = sentencepiece_like()
    base.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token": None}))
    with pytest.raises(BadModel, match="has no eos_token"):
        tokenizers.from_folder(tmp_path, "model.from")


def test_words_is_a_byte_level_tokenizer(words):
    assert set(pre_tokenizers.ByteLevel.alphabet()) <= set(words.get_vocab())
