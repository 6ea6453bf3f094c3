"""
Several processes on one machine
================================

How do I extract with several processes, and are the embeddings the same? Each process fills a shard of the manifest
without waiting for another, as a job of a cluster does, and ``cache merge`` joins the shards. On one machine
``--processes 2`` does all of it, and ``--dask ADDRESS`` on a Dask cluster.
"""

import sys
from subprocess import Popen, run

import matplotlib.pyplot as plt
from demo_speech import demo_speech

import layerprobe as lp

# %%
# Two shards at the same time, as jobs on two machines with one file system fill them (:doc:`/scaling-out`).
manifest = demo_speech()
layerprobe = [sys.executable, "-m", "layerprobe"]
extract = [*layerprobe, "extract", str(manifest.path), "--encoder", "embedded"]
shards = [Popen([*extract, "--out", "work/shards.zarr", "--shard", f"{k}/2", "--jobs", "1"]) for k in (1, 2)]
codes = [shard.wait() for shard in shards]
done = run([*layerprobe, "cache", "merge", "work/shards.zarr", str(manifest.path)], check=True)

# %%
# The same by one process, for comparison.
single = lp.extract(manifest, lp.load_encoder("embedded"), "work/embedded.zarr")
merged = lp.open_cache("work/shards.zarr")
same = all((single.read_layer(layer) == merged.read_layer(layer)).all() for layer in single.layers)

# %%
# From the merged cache the study continues as from any other. A sweep, too, runs on several cores by itself.
plan = lp.plan_sweep(manifest, targets=("arousal",), controls=(), weighted_sum_seeds=0)
plt.figure(lp.curves(lp.sweep([merged], manifest, plan, out="work/runs/shards")))
plt.show()
print(f"Answer: two processes ended with {codes}; their {len(merged)} utterances are")
print("the same as those of one process, bit for bit." if same else "not the same as those of one process.")
