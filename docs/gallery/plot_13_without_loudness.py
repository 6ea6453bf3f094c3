"""
Without loudness
================

Is arousal in a layer only loudness? The concept is erased from the layer by LEACE (Belrose et al., 2023), the probe
is fitted again, and the same is done with as many random directions. Arousal of this corpus was planted in loudness,
pitch and speech rate together, so the truth is known: without the three nothing of it may be left.
"""

import matplotlib.pyplot as plt
from demo_speech import demo_speech

import layerprobe as lp

# %%
# The values of concepts are read from acoustic features, from the transcripts, and from columns of the manifest.
manifest = demo_speech()
cache = lp.extract(manifest, lp.load_encoder("embedded"), "work/embedded.zarr")
acoustic = lp.extract(manifest, lp.load_encoder("acoustic"), "work/acoustic.zarr")
concepts = ["f0", "loudness", "loudness+f0+speech_rate"]  # + joins those that are erased together

# %%
# The eraser sees the training speakers alone, as the probe does. Nothing of a concept may be left for a linear probe.
plan = lp.plan_sweep(manifest, targets=("arousal",), permutations=19, weighted_sum_seeds=0)
run = lp.sweep([cache], manifest, plan, without=concepts, concepts=[acoustic], out="work/runs/without", jobs=1)
table = lp.study(run).erasure
print(table[["concept", "layer", "plain", "erased", "random", "concept_r_before", "concept_r"]].round(2).to_string())

# %%
# Random directions (grey) cost nearly nothing; a filled mark removes significantly more than they do.
lp.erasure(run)
plt.show()

# %%
# With loudness goes most of arousal, because what was planted together varies together; F0 is mostly that of voices.
print("Answer: arousal at its best layer, as it is and without each concept:")
for concept, part in table.groupby("concept", sort=False):
    row = part.loc[part["plain"].idxmax()]
    print(
        f"layer {row['layer']}: {row['plain']:.2f}, without {concept} {row['erased']:.2f}, random {row['random']:.2f}"
    )
