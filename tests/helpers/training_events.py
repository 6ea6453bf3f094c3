"""What a training logged, without times."""

from __future__ import annotations

from pathlib import Path

from layerprobe.probe.training.training_log import LOG_LINES, read_events


def events_of(folder: Path) -> list[tuple[str, int, dict[str, float]]]:
    """Return kind, step and values of each line of a log.jsonl."""
    found = [
        (event.event, event.step, {name: v for name, v in event.values.items() if name != "seconds"})
        for event in read_events(folder / LOG_LINES)
    ]
    if len(found) != len((folder / LOG_LINES).read_text().splitlines()):
        raise ValueError(f"{folder / LOG_LINES} has a damaged line")
    return found
