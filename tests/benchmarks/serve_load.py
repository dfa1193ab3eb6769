"""Load on `vggft serve`: waiting times and memory with 50 clients at once and bad uploads among them.

Run it alone: `python tests/benchmarks/serve_load.py --seconds 30 --clients 50`. A server is started in a separate
process with VGG16 at a quarter of its width and 64 px, on loopback. Besides the clients, one sends what must be refused
(too large, no image, a decompression bomb), and with `--large` one sends images just below the limit of pixels. One
image in twenty is explained by Grad-CAM. The exit status is 1 if any answer is not as expected.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import requests
from PIL import Image

LIMIT = 10 * 2**20
SERVER = """
import sys
from vggft import load
from vggft.deploy.server import serve
serve(load(sys.argv[1]), port=int(sys.argv[2]))
"""
MAKE = """
import sys
from vggft.classifier import Classifier
from vggft.network.description import Description, build
names = tuple(f"class {n}" for n in range(10))
description = Description(class_names=names, image_size=64, width=1 / 4, backbone="vgg16_mini")
Classifier(build(description), description).save(sys.argv[1])
"""


def photographs(count: int) -> list[bytes]:
    """JPEG files of 1000 x 750 px, about 150 kB each."""
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        coarse = np.asarray(Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype="uint8")).resize((1000, 750)))
        file = io.BytesIO()
        noisy = (coarse + rng.normal(0, 8, coarse.shape)).clip(0, 255).astype("uint8")
        Image.fromarray(noisy).save(file, "JPEG", quality=85)
        found.append(file.getvalue())
    return found


def flat_png(width: int, height: int) -> bytes:
    """One colour with transparency: small as a file, large when decoded."""
    file = io.BytesIO()
    Image.new("RGBA", (width, height), (200, 100, 50, 128)).save(file, "PNG")
    return file.getvalue()


def memory(process: int) -> tuple[float, float]:
    """Resident now and at most so far, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    now, most = (int(re.search(rf"{key}:\s+(\d+)", status)[1]) / 1024 for key in ("VmRSS", "VmHWM"))  # type: ignore[index]
    return now, most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--large", action="store_true", help="send pictures just below the limit of pixels, too")
    arguments = parser.parse_args()
    good, bomb = photographs(8), flat_png(9000, 6000)
    bad = {"too large": (bytes(LIMIT + 1), 413), "no image": (b"hello" * 1000, 415), "bomb": (bomb, 422)}
    below = flat_png(8192, 6000)

    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        model, port = Path(folder) / "mini.keras", free.getsockname()[1]
        free.close()
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TMPDIR": folder}
        quiet = {"env": environment, "stderr": subprocess.DEVNULL}
        subprocess.run([sys.executable, "-c", MAKE, str(model)], check=True, **quiet)
        server = subprocess.Popen([sys.executable, "-c", SERVER, str(model), str(port)], **quiet)
        try:
            report(arguments, f"http://127.0.0.1:{port}", server.pid, good, bad, below)
            left = [path for path in Path(folder).rglob("*") if path != model]
            print(f"files left: {len(left)}")
        finally:
            server.terminate()
            server.wait()


def report(
    arguments: argparse.Namespace,
    url: str,
    process: int,
    good: list[bytes],
    bad: dict[str, tuple[bytes, int]],
    below: bytes,
) -> None:
    """Put on the load, and print what comes of it."""
    while True:
        try:
            requests.get(f"{url}/health", timeout=5)
            break
        except requests.ConnectionError:
            time.sleep(0.2)
    print(f"after the start: {memory(process)[0]:.0f} MB", flush=True)
    until = time.monotonic() + arguments.seconds
    waits: list[float] = []
    counts: Counter[str] = Counter()
    errors: Counter[str] = Counter()

    def client(kind: str, number: int) -> None:
        turn = number
        with requests.Session() as session:
            while time.monotonic() < until:
                turn += 1
                name = kind if kind != "bad" else list(bad)[turn % len(bad)]
                data, expected = (
                    bad[name] if kind == "bad" else (below if kind == "large" else good[turn % len(good)], 200)
                )
                started = time.perf_counter()
                try:
                    query = {"explain": "true"} if turn % 20 == 0 else {}
                    status = session.post(f"{url}/classify", data=data, params=query, timeout=60).status_code
                except requests.RequestException as error:
                    errors[f"{name}: {type(error).__name__}"] += 1
                    continue
                counts[f"{name} -> {status}"] += 1
                if status != expected:
                    errors[f"{name}: {status}"] += 1
                elif kind == "good":
                    waits.append(time.perf_counter() - started)

    kinds = ["good"] * arguments.clients + ["bad"] + ["large"] * arguments.large
    threads = [threading.Thread(target=client, args=(kind, n)) for n, kind in enumerate(kinds)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(min(5, max(0.2, until - time.monotonic())))
        now, most = memory(process)
        print(
            f"{arguments.seconds - (until - time.monotonic()):5.0f} s: {now:.0f} MB, at most {most:.0f} MB", flush=True
        )
    cuts = statistics.quantiles(waits, n=100)
    print(
        f"{len(waits)} pictures by {arguments.clients} clients, {len(waits) / arguments.seconds:.0f} a second; "
        f"p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms, longest {max(waits) * 1000:.0f} ms"
    )
    print(json.dumps(dict(counts)))
    print(f"errors: {json.dumps(dict(errors)) if errors else 'none'}", flush=True)
    if errors:
        sys.exit(1)


if __name__ == "__main__":
    main()
