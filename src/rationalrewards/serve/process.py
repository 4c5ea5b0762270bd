"""A server as a process of ours: started, waited for, told when to end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from tqdm import tqdm

from rationalrewards.serve.engines import Command
from rationalrewards.types import InputError

_PATIENCE = 30.0  # seconds that an engine has for putting its things away


class Stopped(Exception):  # noqa: N818 - no error: somebody asked for it
    """Somebody asked us to end."""


class Server:
    """A started engine that will answer at ``url``. What it prints goes to our stderr."""

    def __init__(self, command: Command, url: str) -> None:
        self.url = url
        self._process = subprocess.Popen(
            command.arguments,
            env={**os.environ, **command.environment},
            stdout=sys.stderr,
            start_new_session=True,  # so that Ctrl-C reaches it once, from us, with all its children
        )

    def wait_until_healthy(self) -> bool:
        """True as soon as it answers; False when it has ended before that."""
        health = self.url.removesuffix("/v1") + "/health"
        bar = tqdm(desc=f"waiting for {health}", unit=" s", bar_format="{desc}: {elapsed}", disable=None)
        with bar:
            while self._process.poll() is None:
                if _answers(health):
                    return True
                time.sleep(0.2)
                bar.update(0)
        return False

    def wait(self) -> int:
        """Its exit code, when it ends by itself."""
        return self._process.wait()

    def stop(self) -> None:
        """End it and all its children: asked first, and after half a minute made to."""
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


@contextmanager
def running(command: Command, url: str) -> Iterator[Server]:
    """``with running(...) as server``: ended with the block, which Ctrl-C and SIGTERM end too (Stopped)."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    server = Server(command, url)
    try:
        yield server
    finally:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        server.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def require_free(host: str, port: int) -> None:
    """Raises InputError when something listens there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another --port"
            ) from error


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
