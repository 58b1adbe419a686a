"""A preview as a process of this machine."""

import os
import signal
import subprocess
import sys

RUN = """
apiVersion: slipway.dev/v1alpha1
kind: TrainingRun
metadata: {name: mine}
spec:
  model: {scratch: {hiddenSize: 64, heads: 2, tokenizer: {train: {vocabSize: 300}}}}
  stages:
  - {name: sft, objective: CausalLM, data: {train: [{uri: file://texts.jsonl}]}}
"""


def test_ctrl_c_ends_it_without_a_word_and_leaves_nothing(tmp_path):
    (tmp_path / "run.yaml").write_text(RUN)
    (tmp_path / "texts.jsonl").write_text('{"text": "the keel is laid first"}\n')
    (tmp_path / "kept").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "slipway", "preview", "run.yaml"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path / "kept")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr.readline() == "looking at the rows\n"
    os.killpg(process.pid, signal.SIGINT)  # As a terminal does, which asks all of a group.
    said = "".join(process.communicate())
    assert process.returncode == 130
    assert not [word for word in ("Error", "Traceback", "Interrupt") if word in said]
    assert list((tmp_path / "kept").iterdir()) == []
