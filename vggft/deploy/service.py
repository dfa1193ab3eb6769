"""What a server does with an image: read it, predict it together with others that wait, and explain it.

Images are held in memory only, and dropped after the answer. Memory is bounded whatever the number of clients: uploads
share a `Room`, and so do images that are being decoded. No client waits for another one that is slow: an upload is read
before it gets a place to be decoded in, and an image that takes long keeps that place for `BRIEF` seconds only.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from ..artifact.artifact import Artifact
from ..artifact.explain import Explanation, grad_cam, last_seen, over_shown
from ..network.description import Classification
from ..pictures.arrays import PixelImage
from ..report.names import Names
from ..report.verdict import headline
from ..telling.display import jpeg_url
from .rooms import Room
from .uploads import MEGABYTE, Decoded, RefusedError, decode, image_of, read_body

if TYPE_CHECKING:
    from starlette.requests import Request

ANSWERS = 256  # requests that are being answered, at most; further ones are refused with 503
UPLOADS = 32  # images of the largest size that may be in memory while they arrive and wait
DECODING = 1250 * MEGABYTE  # for images that are being decoded
PIXEL = 20  # bytes, at most, that decoding takes for each pixel: those of a grey image of 16 bits
THREADS = 16  # that decode; more than processors, for slow images
BRIEF = 0.25  # seconds for which an image that is being decoded keeps others waiting
BATCH = 16  # maximum number of images per pass through the network
SECONDS = 60  # time limit for an upload
SLOW = 2  # seconds, the time limit where others wait for memory

Result = TypeVar("Result")
Answer = tuple[np.ndarray, Classification]  # (num_classes,) probabilities, and what they say


class Service:
    """Answers requests: images are decoded in several threads, and the network runs in a separate thread.

    Args:
        artifact: the classifier.
        max_bytes: size limit of one upload.
    """

    def __init__(self, artifact: Artifact, max_bytes: int):
        self.artifact, self.max_bytes = artifact, max_bytes
        self.answering: set[Request] = set()  # those whose image has arrived
        self.arriving: dict[asyncio.Timeout, float] = {}  # time limits of uploads, and when they began; oldest first
        self.uploads = Room(max(UPLOADS * max_bytes, 256 * MEGABYTE), self.hurry)
        self.decoding, self.processors = Room(DECODING), asyncio.Semaphore(os.cpu_count() or 1)
        self.threads, self.network = ThreadPoolExecutor(THREADS), ThreadPoolExecutor(1)
        self.waiting: list[tuple[np.ndarray, asyncio.Future[Answer]]] = []
        self.turn = asyncio.Lock()
        self.explaining = asyncio.Lock()  # one at a time, so that predictions wait for no more than one

    async def receive(self, request: Request, explain: bool) -> Decoded:
        """Read and decode the image in a request.

        Raises:
            RefusedError: there is no image, or it is too large, arrives too slowly, or cannot be used.
        """
        held = 0

        async def take(size: int) -> None:
            nonlocal held
            await self.uploads.take(size)
            held += size

        try:
            body = await self.read(request, take)
            await self.admit(request)
            data, pixels = await self.in_turn(request, image_of, request, body, self.max_bytes)
            del body
            async with self.decoding.taken(PIXEL * pixels):
                return await self.in_turn(request, decode, data, self.artifact.description.reading, explain)
        finally:
            self.uploads.give(held)

    async def read(self, request: Request, take: Callable[[int], Awaitable[None]]) -> bytes:
        """Read the body of a request within its time limit."""
        try:
            async with asyncio.timeout(SECONDS) as limit:
                self.arriving[limit] = asyncio.get_running_loop().time()
                try:
                    return await read_body(request, self.max_bytes, take)
                finally:
                    del self.arriving[limit]
        except TimeoutError:
            told = f"The image did not arrive within {SECONDS} s, or {SLOW} s while many wait: send a smaller one."
            raise RefusedError(408, told) from None

    def hurry(self) -> None:
        """Shorten the time limit of the oldest upload, as others wait for memory."""
        for limit, began in self.arriving.items():
            if (when := limit.when()) is not None and when > began + SLOW:
                limit.reschedule(max(began + SLOW, asyncio.get_running_loop().time()))
                return

    async def in_turn(self, request: Request, work: Callable[..., Result], *arguments: Any) -> Result:
        """Run work on an upload in a thread: one for each processor, and more if those are slow."""
        async with self.processors:
            await check_waits(request)
            running = asyncio.ensure_future(in_thread(self.threads, work, *arguments))
            await asyncio.wait([running], timeout=BRIEF)
        return await running

    async def predict(self, pixels: np.ndarray) -> Answer:
        """Predict an image, (height, width, 3), in one pass with others that wait.

        On two cores with 30 clients (vgg16_mini at 64 px), passes of up to 16 images answer 1.3 to 1.7 times as many
        requests as passes of one.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.waiting.append((pixels, answer))
        async with self.turn:  # the first in the queue runs a pass for all
            if not answer.done():
                batch = self.waiting[:BATCH]
                try:
                    read = [PixelImage(each) for each, _ in batch]
                    answers = await in_thread(self.network, predicted, self.artifact, read)
                    for (_, future), each in zip(batch, answers, strict=True):
                        future.set_result(each)
                except Exception as error:  # reported to all whose images were in this pass
                    for _, future in batch:
                        future.set_exception(error)
                del self.waiting[: len(batch)]
        return await answer

    def close(self) -> None:
        """End the threads when they have done what they are at; what waits for them is dropped."""
        for threads in (self.threads, self.network):
            threads.shutdown(wait=False, cancel_futures=True)

    async def answer(self, request: Request, top: int, explain: bool, label: str | None) -> dict[str, Any]:
        """Answer one request with JSON-ready values.

        Raises:
            RefusedError: it cannot be answered, or too many others are being answered.
        """
        try:
            return await self.answered(request, top, explain, label)
        finally:
            self.answering.discard(request)

    async def admit(self, request: Request) -> None:
        """Refuse a request if too many others are being answered; those whose clients are gone do not count."""
        if len(self.answering) >= ANSWERS:
            gone = [each for each in list(self.answering) if await each.is_disconnected()]
            self.answering.difference_update(gone)
        if len(self.answering) >= ANSWERS:
            raise RefusedError(503, f"The server is answering {ANSWERS} other requests: try again in some seconds.")
        self.answering.add(request)

    async def answered(self, request: Request, top: int, explain: bool, label: str | None) -> dict[str, Any]:
        """Answer one request, when there is room for it."""
        names = self.artifact.class_names
        if label is not None and label not in names:
            raise RefusedError(400, f"label: {label!r} is not a class of this classifier; known: {', '.join(names)}.")
        seen = await self.receive(request, explain)
        row, found = await self.predict(seen.pixels)
        thresholds = dict(zip(names, self.artifact.description.thresholds or (0.5,) * len(names), strict=True))
        several = self.artifact.description.multi_label
        pairs = list(zip(found.labels, found.probabilities, strict=True))[:top]
        answer: dict[str, Any] = {
            "label": found.label,
            "present": list(found.present),
            "stranger": found.stranger,
            "distance": found.distance,
            "labels": [
                {"label": name, "probability": probability} | ({"threshold": thresholds[name]} if several else {})
                for name, probability in pairs
            ],
            "image": {"width": seen.size[0], "height": seen.size[1], "format": seen.format},
        }
        if seen.picture is not None:
            index = names.index(label or found.label)
            async with self.explaining:
                await check_waits(request)
                heat = await in_thread(self.network, grad_cam, self.artifact, seen.pixels[None], [index])
            answer["explanation"] = await in_thread(self.threads, drawn, self.artifact, seen, heat[0], row, index)
        return answer


def predicted(artifact: Artifact, pictures: list[PixelImage]) -> list[Answer]:
    """Predict pictures that have been read, and whether they are strangers, if that is known."""
    found = artifact.predictions(pictures, strangers=artifact.trust.strangers is not None)
    return [(row, one) for row, one in zip(found.probabilities, found.found, strict=True) if one is not None]


async def in_thread(threads: ThreadPoolExecutor, work: Callable[..., Result], *arguments: Any) -> Result:
    """Run work in a thread without blocking other requests."""
    return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)


async def check_waits(request: Request) -> None:
    """Raise `ClientDisconnect` if the client is gone: others need not wait for its answer."""
    from starlette.requests import ClientDisconnect

    if await request.is_disconnected():
        raise ClientDisconnect


def drawn(artifact: Artifact, seen: Decoded, heat: np.ndarray, row: np.ndarray, index: int) -> dict[str, Any]:
    """Draw the heat map of a class over an image, and return JSON-ready values, the images as data URLs."""
    assert seen.picture is not None
    label, shown = artifact.class_names[index], over_shown(heat, seen.picture, artifact.description.reading)
    explanation = Explanation(seen.picture, shown, label, float(row[index]), last_seen(artifact))
    return {
        "label": explanation.label,
        "probability": explanation.probability,
        "picture": jpeg_url(Image.fromarray(explanation.picture)),
        "overlay": jpeg_url(Image.fromarray(explanation.overlay())),
    }


def about(artifact: Artifact) -> dict[str, Any]:
    """Return what a visitor is told of a classifier: its name, and its score in words and as JSON-ready values."""
    found: dict[str, Any] = {"name": Names(artifact.record).data, "score": "", "evaluation": None}
    evaluation = artifact.evaluation
    if evaluation is not None:
        metric = evaluation.headline
        words = headline(evaluation)
        interval = evaluation.bootstrap(metrics=[metric])[metric]
        found["score"] = f"{words['value']} {words['words']}. {words['baseline']}"
        found["evaluation"] = {"split": evaluation.split, "images": len(evaluation.labels), "metric": metric}
        found["evaluation"] |= {"value": evaluation[metric], "interval": interval}
    return found
