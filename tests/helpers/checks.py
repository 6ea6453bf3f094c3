"""What the checks of a study object to."""

from __future__ import annotations

from layerprobe.analysis.checks.run import CHECKS, run_checks
from layerprobe.analysis.study import Study


def objections(study: Study, code: str = "") -> list[str]:
    """Sentences of the issues and tips of a study, of one check where its code is given."""
    found = CHECKS[code](study) if code else run_checks(study)
    return [c.sentence for c in found if c.state in ("issue", "tip")]
