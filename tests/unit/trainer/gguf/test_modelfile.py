"""A Modelfile says the same conversation as the chat template, in Go's words, where the template is one of ours."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.tiny_model import make_tokenizer

from slipway_trainer.gguf import modelfile
from slipway_trainer.gguf.modelfile import STYLES
from slipway_trainer.tokens import chat_templates

SAMPLING = {"do_sample": True, "temperature": 0.7, "top_p": 0.95, "repetition_penalty": 1.1, "top_k": 20}
GO = shutil.which("go")
PROGRAM = """\
package main

import (
	"encoding/json"
	"os"
	"text/template"
)

type Message struct{ Role, Content string }

func main() {
	var asked struct {
		Template string
		Messages []Message
	}
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		panic(err)
	}
	made := template.Must(template.New("").Parse(asked.Template))
	if err := made.Execute(os.Stdout, map[string]any{"Messages": asked.Messages}); err != nil {
		panic(err)
	}
}
"""


def test_it_names_the_file_what_ends_an_answer_and_how_it_is_sampled() -> None:
    words = make_tokenizer()
    text = modelfile.make(words.chat_template, ["<|im_end|>", "</s>"], SAMPLING, 512)  # type: ignore[arg-type]
    assert text.startswith('FROM ./model.gguf\nTEMPLATE """{{- range')
    assert text.endswith(
        'PARAMETER stop "<|im_end|>"\nPARAMETER stop "</s>"\nPARAMETER temperature 0.7\nPARAMETER top_k 20\n'
        "PARAMETER top_p 0.95\nPARAMETER repeat_penalty 1.1\nPARAMETER num_ctx 512\n"
    )


def test_a_model_that_is_not_sampled_takes_the_likeliest_token() -> None:
    assert "PARAMETER temperature 0\n" in modelfile.make(None, [], {}, 512)


def test_a_template_of_somebodys_is_left_to_the_file() -> None:
    text = modelfile.make("{% for m in messages %}{{ m.content }}{% endfor %}", ["</s>"], SAMPLING, 512)
    assert 'TEMPLATE """' not in text
    assert "# No TEMPLATE: the chat template is the model's own, and Ollama reads it from the file." in text


def test_a_model_that_was_made_before_tools_were_rendered_keeps_a_template_in_gos_words() -> None:
    words = make_tokenizer()
    before = chat_templates.template("ChatML", turn_end="<|im_end|>", starts_with_bos=True, tools=False)
    assert before != words.chat_template
    old, new = (modelfile.make(text, ["<|im_end|>"], SAMPLING, 512) for text in (before, str(words.chat_template)))
    assert 'else if eq .Role "tool" }}{{ "<|im_start|>user\\n" }}' in old
    assert 'else if eq .Role "tool" }}{{ "<|im_start|>tool\\n' in new


@pytest.mark.slow
@pytest.mark.skipif(GO is None, reason="Go's own templates need Go")
@pytest.mark.parametrize("style", STYLES)
def test_go_renders_what_jinja_renders(style: Any, tmp_path: Path) -> None:
    words = make_tokenizer(style)
    ends = ["<|im_end|>", "</s>"]
    text = modelfile.make(words.chat_template, ends, SAMPLING, 512)  # type: ignore[arg-type]
    [template] = re.findall(r'TEMPLATE """(.*?)"""', text, re.DOTALL)
    (tmp_path / "main.go").write_text(PROGRAM)
    assert GO is not None
    subprocess.run([GO, "build", "-o", "render", "main.go"], cwd=tmp_path, check=True)
    first = [{"role": "user", "content": " 你好 \n\n{{ .Role }}"}]
    more = [{"role": "system", "content": 'Be "short".'}, *first, {"role": "assistant", "content": "\nHi "}, *first]
    more = [*more, {"role": "tool", "content": "{}"}]
    for turns in (first, more):
        asked = {"Template": template, "Messages": [{k.title(): v for k, v in turn.items()} for turn in turns]}
        run = subprocess.run([tmp_path / "render"], input=json.dumps(asked), capture_output=True, text=True, check=True)
        expected = words.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        # BOS is put in front by whoever encodes the text: the file says add_bos_token.
        assert run.stdout == str(expected).removeprefix(str(words.bos_token))
