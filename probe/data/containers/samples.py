"""Whether the bytes of samples that a header states are there, and what follows them."""

from __future__ import annotations

from layerprobe.probe.data.containers.chunks import SampleBytes, find_samples
from layerprobe.probe.data.containers.length import TOLERANCE_SECONDS, Bytes, StreamLength, after_tag
from layerprobe.probe.problem import Problem

# Numbers that programs write before they know the length and leave there in a pipe: sox, mplayer, espeak and festival
# 0x7FFFF000 and near, ffmpeg 0xFFFFFFFF, arecord 0x7FFFFFFF and 0x80000000. No file is cut to just so much less.
UNSTATED_32 = (range(0x7FFF0000, 0x80010000), range(0xFFFF0000, 0x100000000))
OF_THEIR_OWN = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"caff", b".snd", b"NIST", b"data")  # no metadata
READ_TO_THE_END = (b"riff", b"NIST", b".snd", b"dns.")  # whose samples libsndfile reads to the end of the file
UNSTATED_64 = 2**62  # bytes, and any larger number


def samples_length(data: Bytes) -> StreamLength | None:
    """Compare the bytes of samples that a header states with those that are there.

    Args:
        data: the whole file

    Returns:
        the length, with a header that states the true one where it must differ; None for another container
    """
    samples = find_samples(data)
    if samples is None:
        return None
    present = max(0, len(data) - samples.begin)
    stated = samples.stated
    if _is_unstated(samples, present) and not (stated == 0 and _only_chunks(data, samples)):
        return _unstated(data, samples, present)
    slight = max(samples.block, TOLERANCE_SECONDS * samples.per_second)
    if stated > present:
        text = f"{present} of {stated} bytes of samples are there"
        if stated - present > slight:
            return StreamLength(fault=Problem("LP210", f"truncated: {text}"))
        return _corrected(data, samples, present, f"its header states too much: {text}, which were read")
    extra, end = present - stated, samples.begin + stated
    limit = end if extra and data[:4] in READ_TO_THE_END else 0
    if extra < samples.block or _only_chunks(data, samples):
        return StreamLength(end=limit)
    rest = data[end:]
    if rest.count(0) == extra:
        return StreamLength(end=limit, remark=f"{extra} bytes of zeros follow its samples, which were not read")
    if rest[:4] in OF_THEIR_OWN:
        text = f"a second {rest[:4].decode()} follows its samples at byte {end}; split it into two"
        return StreamLength(fault=Problem("LP211", text))
    text = f"its header states {stated} bytes of samples, and {extra} more follow that are no metadata"
    if extra <= slight:
        return _corrected(data, samples, present, f"{text}; these were read, too")
    return StreamLength(fault=Problem("LP212", f"{text}. Correct its header, or cut what follows"))


def _is_unstated(samples: SampleBytes, present: int) -> bool:
    """Return whether a header's number is one that stands for an unknown length."""
    stated = samples.stated
    if stated == 0:
        return present >= samples.block
    known = stated >= UNSTATED_64 if samples.wide else False
    return stated > present and (known or any(stated in numbers for numbers in UNSTATED_32))


def _unstated(data: Bytes, samples: SampleBytes, present: int) -> StreamLength:
    usual = samples.next_chunk is None or samples.wide  # a format in which a length may be left out
    remark = f"its header states no length ({samples.stated:#x}); all {present} bytes that follow were read"
    corrected = _corrected(data, samples, present, "" if usual and samples.stated else remark)
    return StreamLength(stated=False, remark=corrected.remark, header=corrected.header, skipped=corrected.skipped)


def _corrected(data: Bytes, samples: SampleBytes, present: int, remark: str) -> StreamLength:
    whole = present - present % samples.block
    header = samples.with_length(data[: samples.begin], whole)
    return StreamLength(remark=remark, header=header, skipped=samples.begin)


def _only_chunks(data: Bytes, samples: SampleBytes) -> bool:
    """Return whether nothing but metadata follows the samples, with or without a byte that makes their number even."""
    end = samples.begin + samples.stated
    return any(_chunks_to_end(data, at, samples) for at in {end, end + end % 2})


def _chunks_to_end(data: Bytes, at: int, samples: SampleBytes) -> bool:
    while at < len(data):
        behind = after_tag(data, at)
        if not behind and samples.next_chunk is not None and data[at : at + 4] not in OF_THEIR_OWN:
            behind = samples.next_chunk(data, at)
        if not behind:
            return len(data) - at < samples.block
        at = behind
    return True
