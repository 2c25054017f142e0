"""Train the small model that kvplan ships, from three seeds, and write its weights.

    python benchmarks/train_recall.py            # kvplan/compress/weights/recall-{0,1,2}.safetensors
    python benchmarks/train_recall.py 3 /tmp     # another seed, elsewhere

One core, about 75 s a seed. The same seed gives the same weights on the same release of torch and kind of processor.
"""

import sys
from pathlib import Path

import torch

from kvplan.compress import recall
from kvplan.compress.models import weights_of

WEIGHTS = Path(__file__).parent.parent / "kvplan" / "compress" / "weights"


def main(seeds: list[int], folder: Path) -> None:
    """Train each seed and write its weights."""
    torch.set_num_threads(1)
    for seed in seeds:
        model, told = recall.train(seed, say=lambda line: print(line, flush=True))
        (folder / f"recall-{seed}.safetensors").write_bytes(weights_of(model))
        print(told)


if __name__ == "__main__":
    words = sys.argv[1:]
    main([int(words[0])] if words else [0, 1, 2], Path(words[1]) if len(words) > 1 else WEIGHTS)
