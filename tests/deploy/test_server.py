"""Serving: the endpoint with a real client, the page in a real browser, and no files left behind."""

from __future__ import annotations

import ast
import asyncio
import base64
import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import requests
from attacks import Crowd, answer_of, crowds, odd_requests, slow_picture, small_picture
from PIL import Image

import vggft
from vggft.artifact.record import Record
from vggft.deploy import callers, connections
from vggft.deploy import server as serving
from vggft.deploy import service as services
from vggft.deploy.rooms import Room
from vggft.deploy.service import Service, about
from vggft.evaluation.checks import evaluate
from vggft.network.description import Description, build
from vggft.telling.display import percent

pytest.importorskip("starlette", reason="needs vggft[serve]")
pytest.importorskip("uvicorn", reason="needs vggft[serve]")

NAMES = ("<b>cat</b>", "dog & co", "Füchse")
LIMIT = 10**6


@dataclass(frozen=True)
class Server:
    """A server in a separate process."""

    url: str
    process: subprocess.Popen[str]
    places: tuple[Path, ...]  # where it might leave something

    def post(self, data: Any = None, **arguments: Any) -> requests.Response:
        return requests.post(f"{self.url}/classify", data=data, timeout=30, **arguments)

    def left(self) -> list[Path]:
        return [path for place in self.places for path in place.rglob("*")]


@contextmanager
def started(model: Path, room: Path) -> Iterator[Server]:
    """Start `vggft serve` in a working directory and a temporary directory of its own, and stop it."""
    places = room / "tmp", room / "cwd"
    for place in places:
        place.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (room / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "vggft", "serve", str(model), "--port", str(port), "--max-megabytes", "1"],
            cwd=places[1],
            env={**os.environ, "TMPDIR": str(places[0]), "PYTHONPATH": str(Path(vggft.__file__).parents[1])},
            stderr=log,
            stdout=log,
            text=True,
        )
    server = Server(f"http://127.0.0.1:{port}", process, places)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None and time.monotonic() < deadline, (room / "log").read_text()
            try:
                assert requests.get(f"{server.url}/health", timeout=5).json() == {"status": "ok"}
                break
            except (requests.ConnectionError, requests.Timeout):
                time.sleep(0.1)
        yield server
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def classifier() -> vggft.Classifier:
    description = Description(class_names=NAMES, image_size=32, width=1 / 16, backbone="tiny")
    keras.utils.set_random_seed(3)  # of the blocks
    return vggft.Classifier(build(description, seed=3), description)


@pytest.fixture(scope="module")
def model(classifier: vggft.Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier.save(tmp_path_factory.mktemp("model") / "tiny.keras")


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(model, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files that are easily decoded in another way than `predict` does."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (6, 9, 4), dtype="uint8")).resize((360, 240))
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth.convert("RGB").save(folder / "turned.jpg", exif=exif)
    smooth.save(folder / "clear.png")
    smooth.convert("L").save(folder / "grey.png")
    Image.fromarray(np.asarray(smooth.convert("L")).astype("uint16") * 257).save(folder / "deep.tiff")
    smooth.convert("CMYK").resize((32, 32)).save(folder / "print.jpg")
    return {path.stem: path for path in folder.iterdir()}


def png(width: int, height: int) -> bytes:
    """A small PNG file whose header claims many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def png_of(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def detail(response: requests.Response) -> str:
    """The sentence of an error."""
    assert response.headers["content-type"] == "application/json"
    return str(response.json()["detail"])


@pytest.mark.parametrize("name", ["turned", "clear", "grey", "deep", "print"])
def test_it_answers_what_predict_says(
    server: Server, classifier: vggft.Classifier, pictures: dict[str, Path], name: str
) -> None:
    """Of a body and of a form."""
    data, expected = pictures[name].read_bytes(), classifier.predict(pictures[name])[0]
    answers = [server.post(data), server.post(files={"file": (name, data, "image/anything")})]
    for found in (answer.json() for answer in answers):
        by_label = {each["label"]: each["probability"] for each in found["labels"]}
        np.testing.assert_allclose([by_label[label] for label in NAMES], expected, atol=1e-6)
        assert found["label"] == found["labels"][0]["label"] == classifier.classify(pictures[name]).label
        assert found["present"] == [found["label"]] and "explanation" not in found
        assert found["stranger"] is None is found["distance"]  # it was not fine-tuned, so it does not know
    assert answers[0].headers["cache-control"] == "no-store"
    size = {"turned": (240, 360), "print": (32, 32)}.get(name, (360, 240))
    assert (found["image"]["width"], found["image"]["height"]) == size
    assert len(server.post(data, params={"top": 1}).json()["labels"]) == 1


def test_it_explains(server: Server, classifier: vggft.Classifier, pictures: dict[str, Path]) -> None:
    for label in (None, *NAMES):
        query = {"explain": "true"} if label is None else {"label": label}
        found = server.post(pictures["turned"].read_bytes(), params=query).json()["explanation"]
        expected = classifier.explain(pictures["turned"], label)
        assert (found["label"], found["probability"]) == (expected.label, pytest.approx(expected.probability, abs=1e-6))
        for name, pixels in {"picture": expected.picture, "overlay": expected.overlay()}.items():
            kind, _, text = found[name].partition(",")
            assert kind == "data:image/jpeg;base64"
            shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))).astype(float)
            assert np.abs(shown - pixels).mean() < 4  # of 255: JPEG


def test_it_says_what_it_is(server: Server) -> None:
    found = requests.get(f"{server.url}/classifier", timeout=5).json()
    assert found["class_names"] == list(NAMES) and found["image_size"] == 32
    assert (found["max_bytes"], found["max_pixels"]) == (LIMIT, serving.MAX_UPLOAD_PIXELS)


@pytest.mark.parametrize(
    ("data", "status", "sentence"),
    [
        (b"", 400, "is empty: send the bytes of an image"),
        (b"hello", 415, "is not an image: it begins with b'hello'"),
        (b"<html>", 415, "is not an image: .* a web page"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), 422, "The image "),
        (png(50_000, 50_000), 422, "2500 million pixels, above the limit of 50 million"),
        (png(8192, 6145), 422, "8192x6145 = 50 million pixels"),
        (png(1000, 1000), 422, "The image is truncated"),
        (b"\xff\xd8\xff" + bytes(LIMIT), 413, "is larger than 1 MB"),
    ],
    ids="empty text web header bomb large truncated heavy".split(),
)
def test_what_cannot_be_answered_is_refused_with_a_sentence(
    server: Server, data: bytes, status: int, sentence: str
) -> None:
    """As a body, in chunks of unknown number, and in a form."""
    chunks = (data[start : start + 65536] for start in range(0, len(data), 65536))
    for answer in (server.post(data), server.post(chunks), server.post(files={"file": ("it.png", data)})):
        assert answer.status_code == status
        assert re.search(sentence, detail(answer))


def test_questions_that_make_no_sense_are_refused(server: Server, pictures: dict[str, Path]) -> None:
    data = pictures["grey"].read_bytes()
    for top in ("0", "many"):
        answer = server.post(data, params={"top": top})
        assert answer.status_code == 400 and f"integer >= 1; got '{top}'" in detail(answer)
    answer = server.post(data, params={"label": "cow"})
    assert answer.status_code == 400 and "'cow' is not a class of this classifier; known: <b>cat</b>" in detail(answer)
    for form, headers in (({"file": "text"}, {}), (b"--x", {"Content-Type": "multipart/form-data"})):
        sent = {"files": {"x": (None, "text")}} if isinstance(form, dict) else {"data": form, "headers": headers}
        answer = server.post(**sent)
        assert answer.status_code == 400 and "with one image file" in detail(answer)
    assert requests.get(f"{server.url}/classify", timeout=5).status_code == 405
    assert detail(requests.get(f"{server.url}/etc/passwd", timeout=5)) == "Not Found"


def test_only_those_who_call_it_by_its_name_are_answered(server: Server) -> None:
    """A web page cannot reach the server through its own host name."""
    for host, status in (("evil.example", 400), ("localhost", 200), ("127.0.0.1:1", 200), ("[::1]:8000", 200)):
        assert requests.get(f"{server.url}/health", headers={"Host": host}, timeout=5).status_code == status


def test_a_client_that_waits_for_leave_is_told_before_it_sends(server: Server) -> None:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", "/classify")
    connection.putheader("Content-Length", str(10**12))
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_fifty_clients_at_once_and_nothing_is_left(
    server: Server, classifier: vggft.Classifier, pictures: dict[str, Path]
) -> None:
    files = {path: (path.read_bytes(), classifier.predict(path)[0].max()) for path in pictures.values()}
    bad = {b"hello": 415, png(50_000, 50_000): 422, bytes(2 * LIMIT): 413}
    until = time.monotonic() + 2

    def client(number: int) -> int:
        answered = 0
        with requests.Session() as session:
            while time.monotonic() < until:
                if number % 10 == 0:
                    data, status = list(bad.items())[answered % len(bad)]
                    assert session.post(f"{server.url}/classify", data=data, timeout=30).status_code == status
                else:
                    data, probability = list(files.values())[(number + answered) % len(files)]
                    answer = session.post(f"{server.url}/classify", data=data, timeout=30)
                    assert answer.status_code == 200, answer.text
                    assert answer.json()["labels"][0]["probability"] == pytest.approx(probability, abs=1e-6)
                answered += 1
        return answered

    with ThreadPoolExecutor(50) as clients:
        assert min(clients.map(client, range(50))) >= 1
    with socket.create_connection(server.url.removeprefix("http://").split(":")) as gone:  # in the middle of it
        gone.sendall(b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n" + bytes(300_000))
    server.post(files={"file": ("big.png", bytes(LIMIT))})
    assert requests.get(f"{server.url}/health", timeout=5).ok
    assert server.left() == []
    assert "Traceback" not in (server.places[0].parent / "log").read_text()


def test_what_waits_goes_through_the_network_together(
    classifier: vggft.Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype="uint8")
    expected, sizes = classifier.predict(pixels), []
    predictions = classifier.predictions

    def counted(batch: Any, **how: Any) -> Any:
        sizes.append(len(batch))
        if len(sizes) == 5:
            raise MemoryError("no room")
        return predictions(batch, **how)

    monkeypatch.setattr(classifier, "predictions", counted)

    async def all_at_once() -> list[Any]:
        service = Service(classifier, LIMIT)
        found = await asyncio.gather(*map(service.predict, pixels))
        with pytest.raises(MemoryError, match="no room"):
            await service.predict(pixels[0])
        found.append(await service.predict(pixels[0]))  # one that fails does not stop the others
        service.close()
        return found

    found = [probabilities for probabilities, _ in asyncio.run(all_at_once())]
    np.testing.assert_allclose(found, np.concatenate([expected, expected[:1]]), atol=1e-6)
    assert sizes == [1, 16, 16, 7, 1, 1]


def test_several_labels_are_present_by_their_thresholds() -> None:
    """In this process, called as any ASGI server would."""
    description = Description(("day", "dog", "rain"), 32, width=1 / 16, multi_label=True, thresholds=(0.0, 1.0, 0.0))
    network = build(description)
    layer = network.get_layer("logits")
    layer.set_weights([np.zeros_like(weights) for weights in layer.get_weights()])  # each label is as likely as not
    app = serving.make_app(vggft.Classifier(network, description), hosts=None)
    body, answers = png_of(np.full((40, 40, 3), 200, "uint8")), []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    scope = {"type": "http", "method": "POST", "path": "/classify", "query_string": b"top=2", "headers": []}
    asyncio.run(app(scope, receive, send))
    assert answers[0]["status"] == 200
    found = json.loads(b"".join(message.get("body", b"") for message in answers))
    assert set(found["present"]) == {"day", "rain"} and len(found["labels"]) == 2
    assert [(each["label"], each["threshold"]) for each in found["labels"]] == [("day", 0.0), ("dog", 1.0)]


def test_it_says_how_good_it_is(classifier: vggft.Classifier) -> None:
    judged = evaluate(np.array([0, 1, 2, 0]), np.eye(3, dtype="float32")[[0, 1, 1, 0]], NAMES)
    record = Record(environment={"arguments": {"dataset": "/home/me/pets"}})
    told = about(vggft.Classifier(classifier.keras_model, classifier.description, judged, record=record))
    assert told["name"] == "pets" and told["evaluation"]["value"] == 0.75
    assert told["score"].startswith("75.0\u00a0% accuracy on 4 test images (95 % interval ")
    assert about(classifier) == {"name": "", "score": "", "evaluation": None}


def test_where_it_listens(
    classifier: vggft.Classifier, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert all(map(serving.is_loopback, ("127.0.0.1", "127.8.0.1", "::1", "localhost")))
    assert not any(map(serving.is_loopback, ("0.0.0.0", "192.168.1.2", "::", "example.org")))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(vggft.ConfigError, match=f"Port {port} of 127.0.0.1 cannot be used .*another program"):
            serving.serve(classifier, port=port)
    with pytest.raises(vggft.ConfigError, match="port must be from 1 to 65535; got 70000"):
        serving.serve(classifier, port=70_000)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    serving.serve(classifier, host="0.0.0.0", port=port)
    assert "Warning: 0.0.0.0 is not a loopback address: anyone who can reach" in capsys.readouterr().err
    with pytest.raises(vggft.ConfigError, match="max_bytes must be at least 1; got 0"):
        serving.make_app(classifier, max_bytes=0)


def test_a_missing_library_is_named(classifier: vggft.Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(vggft.ConfigError, match=r"Serving needs uvicorn: pip install starlette uvicorn"):
        serving.serve(classifier)


def test_its_libraries_are_imported_only_to_serve() -> None:
    tree = ast.parse(Path(serving.__file__).read_text(encoding="utf-8"))
    imported = {ast.unparse(node) for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))}
    assert not [line for line in imported if any(name in line for name in ("starlette", "uvicorn", "multipart"))]


def test_the_page_in_a_browser(
    server: Server, classifier: vggft.Classifier, pictures: dict[str, Path], browser: Any, tmp_path: Path
) -> None:
    """It shows labels, probabilities and Grad-CAM of a dropped image, escapes names and loads nothing from outside."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    def shown(selector: str) -> Any:
        return WebDriverWait(browser, 20).until(
            lambda _: next((e for e in browser.find_elements(By.CSS_SELECTOR, selector) if e.is_displayed()), None)
        )

    def share(p: float) -> str:
        return percent(p).replace("\u00a0", " ")  # as Selenium returns it

    def until(script: str) -> None:
        WebDriverWait(browser, 20).until(lambda _: browser.execute_script(f"return {script}"))

    browser.get("about:blank")
    browser.get_log("performance")  # of the browser's own first page
    browser.get(server.url)
    assert browser.title == "vggft: 3 classes"
    browser.find_element(By.ID, "file").send_keys(str(pictures["turned"]))
    expected = classifier.classify(pictures["turned"])
    assert shown("#verdict b").text == expected.label
    rows = [row.text.split("\n") for row in browser.find_elements(By.CSS_SELECTOR, "#labels button")]
    assert rows == [[n, share(p)] for n, p in zip(expected.labels, expected.probabilities, strict=True)]
    until("document.querySelector('#picture').naturalWidth === 240")
    until("document.querySelector('#overlay').naturalHeight === 360")
    assert f"saw “{expected.label}” (240 \u00d7 360 px JPEG)" in browser.find_element(By.ID, "caption").text

    assert browser.find_element(By.ID, "overlay").value_of_css_property("opacity") == "0"  # the picture first
    first, second = expected.labels[:2]
    assert expected.probabilities[0] - expected.probabilities[1] < 0.1
    assert shown("#doubt").text.startswith(f"Undecided: “{first}” and “{second}” are about equally likely")

    browser.find_elements(By.CSS_SELECTOR, "#labels button")[2].click()  # another class's Grad-CAM
    until("document.querySelectorAll('#labels button')[2].getAttribute('aria-pressed') === 'true'")
    assert f"saw “{expected.labels[2]}”" in browser.find_element(By.ID, "caption").text
    assert browser.find_element(By.CSS_SELECTOR, "#verdict b").text == expected.label

    assert browser.find_element(By.ID, "overlay").value_of_css_property("opacity") == "1"

    # a real drop of a file that browsers cannot show, built in the page
    drop = """
        const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0)), data = new DataTransfer();
        data.items.add(new File([bytes], "deep.tiff"));
        dispatchEvent(new DragEvent("drop", {dataTransfer: data, cancelable: true}));
    """
    browser.execute_script(drop, base64.b64encode(pictures["deep"].read_bytes()).decode())
    until("document.querySelector('#caption').textContent.includes('TIFF')")
    browser.find_element(By.ID, "file").send_keys(f"{pictures['clear']}\n{pictures['grey']}")  # several at once
    until("document.querySelectorAll('#strip img').length === 4")
    for at, name in ((2, "clear"), (3, "grey")):
        button = browser.find_elements(By.CSS_SELECTOR, "#strip button")[at]
        said = classifier.classify(pictures[name])
        assert button.text.split("\n") == [f"{said.label} {share(said.probabilities[0])}", f"{name}.png"]
        button.click()
        assert browser.find_element(By.CSS_SELECTOR, "#verdict b").text == said.label
    for width in (390, 1440):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 400}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert [each for each in browser.get_log("browser") if each["level"] in ("SEVERE", "WARNING")] == []

    shown("#open-camera").click()
    until("document.querySelector('video').videoWidth > 0")
    browser.find_element(By.ID, "shoot").click()
    until("document.querySelectorAll('#strip img').length === 5 && !document.querySelector('#answer').hidden")
    assert " × " in browser.find_element(By.ID, "caption").text  # noqa: RUF001
    browser.find_element(By.ID, "close-camera").click()
    assert not browser.find_element(By.TAG_NAME, "video").is_displayed()

    (tmp_path / "note.jpg").write_text("hello")
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "note.jpg"))
    assert shown("#error").text == "The image is not an image: it begins with b'hello'."
    (tmp_path / "big.jpg").write_bytes(bytes(LIMIT + 1))
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "big.jpg"))
    until("document.querySelector('#error').textContent.includes('larger than 1 MB')")

    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert f"{server.url}/" in asked
    assert not [url for url in asked if not url.startswith((f"{server.url}/", "data:", "chrome:"))]
    assert server.left() == []


@pytest.fixture(scope="module")
def quick(classifier: vggft.Classifier) -> Iterator[tuple[str, int]]:
    """A server in a thread of this process, with a hundredth of the limits: attacks on it take no minutes."""
    import uvicorn

    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in (
            (connections, "CONNECTIONS", 24),
            (connections, "PATIENCE", 1.0),
            (connections, "RATE", 40_000),
            (connections, "TICK", 0.1),
            (services, "SECONDS", 3),
            (services, "SLOW", 0.3),
        ):
            patch.setattr(module, name, value)
        patch.setattr(services, "UPLOADS", 12)
        patch.setattr(services, "MEGABYTE", LIMIT // 256)  # of the least memory for uploads
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # of its connections: as a slow network
            runner = uvicorn.Server(serving.configured(serving.make_app(classifier, max_bytes=LIMIT)))
            thread = threading.Thread(target=runner.run, args=([listening],))
            thread.start()
            while not runner.started:
                time.sleep(0.01)
            yield listening.getsockname()
            runner.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def answered(address: tuple[str, int], count: int = 3) -> float:
    """Seconds in which the slowest of some good requests, each with a connection of its own, is answered."""
    url, waits = "http://{}:{}".format(*address), []
    for number in range(count):
        started = time.perf_counter()
        answer = requests.post(f"{url}/classify", small_picture(40 + number), headers={"Host": "localhost"}, timeout=60)
        assert answer.status_code == 200, answer.text
        waits.append(time.perf_counter() - started)
    return max(waits)


KINDS = list(crowds(("", 0), 0, 0, LIMIT))


@pytest.mark.parametrize("kind", KINDS)
def test_a_crowd_locks_nobody_out(quick: tuple[str, int], kind: str) -> None:
    """More sockets than there may be connections, that send too little or read nothing."""
    with crowds(quick, 40, seed=KINDS.index(kind), limit=LIMIT)[kind] as crowd:
        assert answered(quick) < 10  # on a busy machine, too; who is locked out is so for longer
        assert crowd.closed() >= 40 - connections.CONNECTIONS
    assert answered(quick, 1) < 10


@pytest.mark.slow
def test_who_is_too_slow_is_closed(quick: tuple[str, int]) -> None:
    slow = ("half a head", "header after header", "a body byte by byte", "chunk by chunk", "a body for a page")
    some = {name: crowd for name, crowd in crowds(quick, 3, seed=7, limit=LIMIT).items() if name in slow}
    file = io.BytesIO()
    Image.effect_noise((900, 900), 100).save(file, "JPEG")  # whose explanation does not fit into the sockets' memory
    noise = b"POST /classify?explain=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(file.getvalue())
    unread = Crowd(quick, 1, lambda _: noise + file.getvalue())
    with ExitStack() as all_of_them:
        for crowd in some.values():
            all_of_them.enter_context(crowd)
        until = time.monotonic() + 15
        while open_ones := [name for name, crowd in some.items() if crowd.closed() < crowd.count]:
            assert time.monotonic() < until, open_ones
            time.sleep(0.1)
    with unread:
        while not unread.answered():
            time.sleep(0.1)
        time.sleep(2.5)
        unread.sockets[0].settimeout(15)
        answer = b"".join(iter(lambda: unread.sockets[0].recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and len(body) < int(re.findall(rb"(?i)content-length: (\d+)", head)[0])
    sent = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nslow"
    head, _, body = answer_of(quick, sent, 15).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ") and "too slowly: send a smaller image" in json.loads(body)["detail"]
    assert b"Cache-Control: no-store" in head and b"X-Content-Type-Options: nosniff" in head


def attacked(address: tuple[str, int], seed: int, count: int) -> list[str]:
    """Send every odd request, and return those that are neither answered as they should be nor closed."""

    def wrong(named: tuple[str, bytes]) -> str:
        name, sent = named
        try:
            answer = answer_of(address, sent, 30)
        except TimeoutError:
            return f"{name}: no answer"
        found = re.match(rb"HTTP/1\.1 (?:100 Continue\r\n\r\nHTTP/1\.1 )?(\d+) ", answer)
        status = int(found[1]) if found else 0
        head = answer.partition(b"\r\n\r\n")[0].lower()
        guarded = b"nosniff" in head and b"no-store" in head
        return "" if not answer or (200 <= status < 500 and guarded) else f"{name}: {answer[:300]!r}"

    with ThreadPoolExecutor(16) as clients:
        return [each for each in clients.map(wrong, odd_requests(seed, count)) if each]


def test_odd_requests_are_answered_or_closed(quick: tuple[str, int], caplog: pytest.LogCaptureFixture) -> None:
    assert attacked(quick, seed=1, count=100) == []
    assert answered(quick, 1) < 10
    assert [record.getMessage() for record in caplog.records] == []


def test_slow_pictures_hold_up_nobody(quick: tuple[str, int]) -> None:
    data = slow_picture()
    head = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(data)
    with Crowd(quick, 1 + (os.cpu_count() or 1), lambda _: head + data) as crowd:
        assert answered(quick, 1) < 1 or crowd.answered() == 0


def test_who_may_ask(server: Server) -> None:
    """Web pages elsewhere may not, neither by their own name for this server nor across."""
    image, own = small_picture(), server.url
    port = own.rpartition(":")[2]
    for origin, status in (
        (own, 200),
        ("http://localhost:1", 403),
        ("http://evil.example", 403),
        (f"http://127.0.0.1:{port}.evil.example", 403),
        ("null", 403),
        ("", 403),
        (f"file://127.0.0.1:{port}", 403),
    ):
        answer = server.post(image, headers={"Origin": origin})
        assert answer.status_code == status, origin
    assert "only this server's own page may ask it" in detail(answer)
    for host in (
        "evil.example",
        "localhost.evil.example",
        "evil@localhost",
        "127.0.0.1.evil.example",
        "0.0.0.0",
        "",
        "[::2]",
    ):
        answer = server.post(image, headers={"Host": host})
        assert answer.status_code == 400 and "--allow-host NAME" in detail(answer), host
    for path, method in (
        ("/", "GET"),
        ("/health", "GET"),
        ("/none", "GET"),
        ("/classifier", "PUT"),
        ("/classify", "POST"),
    ):
        answer = requests.request(method, own + path, timeout=5)
        assert answer.headers["Cache-Control"] == "no-store" and answer.headers["X-Content-Type-Options"] == "nosniff"


def test_beyond_loopback_it_is_called_by_numbers_or_allowed_names() -> None:
    asked = callers.Callers(lambda *_: None, ("localhost", "0.0.0.0", "Flowers.example", "*.lab.example"))
    good = "flowers.example", "FLOWERS.example:8000", "a.lab.example", "192.168.1.2:80", "[fe80::1]:8000", "localhost"
    assert [host for host in good if not asked.knows(host)] == []
    bad = (
        "evil.example",
        "lab.example",
        "xlab.example",
        "flowers.example.",
        "a b",
        "192.168.1.2.nip.io",
        "a.lab.example@x",
    )
    assert [host for host in bad if asked.knows(host)] == []
    for name in ("https://flowers.example", "flowers.example:80", "a b", ""):
        with pytest.raises(vggft.ConfigError, match=r"such as flowers\.example"):
            callers.check_hosts([name])


def test_memory_for_uploads_goes_to_those_who_send() -> None:
    """Who holds most of it and does not go on is given up when others need it."""

    async def all_at_once() -> list[int]:
        order, room = [], Room(10, lambda: order.append(0))

        async def hold(number: int, size: int, seconds: float) -> None:
            async with room.taken(size):
                order.append(number)
                await asyncio.sleep(seconds)

        first = asyncio.ensure_future(hold(1, 8, 0.05))
        await asyncio.sleep(0)
        large, small = asyncio.ensure_future(hold(2, 99, 0)), asyncio.ensure_future(hold(3, 2, 0))
        dropped = asyncio.ensure_future(hold(4, 10, 0))
        await asyncio.sleep(0.01)
        dropped.cancel()
        await asyncio.gather(first, large, small)
        assert room.left == 10 and not room.waiting
        return order

    assert asyncio.run(all_at_once()) == [1, 0, 3, 0, 2]


@pytest.mark.slow
def test_attacks_of_many_sockets(model: Path, tmp_path: Path) -> None:
    """The same with 600 sockets of each kind on a server with its real limits; no memory and no file stays."""
    with started(model, tmp_path) as server:
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        answered(address, 20)
        before, waits = resources(server), {}
        for kind in KINDS:
            with crowds(address, 600, seed=100 + KINDS.index(kind), limit=LIMIT)[kind] as crowd:
                waits[kind] = answered(address, 10)
                assert waits[kind] < 20, kind
                time.sleep(3)
                waits[kind] = max(waits[kind], answered(address, 10))
                assert crowd.closed() >= 600 - connections.CONNECTIONS, kind
        assert attacked(address, seed=2, count=2000) == []
        time.sleep(12)
        after = resources(server)
        print(
            f"longest waits in s: { {kind: round(seconds, 2) for kind, seconds in waits.items()} }; {before} -> {after}"
        )
        assert after[1] <= before[1] + 2 and after[0] < before[0] + 400
        assert server.left() == [] and "Traceback" not in (tmp_path / "log").read_text()


def resources(server: Server) -> tuple[float, int]:
    """Resident memory in MB, and the number of open files."""
    process = Path(f"/proc/{server.process.pid}")
    pages = int((process / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(list((process / "fd").iterdir()))


@pytest.mark.slow
def test_ten_thousand_requests_leave_nothing(model: Path, pictures: dict[str, Path], tmp_path: Path) -> None:
    files = [path.read_bytes() for path in pictures.values()]
    with started(model, tmp_path) as server:

        def client(number: int) -> None:
            with requests.Session() as session:
                for turn in range(125):
                    query = {"explain": "true"} if turn % 10 == 0 else {}
                    data = files[(number + turn) % len(files)]
                    assert session.post(f"{server.url}/classify", data=data, params=query, timeout=60).ok

        found = []
        with ThreadPoolExecutor(8) as clients:
            for _ in range(11):  # the first thousand is not counted: threads and graphs come with it
                list(clients.map(client, range(8)))
                found.append(resources(server))
        memory, open_files = np.array(found[1:]).T
        slope = np.polyfit(np.arange(1000, 1000 * len(memory) + 1, 1000), memory * 1000, 1)[0]
        print(f"{slope:.2f} kB a request, {memory.round().tolist()} MB, open files {open_files.tolist()}")
        assert abs(slope) < 1 and open_files.max() <= open_files.min() + 8  # of connections that are kept alive


def ends(server: Server, number: signal.Signals) -> int:
    """Send a signal while a client keeps its connection open, and return the exit status."""
    with requests.Session() as session:
        assert session.get(f"{server.url}/health", timeout=5).ok
        server.process.send_signal(number)
        status = server.process.wait(10)
    assert server.left() == []
    assert "Traceback" not in (server.places[0].parent / "log").read_text()
    return status


def test_ctrl_c_ends_it_cleanly_with_a_connection_open(model: Path, tmp_path: Path) -> None:
    with started(model, tmp_path) as server:
        assert ends(server, signal.SIGINT) == 0


def test_sigterm_ends_it_cleanly_with_a_connection_open(server: Server) -> None:
    """The last test of the file, as it ends the server that the others share: starting one takes seconds."""
    assert ends(server, signal.SIGTERM) == 128 + signal.SIGTERM
