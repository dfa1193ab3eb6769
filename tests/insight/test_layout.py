"""The map: alike images near each other, always the same; and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggft.errors import ConfigError
from vggft.insight.layout import layout
from vggft.plots import MapDisplay
from vggft.telling.display import jpeg_url


def test_alike_images_are_near_each_other_and_the_map_is_always_the_same() -> None:
    rng, labels = np.random.default_rng(0), np.arange(90) % 3
    x = (rng.normal(size=(3, 16)) * 4)[labels] + rng.normal(size=(90, 16))
    found = layout(x.astype("float32"), how="t-SNE")
    distance = ((found.points[:, None] - found.points) ** 2).sum(-1) + 9 * np.eye(90)
    assert (labels[distance.argmin(axis=1)] == labels).mean() > 0.95
    assert found.points.min() == 0 and found.points.max() == 1
    assert np.array_equal(found.points, layout(x.astype("float32"), how="t-SNE").points)


def test_of_many_images_lots_are_drawn_and_marked_ones_are_kept() -> None:
    x = np.random.default_rng(0).normal(size=(300, 8)).astype("float32")
    found = layout(x, most=50, keep=np.array([7, 299]), how="PCA")
    assert len(found.rows) == len(set(found.rows.tolist())) == 50 and {7, 299} <= set(found.rows.tolist())
    for few in (x[:0], x[:1], x[:2], np.repeat(x[:1], 20, axis=0)):
        assert np.isfinite(layout(few).points).all() and layout(few).points.shape == (len(few), 2)


def page_of(display: MapDisplay, folder: Path) -> str:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = f'<!doctype html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
    (folder / "map.html").write_text(f'{head}<meta name="viewport" content="width=device-width">{display.to_html()}')
    return (folder / "map.html").as_uri()


def a_map(count: int = 40) -> MapDisplay:
    from PIL import Image

    rng = np.random.default_rng(0)
    pictures = {n: jpeg_url(Image.new("RGB", (48, 48), (9 * n % 255, 90, 90))) for n in range(0, count, 2)}
    names, labels = [f"<i>{n}.png" for n in range(count)], ["cat", "dog", "<script>"] * count
    points, marks = rng.random((count, 2)), {"mistake": [3], "label suspect": [3, 4]}
    how: dict[str, Any] = {"names": names, "marks": marks, "pictures": pictures, "predictions": ["cat"] * count}
    return MapDisplay(points, labels[:count], **how)


def test_it_is_drawn_and_checked(tmp_path: Path) -> None:
    found = a_map()
    assert found.save(tmp_path / "map.png").stat().st_size > 5000
    assert "<script>" not in found.to_html() and "<i>3.png" not in found.to_html()
    many = MapDisplay(np.random.default_rng(0).random((80, 2)), [f"class {n % 40}" for n in range(80)])
    assert len(set(many.colours.values())) == 30 and "10 more classes (20)" in many.to_html()
    with pytest.raises(ConfigError, match="n labels"):
        MapDisplay(np.zeros((3, 2)), ["cat"])


def test_a_dot_shows_its_picture_where_it_is_pointed_at_or_focused(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    browser.set_window_size(390, 844)
    browser.get(page_of(a_map(), tmp_path))
    dot = browser.find_element("css selector", ".field .dot:not(.ring0):not(.ring1) img").find_element("xpath", "../..")
    about = dot.find_element("class name", "about")
    assert not about.is_displayed()
    ActionChains(browser).move_to_element(dot).perform()
    assert about.is_displayed() and about.find_element("tag name", "img").get_property("naturalWidth") == 48
    marked = browser.find_element("css selector", ".field .ring0")
    browser.execute_script("arguments[0].focus()", marked)
    shown = marked.find_element("class name", "about")
    assert shown.is_displayed() and "predicted" not in shown.text[:3] and "mistake, label suspect" in shown.text
    wide = browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
