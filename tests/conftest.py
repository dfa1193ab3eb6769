"""Shared by all tests: quiet TensorFlow, the data beside the repository, tiny datasets that can be learned."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
os.environ["VGGFT_FULL_TRACEBACK"] = "1"  # to see where a test fails

_CACHE = tempfile.TemporaryDirectory(prefix="vggft-tests-")
os.environ["VGGFT_CACHE_DIR"] = _CACHE.name  # of processes that tests start as well; removed when the tests end

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The folder of data beside the repository; a test that needs it is skipped where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs ../shared/data, which is not beside this checkout")
    return SHARED_DATA


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real headless Chromium, driven by Selenium, that records what it logs and asks for."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Chromium and its driver (Debian: chromium, chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    quiet = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update"
    camera = "use-fake-device-for-media-stream", "use-fake-ui-for-media-stream"  # one that films a test card
    for flag in (*quiet.split(), *camera, "headless=new", "disable-sync", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield found
    found.quit()


@pytest.fixture(scope="session")
def stripes() -> tuple[np.ndarray, np.ndarray]:
    """120 noisy 32x32 images of three classes: horizontal, vertical and diagonal stripes."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    patterns = [np.sin(y * 0.8), np.sin(x * 0.8), np.sin((x + y) * 0.6)]
    labels = np.arange(120) % 3
    images = np.stack([patterns[label] * 60 + 128 + rng.normal(0, 25, (32, 32)) for label in labels])
    return np.repeat(images[..., None].clip(0, 255).astype("uint8"), 3, axis=-1), labels


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of VGG16 at a sixteenth of its width, random but always the same."""
    import keras

    from vggft.network import vgg, weights

    path = tmp_path_factory.mktemp("weights") / "tiny.npz"
    keras.utils.set_random_seed(7)
    weights = weights.convolutions(vgg.vgg("D", include_top=False, image_size=32, width=1 / 16))
    weights["block1_conv1/kernel"] /= 64  # pixels are about +-128: features of a trained network are about 1
    np.savez(path, **weights)
    return path
