"""Mixes are fitted in groups, which hold every mix once."""

from __future__ import annotations

import pytest

from layerprobe.probe.sweep.mix_probes import DEFAULT_MIXES, MIXES, mix_groups


@pytest.mark.parametrize("mixes", [(), DEFAULT_MIXES, tuple(MIXES), ("cumulative_mix",)])
def test_groups_hold_every_requested_mix_once(mixes):
    groups = mix_groups(mixes)
    assert all(groups)
    assert sorted(name for group in groups for name in group) == sorted(mixes)
