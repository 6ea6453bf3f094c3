"""2,000 requests of 32 clients to `layerprobe serve` on loopback: rate, latency, refusals, and memory of the server.

``python serving_scale.py [PREDICTOR] [--requests 2000]``; without a predictor's folder a small one with random weights
is made. One request in twenty is no audio. Every request is sent again after the 503 of a busy server, so that none may
be lost. The server's memory is read from /proc, so this runs on Linux.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import soundfile
from helpers.predictors import write_small_predictor
from helpers.voices import voice

CLIENTS = 32
FORMATS = ("WAV", "FLAC", "OGG", "MP3")
EVERY_NONSENSE = 20


def contents() -> list[bytes]:
    """Recordings of 1 to 3.5 s in each format."""
    found = []
    for k, seconds in enumerate(np.linspace(1, 3.5, 20)):
        file = io.BytesIO()
        soundfile.write(file, voice(float(seconds), seed=k), 16_000, format=FORMATS[k % len(FORMATS)])
        found.append(file.getvalue())
    return found


class Clients:
    """Clients that send requests until a number of them was answered."""

    def __init__(self, port: int, n: int) -> None:
        self._port, self._n, self._lock = port, n, threading.Lock()
        self._contents, self._sent = contents(), 0
        self.latencies: list[float] = []  # seconds from the first try to the answer
        self.served: list[float] = []  # seconds of the try that was answered
        self.statuses: Counter[int] = Counter()
        self.failures: list[str] = []

    def run(self) -> None:
        """Send the requests, and return when all were answered."""
        threads = [threading.Thread(target=self._client) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self) -> None:
        try:
            self._send_all()
        except Exception as error:
            self.failures.append(f"{type(error).__name__}: {error}")

    def _send_all(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=120)
        while True:
            with self._lock:
                if self._sent == self._n:
                    return
                number, self._sent = self._sent, self._sent + 1
            nonsense = number % EVERY_NONSENSE == 0
            body = b"no audio" * 1000 if nonsense else self._contents[number % len(self._contents)]
            begin = time.perf_counter()
            while True:
                tried = time.perf_counter()
                connection.request("POST", "/api/ratings", body=body, headers={"Content-Type": "audio/wav"})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 503:
                    break
                with self._lock:
                    self.statuses[503] += 1
                time.sleep(float(answer.headers["Retry-After"]) * np.random.default_rng(number).uniform(0.5, 1.5))
            end = time.perf_counter()
            with self._lock:
                self.latencies.append(end - begin)
                self.served.append(end - tried)
                self.statuses[answer.status] += 1
            if answer.status != (422 if nonsense else 200):
                self.failures.append(f"request {number} was answered with {answer.status}")


def resident(process: int) -> float:
    """Megabytes of memory that a process holds."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]) / 1000


def main() -> None:
    """Measure, and print a line for each tenth of the requests."""
    parser = argparse.ArgumentParser()
    parser.add_argument("predictor", nargs="?", type=Path)
    parser.add_argument("--requests", type=int, default=2000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        predictor = chosen.predictor or write_small_predictor(Path(folder))
        command = [sys.executable, "-u", "-m", "layerprobe", "serve", str(predictor), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                port = int(re.search(r":(\d+)/", process.stdout.readline())[1])
                print(f"before any request: {resident(process.pid):.0f} MB")
                done, latencies, served, statuses, failures, spent = 0, [], [], Counter(), [], 0.0
                for _ in range(10):
                    clients = Clients(port, chosen.requests // 10)
                    begin = time.perf_counter()
                    clients.run()
                    spent += time.perf_counter() - begin
                    done += len(clients.latencies)
                    latencies, served = latencies + clients.latencies, served + clients.served
                    statuses += clients.statuses
                    failures += clients.failures
                    print(f"after {done:5} requests: {resident(process.pid):.0f} MB", flush=True)
            finally:
                process.terminate()
                process.wait(30)
    print(f"{done / spent:.1f} requests per second of {CLIENTS} clients; answers by status: {dict(statuses)}")
    print(f"failures: {failures or 'none'}")
    for name, values in (("with waiting for a place", latencies), ("of the request that was answered", served)):
        print(f"latency {name}: median {np.median(values):.2f} s, 95 % within {np.quantile(values, 0.95):.2f} s")


if __name__ == "__main__":
    main()
