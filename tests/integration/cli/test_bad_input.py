"""What a person meets who gives the real `slipway run` something wrong: the code, the words, and nothing lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(600)

SLIPWAY = str(Path(sys.prefix, "bin", "slipway"))
RUN = """\
apiVersion: slipway.dev/v1alpha1
kind: TrainingRun
metadata: {{name: {name}}}
spec:
  model: {model}
  stages:
  - name: pretrain
    data: {{train: [{{uri: {data}}}]}}
    maxLength: 64
    steps: 2
    batch: {{sequences: 2}}{more}
"""
NEW = "{scratch: {layers: 1, hiddenSize: 32, heads: 1, maxLength: 64, tokenizer: {train: {vocabSize: 300}}}}"
POEM = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"


def write(folder, name, *, model=NEW, data="file://texts.jsonl", more=""):
    (folder / f"{name}.yaml").write_text(RUN.format(name=name, model=model, data=data, more=more))


def slipway(folder, *arguments, code):
    done = subprocess.run(
        [SLIPWAY, *arguments], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    assert "Traceback" not in output
    return output


def test_bad_data_ends_with_2_in_one_sentence_and_the_mended_file_takes_its_place(tmp_path):
    write(tmp_path, "a")
    (tmp_path / "texts.jsonl").write_text(f'{{"text": "{POEM}"}}\n{{"txt": "…"}}\n')
    output = slipway(tmp_path, "run", "a.yaml", code=2)
    assert output.count(f"{tmp_path}/texts.jsonl:2: no 'text': it has 'txt'") == 1
    assert "BadData" in slipway(tmp_path, "status", "a", code=0)
    slipway(tmp_path, "watch", "a", code=2)

    # Nothing was learned, so there is nothing that another plan could mix with.
    write(tmp_path, "a", more='\n    adapter: {targetModules: "q_proj,v_prj"}')
    output = slipway(tmp_path, "run", "a.yaml", code=2)
    assert "stages[pretrain].adapter.targetModules: nothing in the model is called v_prj" in output
    assert "pretrain runs" not in output


@pytest.mark.slow
def test_rows_that_do_not_fit_are_counted_where_a_person_looks_and_a_run_is_a_base_by_its_name(tmp_path):
    write(tmp_path, "first")
    rows = [{"text": f"{number}{POEM}"} for number in range(40)] + [{"text": POEM * 20}]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    note = "pretrain, train data: 1 row longer than maxLength: split into several documents"
    assert note in slipway(tmp_path, "run", "first.yaml", code=0)
    assert note in slipway(tmp_path, "status", "first", code=0)

    write(tmp_path, "other", model="{from: run://frist}")
    output = slipway(tmp_path, "run", "other.yaml", code=2)
    assert "spec.model.from: run://frist: there is no such run" in output
    assert "runs with a model: first" in output
    write(tmp_path, "other", model="{from: run://first}", more="\n    adapter: {targetModules: c_attn}")
    output = slipway(tmp_path, "run", "other.yaml", code=2)
    assert "nothing in the model is called c_attn. Its linear layers are called down_proj, gate_proj" in output

    # A run that has learned something does not give way.
    write(tmp_path, "first", data="file://other.jsonl")
    (tmp_path / "other.jsonl").write_text(f'{{"text": "{POEM}"}}\n')
    assert "run first exists with another plan" in slipway(tmp_path, "run", "first.yaml", code=2)
