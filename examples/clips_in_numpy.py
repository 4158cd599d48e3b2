"""Batches of clips as NumPy arrays, for JAX or any other library, with exact resumption.

python examples/clips_in_numpy.py CORPUS
"""

from __future__ import annotations

import sys

import numpy as np

import flowprep


def main(folder: str) -> None:
    """Print the batches of an epoch; leave after the second, and continue from its state."""
    source = flowprep.ClipSource(folder, length=5, content=("rgb", "flow"), crop=40, random=True, mirror=True)
    batches = flowprep.ClipBatches(source, batch_size=2, threads=2)
    for number, batch in enumerate(batches):
        speed = np.linalg.norm(batch["flow"], axis=2).mean()  # jax.device_put(batch["flow"]) works as well
        print(batch["rgb"].shape, batch["flow"].shape, f"{speed:.2f} px", batch["id"])
        if number == 1:
            break
    state = batches.state_dict()
    resumed = flowprep.ClipBatches(source, batch_size=2)
    resumed.load_state_dict(state)
    for batch in resumed:
        print("resumed:", batch["id"])


if __name__ == "__main__":
    main(*sys.argv[1:])
