"""Channels become one, levels are checked, and silence at the ends is measured or trimmed."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import soxr
from helpers.voices import voice

from layerprobe.probe.data.audio import InvalidAudioError, read_audio_file, read_recording
from layerprobe.probe.data.channels import channel_energy
from layerprobe.probe.data.reading import ReadingOptions, make_recording
from layerprobe.probe.data.remarks import CANCELS_IN_PART, LONG_SILENCE, SILENT_CHANNEL, TRIMMED, remark_sentences
from layerprobe.probe.data.silence import SilentEnds, silent_ends
from layerprobe.probe.exceptions import InputError

RATE = 16_000
STEP = np.float32(1 / 32_768)  # of 16-bit samples
LOW, HIGH = voice(2.0, pitch=110), voice(2.0, pitch=170, seed=1)
CANCELS = (
    r"its \d channels cancel in their mean \(opposite phase\), in {} % of the recording; read one with --channel "
    "first or --channel loudest, or accept the mean with --channel mean"
)


def noise(rng, *, decibels):
    return (10 ** (decibels / 20) * rng.normal(size=len(LOW))).astype(np.float32)


def recording(*channels, rate=RATE, channel=None, trim=False):
    samples = np.stack(channels, axis=1).astype(np.float32)
    return make_recording(samples, rate, sampling_rate=rate, reading=ReadingOptions(channel, trim))


def remarks_on(*channels, **options):
    return {remark.name: remark.value for remark in recording(*channels, **options).remarks}


def refused(*channels, **options):
    with pytest.raises(InvalidAudioError) as caught:
        recording(*channels, **options)
    return caught.value.message


@pytest.mark.parametrize("options", [{}, {"channel": "mean"}, {"channel": "first"}, {"channel": "loudest"}])
def test_one_channel_is_read_as_it_is(options):
    np.testing.assert_array_equal(recording(LOW, **options).waveform, LOW)


@pytest.mark.parametrize(
    "channels",
    [
        (LOW, -LOW),
        (LOW, -0.9 * LOW),  # polarity and a slightly different gain
        (LOW, -0.7 * LOW),
        (LOW, -0.5 * LOW, -0.5 * LOW),
        (LOW, LOW, -LOW, -LOW),
        (0.2 + LOW, 0.2 - LOW),  # the mean is the constant
    ],
)
def test_channels_of_opposite_phase_are_refused_by_that_reason(channels, rng):
    with pytest.raises(InvalidAudioError, match=CANCELS.format(100)):
        recording(*channels)
    noisy = [channel + noise(rng, decibels=-60) for channel in channels]
    with pytest.raises(InvalidAudioError, match=CANCELS.format(100)):
        recording(*noisy)


def test_a_part_of_opposite_phase_is_refused_if_it_holds_much_of_the_energy():
    turned = np.concatenate([LOW[:RATE], -LOW[RATE:]])  # by hand: the second of two seconds cancels
    percent = 100 * float(np.var(LOW[RATE:]) / (np.var(LOW[:RATE]) + np.var(LOW[RATE:])))
    with pytest.raises(InvalidAudioError, match=CANCELS.format(f"{percent:.0f}")):
        recording(LOW, turned)


def test_what_the_mean_keeps_is_the_energy_of_the_sum_in_each_second():
    assert channel_energy(np.stack([LOW, LOW], axis=1), RATE).kept == 1
    assert channel_energy(np.stack([LOW, 0 * LOW, 0 * LOW], axis=1), RATE).kept == pytest.approx(1)
    assert channel_energy(np.stack([LOW, HIGH], axis=1), RATE).kept > 0.97  # another voice
    # by hand: (1 - g)^2 / (1 + g^2)
    found = channel_energy(np.stack([LOW, -0.4 * LOW], axis=1), RATE)
    assert found.kept == pytest.approx(0.6**2 / 1.16, rel=1e-5)
    assert found.cancelled == 0


def test_channels_that_cancel_in_part_are_averaged_with_a_remark():
    np.testing.assert_array_equal(recording(LOW, -0.4 * LOW).waveform, (LOW + np.float32(-0.4) * LOW) / 2)
    assert remarks_on(LOW, -0.4 * LOW) == {CANCELS_IN_PART: pytest.approx(0.6**2 / 1.16, rel=1e-5)}
    assert remarks_on(LOW, HIGH) == remarks_on(LOW, LOW) == {}


@pytest.mark.parametrize("silent", [0 * LOW, 0 * LOW + 0.1])
def test_a_silent_channel_next_to_another_is_a_remark(silent):
    assert remarks_on(LOW, silent) == {SILENT_CHANNEL: 1}
    np.testing.assert_allclose(recording(LOW, silent).waveform, (LOW + silent) / 2, atol=1e-7)
    np.testing.assert_array_equal(recording(silent, LOW, channel="loudest").waveform, LOW)
    assert refused(silent, LOW, channel="first") == "silent: every sample is the same"


def test_a_named_channel_is_read_whatever_cancels():
    np.testing.assert_array_equal(recording(LOW, -LOW, channel="first").waveform, LOW)
    np.testing.assert_array_equal(recording(0.3 * LOW, -LOW, 0.5 * HIGH, channel="loudest").waveform, -LOW)
    np.testing.assert_array_equal(recording(LOW, -LOW, channel="loudest").waveform, LOW)  # the first of equal ones
    np.testing.assert_array_equal(recording(0.9 + 0.1 * LOW, LOW, channel="loudest").waveform, LOW)  # constants aside
    mean = recording(LOW, -0.9 * LOW, channel="mean").waveform
    np.testing.assert_array_equal(mean, np.stack([LOW, np.float32(-0.9) * LOW], axis=1).mean(axis=1))
    assert refused(LOW, -LOW, channel="mean").startswith("silent: the mean of its channels leaves nothing; read one")


def test_faults_of_channels_that_are_not_read_do_not_matter():
    broken, loud = LOW.copy(), 9 * LOW / np.abs(LOW).max()
    broken[5] = np.nan
    np.testing.assert_array_equal(recording(LOW, broken, loud, channel="first").waveform, LOW)
    assert refused(LOW, broken, channel="loudest") == "holds samples that are not finite"
    assert refused(LOW, broken) == "holds samples that are not finite"


def test_an_unknown_channel_is_an_error_of_the_user():
    with pytest.raises(InputError, match=r"channel 'left' is unknown; choose first, loudest or mean\."):
        ReadingOptions("left")


@pytest.mark.parametrize(
    ("peak", "reason"),
    [
        (
            20_000,
            "values reach 20,000 times full scale (1.0); divide the samples by 32768, the scale of 16-bit integers",
        ),
        (
            8e6,
            "8,000,000 times full scale (1.0); divide the samples by 8388608, the scale of 24-bit integers",
        ),
        (2.0**31, "divide the samples by 2147483648, the scale of 32-bit integers"),
        (2.5, "values reach 2.5 times full scale (1.0); lower their level by at least 8.0 dB"),
        (100, "values reach 100 times full scale (1.0); lower their level by at least 40.0 dB"),
        (1e12, "lower their level by at least 240.0 dB"),
    ],
)
def test_values_beyond_full_scale_are_refused_with_the_factor(peak, reason):
    for sign in (1, -1):
        assert reason in refused(sign * LOW / np.abs(LOW).max() * np.float32(peak))


@pytest.mark.parametrize("peak", [1.0, 1.5, 2.0])
def test_a_mild_overshoot_is_read_as_it_is(peak):
    loud = LOW / np.abs(LOW).max() * np.float32(peak)
    np.testing.assert_array_equal(recording(loud).waveform, loud)


@pytest.mark.parametrize("bits", ["PCM_16", "PCM_24", "PCM_32", "PCM_U8"])
def test_integers_at_full_scale_are_read(tmp_path, bits):
    soundfile.write(tmp_path / "a.wav", np.sign(LOW), RATE, subtype=bits)
    assert np.abs(read_audio_file(tmp_path / "a.wav", sampling_rate=RATE)).max() == pytest.approx(1, abs=0.01)


def test_a_constant_with_rounding_is_silent(rng):
    dither = rng.integers(-1, 2, RATE).astype(np.float32) * STEP
    reason = "silent: no sample is further from a constant than -90 dB of full scale, a step of 16 bits"
    assert refused(np.full(RATE, 0.25)) == "silent: every sample is the same"
    assert refused(np.full(RATE, 0.1), np.full(RATE, 0.3)) == "silent: every sample is the same"
    assert refused(dither) == refused(dither + np.float32(0.1)) == refused(dither, -dither) == reason
    assert refused(1e-6 * LOW) == reason
    assert recording(8 * dither).remarks == ()  # what a quiet microphone records


@pytest.mark.parametrize("around", [0.0, 0.05])
@pytest.mark.parametrize("dithered", [False, True])
def test_silence_at_the_ends_is_counted_to_the_sample(around, dithered, rng):
    before, after = (np.full(n, around, dtype=np.float32) for n in (RATE // 2, 3 * RATE))
    if dithered:
        before, after = (end + rng.integers(-1, 2, len(end)).astype(np.float32) * STEP for end in (before, after))
    waveform = np.float32(around) + np.where(np.abs(LOW) < 4 * STEP, 4 * STEP, LOW)  # every sample recordings
    waveform = np.concatenate([before, waveform, after])
    assert silent_ends(waveform, RATE) == SilentEnds(len(before), len(after), len(waveform))


def test_a_waveform_that_rests_for_less_than_ten_milliseconds_has_no_silent_end():
    rest = np.zeros(159, dtype=np.float32)
    assert silent_ends(np.concatenate([rest, LOW, rest]), RATE) == SilentEnds(0, 0, len(LOW) + 2 * 159)
    assert silent_ends(np.tile(np.float32([0.5, -0.5]), 8_000), RATE) == SilentEnds(0, 0, 16_000)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(0, 20, 20), (1.5, 0, 1.5), (0.3, 0.3, 0.3), (0.2, 0.1, None), (0, 0, None)],  # of 2 s, or a fifth of the whole
)
def test_long_silence_is_a_remark(before, after, expected):
    zeros = [np.zeros(int(seconds * RATE)) for seconds in (before, after)]
    expected = {} if expected is None else {LONG_SILENCE: expected}
    assert remarks_on(np.concatenate([zeros[0], LOW, zeros[1]])) == expected


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
def test_trimming_is_cutting_by_hand_before_resampling(tmp_path, rate):
    waveform = np.stack([voice(1.0, rate=rate), voice(1.0, rate=rate, pitch=170)], axis=1)
    whole = np.concatenate([np.zeros((rate + 7, 2)), waveform, np.zeros((3 * rate + 1, 2))])
    soundfile.write(tmp_path / "whole.flac", whole, rate)
    soundfile.write(tmp_path / "cut.flac", waveform, rate)
    trim = ReadingOptions(trim_silence=True)
    trimmed = read_recording(tmp_path / "whole.flac", sampling_rate=RATE, reading=trim)
    np.testing.assert_array_equal(trimmed.waveform, read_audio_file(tmp_path / "cut.flac", sampling_rate=RATE))
    assert [(r.name, r.value) for r in trimmed.remarks] == [(TRIMMED, pytest.approx(4 + 8 / rate))]
    kept = read_audio_file(tmp_path / "whole.flac", sampling_rate=RATE)
    np.testing.assert_array_equal(
        kept,
        soxr.resample(
            soundfile.read(tmp_path / "whole.flac", dtype="float32")[0].mean(axis=1), rate, RATE, quality="HQ"
        ),
    )
    span = read_audio_file(tmp_path / "whole.flac", sampling_rate=RATE, start=0.5, end=1.5, reading=trim)
    assert len(span) == pytest.approx(RATE / 2, abs=0.02 * RATE)  # of the span, too


def test_trimming_a_trimmed_waveform_changes_nothing():
    once = recording(np.concatenate([np.zeros(RATE), LOW, np.zeros(RATE)]), trim=True).waveform
    twice = recording(once, trim=True)
    np.testing.assert_array_equal(once, LOW)
    np.testing.assert_array_equal(twice.waveform, once)
    assert twice.remarks == ()


def test_sentences_count_utterances_and_name_the_worst():
    zeros = [np.zeros(int(seconds * RATE)) for seconds in (3, 20)]
    recordings = {
        "a": (np.concatenate([LOW, zeros[0]]),), "b": (np.concatenate([zeros[1], LOW]),), "c": (LOW, 0 * LOW),
        "d": (LOW, -0.4 * LOW), "e": (LOW,),
    }  # fmt: skip
    remarks = [(name, remark) for name, channels in recordings.items() for remark in recording(*channels).remarks]
    assert remark_sentences(remarks) == [
        "1 utterance has channels that cancel in part (least kept: 31 % of their energy, d); --channel first or "
        "--channel loudest reads one of them.",
        "2 utterances have long digital silence at an end (longest 20.0 s: b), which counts in the pooling; "
        "--trim-silence leaves it out.",
        "1 utterance has a silent channel, which lowers the level of the mean (first: c); see --channel loudest.",
    ]


def test_options_are_found_again_in_a_plan():
    for reading in (ReadingOptions(c, t) for c in (None, "mean", "first", "loudest") for t in (False, True)):
        assert ReadingOptions.from_plan(reading.channels_in_plan, reading.silence_in_plan) == reading
    assert ReadingOptions.from_plan("", "") == ReadingOptions()
    assert (ReadingOptions().channels_in_plan, ReadingOptions().silence_in_plan) == ("mean", "kept")
