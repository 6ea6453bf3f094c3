"""Speech from espeak-ng: voiced, with the requested prosody, and equal in every process."""

from __future__ import annotations

import numpy as np
import pytest

import layerprobe.probe.synthesis.espeak
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.synthesis.espeak import Utterance, synthesise

pytest.importorskip("espeakng_loader")
SENTENCE = "everyone agreed that the garden was lovely"


def test_the_same_list_gives_the_same_audio_each_time():
    utterances = [Utterance(SENTENCE, "en-us+m1"), Utterance(SENTENCE, "en-us+f4", pitch=60), Utterance("no", "en")]
    first, second = list(synthesise(utterances)), list(synthesise(utterances))
    for (a, rate), (b, _) in zip(first, second, strict=True):
        assert a.dtype == np.int16
        assert rate == 22_050
        assert np.array_equal(a, b)


def test_blocks_are_equal_on_any_number_of_cores(monkeypatch):
    """Breath is noise that depends on all earlier utterances of its process; each block has a new process."""
    utterances = [Utterance(SENTENCE, voice) for voice in ("en-us+m1", "en-us+f4", "en-us+anikaRobot", "en-us+m2")]
    monkeypatch.setattr(layerprobe.probe.synthesis.espeak, "BLOCK", 2)
    results = []
    for n in (1, 3):
        monkeypatch.setattr(layerprobe.probe.synthesis.espeak, "cores", lambda n=n: n)
        results.append([samples for samples, _ in synthesise(utterances)])
    assert len(results[0]) == 4
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))
    separate = [samples for k in (0, 2) for samples, _ in synthesise(utterances[k : k + 2])]
    assert all(np.array_equal(a, b) for a, b in zip(results[0], separate, strict=True))


def test_settings_change_the_audio():
    plain, fast, loud, high = (
        samples.astype(float)
        for samples, _ in synthesise(
            [
                Utterance(SENTENCE, "en-us+m1"),
                Utterance(SENTENCE, "en-us+m1", rate=250),
                Utterance(SENTENCE, "en-us+m1", volume=150),
                Utterance(SENTENCE, "en-us+m1", pitch=90),
            ]
        )
    )
    assert len(fast) < 0.85 * len(plain)
    assert np.std(loud) > 1.2 * np.std(plain)
    assert pitch_of(high) > 1.3 * pitch_of(plain)


def pitch_of(samples, rate=22_050):
    """The strongest lag between 60 and 400 Hz over the middle of the utterance."""
    middle = samples[len(samples) // 3 :][:8192]
    correlation = np.fft.irfft(np.abs(np.fft.rfft(middle - middle.mean(), 16384)) ** 2)
    lags = np.arange(rate // 400, rate // 60)
    return rate / lags[correlation[lags].argmax()]


def test_a_voice_that_crashes_espeak_is_named():
    text = (
        "As you read my letter, somewhere -- perhaps not far from you --someone is inflicting pain on an innocent "
        "animal ... an animal like Astro."
    )
    deadly = Utterance(text, "en-us+Demonic", rate=173, pitch=21, pitch_range=90, volume=138)
    with pytest.raises(InputError, match=r"crashed on one of the 32 utterances after the first 0.*en-us\+Demonic"):
        list(synthesise([deadly]))


def test_an_unknown_voice_is_refused_and_not_spoken_in_another():
    with pytest.raises(InputError, match=r"^espeak-ng has no voice 'xx-none\+m1'\. Write .*en-us\+m3\. \[LP761\]$"):
        list(synthesise([Utterance("hello", "xx-none+m1")]))
