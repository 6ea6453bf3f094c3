"""The command: it prints where the page is, ends cleanly, and refuses what would open it to others."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from helpers.command_line import ROOT, run
from helpers.predictors import write_small_predictor

from layerprobe.probe.exceptions import InputError
from layerprobe.serving.settings import ServingSettings, open_socket, url_of

TOKEN = "sixteen-letters-"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_predictor(tmp_path_factory.mktemp("small"))


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_interrupted_and_ends_cleanly(folder, number):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "layerprobe", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            first = process.stdout.readline()
            url = re.match(r"(http://127\.0\.0\.1:\d+/) rates arousal, valence, dominance of recordings;", first)[1]
            with urllib.request.urlopen(f"{url}health", timeout=10) as answer:
                assert answer.read() == b'{"status":"ok"}'
            process.send_signal(number)
            rest, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")
    assert rest.endswith("The server has ended.\n")


def test_a_port_in_use_is_one_sentence(folder):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run("serve", folder, "--port", port)
    assert result.exit_code == 2
    assert f"Port {port} of 127.0.0.1 can't be used (address already in use)." in result.stderr
    assert "[LP951]" in result.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines_are_not_served_without_a_token(folder, host):
    result = run("serve", folder, "--host", host)
    assert result.exit_code == 2
    assert "can be reached from other machines, and there is no token." in result.stderr


def test_a_token_of_the_environment_opens_it_to_others(monkeypatch):
    monkeypatch.setenv("LAYERPROBE_TOKEN", TOKEN)
    with open_socket(ServingSettings(port=0, host="0.0.0.0")) as opened:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url_of(opened, "0.0.0.0"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.5"])
def test_this_machine_is_served_without_a_token(host):
    with open_socket(ServingSettings(port=0, host=host)) as opened:
        assert opened.getsockname()[0].startswith(("127.", "::1"))
        assert url_of(opened, host).startswith(f"http://{host}:")


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"token": "short"}, "LP952"),
        ({"token": "with a blank in it, and long"}, "LP952"),
        ({"token": "not ASCII, and löng enough"}, "LP952"),
        ({"host": "192.0.2.1", "token": TOKEN}, "LP953"),  # of documentation (RFC 5737)
        ({"host": "300.1.1.1", "token": TOKEN}, "LP953"),
        ({"host": ""}, "LP953"),
    ],
)
def test_a_token_or_a_host_that_can_not_be_used_is_refused(settings, code):
    with pytest.raises(InputError) as caught:
        open_socket(ServingSettings(port=0, **settings))
    assert caught.value.code == code


def test_without_the_packages_the_sentence_has_the_command(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "layerprobe.serving.server", None)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for name in [n for n in sys.modules if n.startswith("layerprobe.serving.server")]:
        monkeypatch.delitem(sys.modules, name)
    result = run("serve", folder)
    assert result.exit_code == 2
    assert "Serving needs uvicorn. Install it: pip install 'layerprobe[serve]'." in result.stderr


def test_a_run_is_no_predictor(tmp_path):
    result = run("serve", tmp_path, "--port", 0)
    assert result.exit_code == 2
    assert "[LP906]" in result.stderr
