"""Numbers on the page, as the browser writes them."""

from __future__ import annotations

from pathlib import Path

from helpers.browser import chromium, open_at
from helpers.serving import serving

from layerprobe.probe.predictors.predictor import Predictor

SHOWN = """const [cases, done] = arguments;
import('/charts.js').then(m => done(cases.map(([value, digits]) => m.shown(value, digits))), e => done(String(e)))"""


def test_what_rounds_to_zero_has_no_minus(predictor: Predictor, tmp_path: Path) -> None:
    cases = [(-0.04, 1), (-0.0, 2), (-0.06, 1), (-0.4, 0), (-10.0, 1), (0.04, 1), (None, 1)]
    with serving(predictor) as server, chromium(tmp_path / "profile") as page:
        open_at(page, server.url, width=1440)
        assert page.execute_async_script(SHOWN, cases) == ["0.0", "0.00", "−0.1", "0", "−10.0", "0.0", "–"]
