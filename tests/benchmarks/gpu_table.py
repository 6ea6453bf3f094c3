"""The table of the benchmark on a GPU, and a corpus of 240 h on 1, 8 and 64 GPUs, both from the figures in its JSON."""

from __future__ import annotations

from typing import Any

from layerprobe.probe.extraction.encoding.read_ahead import MOST_LOADERS

LOOP, PASS = "loop, float32", "ours, packed pass, bfloat16"
CORPUS_HOURS = 240
DTYPES = ("float32", "float16")  # of rows in a cache
COLUMNS = ("model", "item", "s/s", "first run", "x loop", "of peak", "GB", "error", "layer")
FORMAT = "{:12s} {:46s} {:>8s} {:>9s} {:>7s} {:>7s} {:>5s} {:>8s} {:>5s}"


def extraction_name(dtype: str, n: int, note: str = "") -> str:
    return f"extract, {dtype} rows, {n} files{note}"


def without_once(items: list[dict[str, Any]], files: tuple[int, int]) -> dict[str, dict[str, float]]:
    """Rate of extractions without what is done once, and the seconds of that, from two sizes of corpus."""
    known, found = {item["name"]: item for item in items if item["rate"]}, {}
    for dtype in DTYPES:
        small, large = (known.get(extraction_name(dtype, n)) for n in files)
        if not (small and large):
            continue
        taken = [one["seconds"] / one["rate"] for one in (small, large)]
        if taken[1] > taken[0]:  # else both are too small for a difference
            rate = (large["seconds"] - small["seconds"]) / (taken[1] - taken[0])
            found[dtype] = {"rate": rate, "once_s": max(0.0, taken[0] - small["seconds"] / rate)}
    return found


def table(model: dict[str, Any], peak: float) -> list[str]:
    """Return a line for each item of a model that was measured.

    Args:
        model: its part of the JSON
        peak: operations per second of the square product
    """
    rates = {item["name"]: item["rate"] for item in model["items"]}

    def line(name: str, rate: float, *others: str) -> str:
        ratio = f"{rate / rates[LOOP]:.2f}" if rates.get(LOOP) else ""
        of_peak = f"{rate * model['operations_per_s'] / peak:.1%}"
        first, memory, error, layer = others or ("", "", "", "")
        return FORMAT.format(model["model"], name, f"{rate:,.0f}", first, ratio, of_peak, memory, error, layer).rstrip()

    lines = []
    for item in model["items"]:
        if item["rate"] is not None:
            worst = max((max(layer), k) for k, layer in enumerate(item["errors"])) if item["errors"] else None
            error = (f"{worst[0]:.1e}", str(worst[1])) if worst else ("", "")
            lines.append(
                line(item["name"], item["rate"], f"{item['first']:,.0f}", f"{item['memory'] / 1e9:.1f}", *error)
            )
    for dtype, found in model["without_once"].items():
        lines.append(line(f"extract, {dtype} rows, without once ({found['once_s']:.1f} s)", found["rate"]))
    return lines


def scale(model: dict[str, Any], n_cores: int) -> list[str]:
    """Return how long a corpus takes on 1, 8 and 64 GPUs with as many cores each as this one, and what binds.

    From rates of this run: the packed pass alone, decoding on one core, times the threads that read by default, and one
    writer of float16 rows for each GPU. Merging reads and writes all rows once more.
    """
    rates = {item["name"]: item["rate"] for item in model["items"]}
    if not rates.get(PASS):
        return []
    n_loaders = max(1, min(MOST_LOADERS, n_cores - 1))
    encode, decode, write = rates[PASS], model["decoding"], model["writing"]
    per_second = model["bytes_per_utterance"] / model["s_per_utterance"]  # bytes of rows per second of audio
    limits = {"encode": encode, "decode": decode * n_loaders, "write": write / per_second}
    binds = min(limits, key=lambda name: limits[name])
    once = model["without_once"].get("float16", {}).get("once_s", 0.0) + model["loading, bfloat16"]
    lines = [
        f"{model['model']}: encode {encode:,.0f} s/s; decode {decode:,.0f} s/s on one core, so {encode / decode:.1f} "
        f"cores a GPU; write {encode * per_second / 1e6:,.1f} MB/s a GPU, and one writer writes {write / 1e6:,.1f} MB/s"
    ]
    for n in (1, 8, 64):
        seconds, merged = CORPUS_HOURS * 3600 / (n * limits[binds]), CORPUS_HOURS * 3600 * per_second
        merging = f", and {merged / 1e9:,.0f} GB are read and written once more to merge" if n > 1 else ""
        lines.append(
            f"  {CORPUS_HOURS} h on {n} GPU{'s'[: n > 1]} with {n_cores} cores each: {seconds / 60:.1f} min and "
            f"{once:.0f} s done once; {binds} binds{merging}"
        )
    return lines


def report(found: dict[str, Any]) -> list[str]:
    """Return the whole report from the content of the JSON."""
    about = found["about"]
    lines = [
        f"{about['device']}, {about['cores']} cores, torch {about['torch']}, transformers {about['transformers']}",
        f"square bfloat16 product: {about['peak'] / 1e12:,.2f} TFLOP/s before, "
        f"{about.get('peak_after', 0) / 1e12:,.2f} after",
        FORMAT.format(*COLUMNS),
    ]
    for model in found["models"].values():
        lines += table(model, about["peak"])
    for model in found["models"].values():
        lines += scale(model, about["cores"])
        lines += [f"  {item['name']}: {item['notes'][-1]}" for item in model["items"] if item.get("notes")]
    for kind, differences in found["scores"].items():
        each = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
        lines.append(f"largest difference of a CCC from the CPU's, {kind}: {each}")
    for word in ("failed", "left_out"):
        if found.get(word):
            lines.append(f"{word.replace('_', ' ')}: {', '.join(found[word])}")
    return lines
