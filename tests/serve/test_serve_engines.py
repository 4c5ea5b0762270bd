"""Which command serves a critic, and what happens to the process that it starts."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rationalrewards import InputError, Rubric
from rationalrewards.cli import main
from rationalrewards.serve.engines import Serving, command, gguf_files

PIXELS = Rubric.load("t2i").max_pixels


def serving(engine, **changes):
    settings = {"model": "OWNER/CRITIC", "host": "127.0.0.1", "port": 8000, "max_pixels": PIXELS}
    return Serving(**settings | {"engine": engine} | changes)


def test_vllm():
    line = str(command(serving("vllm", fp8=True, replicas=4, extra=("--seed", "1"))))
    assert line == (
        "vllm serve OWNER/CRITIC --host 127.0.0.1 --port 8000 --max-model-len 8192 --enable-prefix-caching "
        '--limit-mm-per-prompt \'{"image": 3, "video": 0}\' --mm-processor-kwargs \'{"max_pixels": 802816}\' '
        "--quantization fp8 --data-parallel-size 4 --seed 1"
    )
    plain = command(serving("vllm")).arguments
    assert not {"--quantization", "--data-parallel-size"} & set(plain)


def test_sglang_gives_probabilities_before_the_temperature():
    line = str(command(serving("sglang", fp8=True, replicas=2)))
    assert line == (
        "SGLANG_RETURN_ORIGINAL_LOGPROB=1 python -m sglang.launch_server --model-path OWNER/CRITIC "
        "--host 127.0.0.1 --port 8000 --context-length 8192 --enable-multimodal "
        '--mm-process-config \'{"image": {"max_pixels": 802816}}\' --quantization fp8 --dp 2'
    )


def test_no_more_context_than_the_model_was_made_for(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 4096}}))
    assert "--max-model-len 4096" in str(command(serving("vllm", model=str(tmp_path))))
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 262144}}))
    assert "--max-model-len 8192" in str(command(serving("vllm", model=str(tmp_path))))


@pytest.mark.parametrize("file", ["processor_config.json", "preprocessor_config.json"])
def test_no_larger_images_than_the_checkpoint_wants(tmp_path, file):
    size = {"size": {"shortest_edge": 2304, "longest_edge": 2304}}
    content = {"image_processor": size} if file == "processor_config.json" else size
    (tmp_path / file).write_text(json.dumps(content))
    assert '{"max_pixels": 2304}' in command(serving("vllm", model=str(tmp_path))).arguments
    content = json.dumps(content).replace("2304}", "16777216}")
    (tmp_path / file).write_text(content)
    assert '{"max_pixels": 802816}' in command(serving("vllm", model=str(tmp_path))).arguments


def test_llama_cpp_takes_the_two_files_of_a_directory(tmp_path):
    with pytest.raises(InputError, match="there is none; make them with: rationalrewards serve convert"):
        command(serving("llama-cpp", model=str(tmp_path)))
    for name in ("critic-f16.gguf", "mmproj-critic.gguf"):
        (tmp_path / name).touch()
    arguments = command(serving("llama-cpp", model=str(tmp_path))).arguments
    assert arguments[1:7] == (
        *("-m", "rationalrewards.serve.llama_cpp"),
        *("--model", str(tmp_path / "critic-f16.gguf"), "--mmproj", str(tmp_path / "mmproj-critic.gguf")),
    )
    (tmp_path / "critic-f32.gguf").touch()
    with pytest.raises(InputError, match=r"there is critic-f16.gguf, critic-f32.gguf, mmproj-critic.gguf"):
        gguf_files(str(tmp_path))
    assert gguf_files(str(tmp_path / "critic-f32.gguf"))[0].name == "critic-f32.gguf"
    for wrong in ({"fp8": True}, {"replicas": 2}):
        with pytest.raises(InputError, match="takes neither"):
            command(serving("llama-cpp", model=str(tmp_path), **wrong))


def test_a_line_can_be_pasted_into_a_shell():
    line = command(serving("vllm", model="a dir/x"))
    assert tuple(shlex.split(str(line))) == line.arguments


def test_print_only_prints(capsys):
    assert main(["serve", "critic", "--model", "M", "--engine", "vllm", "--port", "81", "--print"]) == 0
    assert capsys.readouterr().out.startswith("vllm serve M --host 127.0.0.1 --port 81 ")
    assert main(["serve", "critic", "--model", "M", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"] == "vllm"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--engine", "vllm"), "no vllm on the PATH"),
        (("--engine", "sglang"), "sglang is not installed"),
        (("--engine", "llama-cpp", "--model", "nowhere"), "needs one GGUF file"),
        (("--rubric", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_served(arguments, said, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["serve", "critic", "--model", "M", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_there_is_no_other_verb(capsys):
    assert main(["serve", "dinner"]) == 2
    assert "there is no 'serve dinner'" in capsys.readouterr().err
    assert main(["serve"]) == 2
    assert main(["serve", "--help"]) == 0


ENGINE = """#!{python}
import http.server, signal, sys, os
port = int(sys.argv[sys.argv.index("--port") + 1])
class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Handler.asked += 1
        self.send_response(503 if Handler.asked < 3 else 200)
        self.end_headers()
    def log_message(self, *_): pass
def stop(*_):
    open(os.environ["TRACE"], "w").write("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(tmp_path, port, program):
    """``serve critic`` in a process of its own, with ``program`` in vllm's place on the PATH."""
    vllm = tmp_path / "vllm"
    vllm.write_text(program.replace("{python}", sys.executable))
    vllm.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TRACE": str(tmp_path / "trace")}
    serve = [
        sys.executable,
        "-m",
        "rationalrewards.cli",
        "serve",
        "critic",
        "--model",
        "M",
        "--port",
        str(port),
    ]
    return subprocess.Popen(
        serve, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_says_when_the_critic_answers_and_passes_signals_on(tmp_path, free_port, how):
    process = start(tmp_path, free_port, ENGINE)
    assert process.stdout.readline() == f"the critic answers: --critic http://127.0.0.1:{free_port}/v1\n"
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors.startswith(f"vllm serve M --host 127.0.0.1 --port {free_port} ")
    assert Path(tmp_path / "trace").read_text() == "stopped"


def test_an_engine_that_dies_is_a_failure(tmp_path, free_port):
    process = start(tmp_path, free_port, "#!/bin/sh\necho no memory >&2\nexit 3\n")
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "no memory" in errors
    assert errors.endswith("vllm ended with exit code 3; what it said is above\n")


def test_a_port_that_is_taken(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = start(tmp_path, taken.getsockname()[1], ENGINE)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "choose another --port" in errors
