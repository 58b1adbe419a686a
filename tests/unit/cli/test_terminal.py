"""What a person at a terminal sees and types, through a pseudo-terminal."""

import codecs
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time

from tests.unit.cli.chat_server import ChatServer, running
from tests.unit.cli.evidence import entered

from slipway_core.resources.status import Phase, Progress, RunStatus, StepState, StepStatus

CTRL_C = b"\x03"
UP = b"\x1b[A"


class Terminal:
    """`slipway` in a pseudo-terminal."""

    def __init__(self, *arguments):
        self.pid, self.handle = pty.fork()
        if self.pid == 0:
            environment = {**os.environ, "LANG": "C.UTF-8", "TERM": "xterm-256color", "COLUMNS": "120"}
            os.execve(sys.executable, [sys.executable, "-m", "slipway", *arguments], environment)
        self.shown = ""
        # What is read ends anywhere, also within a character.
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def type(self, keys):
        os.write(self.handle, keys if isinstance(keys, bytes) else keys.encode())

    def wait_for(self, words, seconds=30):
        """Reads until the words are shown; what was shown before them does not count again."""
        end = time.monotonic() + seconds
        while words not in self.shown:
            assert time.monotonic() < end, f"{words!r} was not shown: {self.shown!r}"
            if select.select([self.handle], [], [], 0.1)[0]:
                self.shown += self.decoder.decode(os.read(self.handle, 65536))
        before, _, self.shown = self.shown.partition(words)
        return before

    def exit_code(self):
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.handle)
        return code


def test_chat_has_line_editing_a_history_of_lines_and_a_ctrl_c_that_stops_an_answer():
    held = threading.Event()
    with running(ChatServer(pieces=("床前", "看月光"), wait=held)) as server:
        terminal = Terminal("chat", server.url)
        terminal.wait_for("/clear forgets")
        terminal.wait_for("> ")
        terminal.type("背诵x\x7f《夜思》\n")
        terminal.wait_for("床前")
        terminal.type(CTRL_C)
        terminal.wait_for("(stopped)\r\n> ")
        held.set()
        # readline misses a signal between its prompt and its wait for a key, where no person is as fast.
        time.sleep(0.5)
        terminal.type(CTRL_C)
        terminal.wait_for("Ctrl-D leave\r\n> ")
        terminal.type(UP + b"\n")
        terminal.wait_for("看月光\r\n> ")
        terminal.type("退出\n")
        assert terminal.exit_code() == 0
    assert [request.message for request in server.requests] == ["背诵《夜思》"] * 2
    assert server.requests[1].history[1].content == "床前"


def test_ctrl_d_leaves_a_chat():
    with running(ChatServer()) as server:
        terminal = Terminal("chat", server.url)
        terminal.wait_for("> ")
        terminal.type(b"\x04")
        assert terminal.exit_code() == 0


def test_watch_draws_a_live_table_and_ctrl_c_leaves_the_run_alone(tmp_path):
    step = StepStatus(
        name="pretrain", state=StepState.RUNNING, attempt=1, progress=Progress(step=30, total=120, loss=2.25)
    )
    folder = entered(tmp_path, status=RunStatus(phase=Phase.TRAINING, stages=[step]))
    with folder.lock():
        terminal = Terminal("watch", "tang", "--workdir", str(tmp_path))
        terminal.wait_for("loss 2.250")
        folder.save_status(RunStatus(phase=Phase.TRAINING, stages=[step.model_copy(update={"attempt": 2})]))
        terminal.wait_for("attempt 2")
        terminal.type(CTRL_C)
        assert terminal.exit_code() == 130
        assert folder.holder() == os.getpid()


def test_following_a_log_shows_what_is_added_until_the_run_rests(tmp_path):
    folder = entered(tmp_path)
    log = folder.workspace().log("prepare", 1)
    log.parent.mkdir()
    log.write_text("first\n")
    command = [sys.executable, "-m", "slipway", "logs", "tang", "-f", "--workdir", str(tmp_path)]
    with folder.lock():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "==> prepare, attempt 1 <==\n"
        assert process.stdout.readline() == "first\n"
        with log.open("a") as file:
            file.write("second\n")
        assert process.stdout.readline() == "second\n"
        later = folder.workspace().log("pretrain", 1)
        later.write_text("training\n")
        assert process.stdout.readline() == "==> pretrain, attempt 1 <==\n"
    assert process.stdout.read() == "training\n"
    assert process.wait(timeout=30) == 0


def test_ctrl_c_ends_a_followed_log_with_130(tmp_path):
    folder = entered(tmp_path)
    command = [sys.executable, "-m", "slipway", "logs", "tang", "-f", "--workdir", str(tmp_path)]
    with folder.lock():
        folder.workspace().log("prepare", 1).parent.mkdir()
        folder.workspace().log("prepare", 1).write_text("first\n")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout.readline().startswith("==>")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == 130
