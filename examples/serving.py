"""Serving: a classifier behind HTTP for this machine, asked by a client; and as ONNX, which needs no TensorFlow.

python examples/serving.py flowers/

Needs `pip install 'vggft[serve,onnx]'`. In a shell, `vggft serve flowers.keras` does the same, with a page to try it.
"""

import sys
import threading
from pathlib import Path

import requests
import uvicorn

import vggft
from vggft.deploy.server import make_app


def main(folder: str, port: int = 8000) -> None:
    # 1. A classifier, and one of the pictures to ask about.
    classifier = vggft.finetune(folder, backbone="vgg16_mini", verbose=0)  # for photographs, leave out the backbone
    picture = next(path for path in sorted(Path(folder).rglob("*")) if path.is_file())

    # 2. The application is a plain ASGI one, for any server. It answers to local names only; see docs/serving.md.
    server = uvicorn.Server(uvicorn.Config(make_app(classifier), port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.05)
        answer = requests.post(f"http://127.0.0.1:{port}/classify?top=3", data=picture.read_bytes(), timeout=60)
        print(answer.status_code, answer.json())
    finally:
        server.should_exit = True
        thread.join()

    # 3. For other programs: exported, loaded by its own runtime and compared before it is put in place.
    print(classifier.export("served.onnx"))


if __name__ == "__main__":
    main(sys.argv[1])
