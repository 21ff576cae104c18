"""Evidence of one trained network about digits and letters, from which question 4.1 draws: writes pool.npz beside it.

Run from the root of the course: `python solutions/lab3_uncertainty/judge/make_pool.py` (a minute on one core). The
network, the split and the evidence are those of the lab's section 0 with SEED in the place of 0. Labels of letters are -1.
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from coursekit import data
from coursekit import device as devices
from coursekit.bayes.dropout import MCDropout
from coursekit.nets import LeNet
from coursekit.train import supervised, train
from coursekit.uncertainty import ood

SEED = 1
LETTERS = 3000


def make(seed: int = SEED) -> dict[str, np.ndarray]:
    """Arrays "known probs", "digits energy", ... and "digits label"; float32, so that the file stays small."""
    devices.setup(seed=seed)
    x_all, y_all = data.mnist("train", normalize=True)
    x_test, y_test = data.mnist("test", normalize=True)
    cut = round(0.85 * len(x_all))
    x_train, y_train, x_held = x_all[:cut], y_all[:cut], x_all[cut:]
    net, options = LeNet(), {"batch_size": 100, "generator": devices.generator(seed)}
    train(net, supervised(F.cross_entropy), x_train, y_train, epochs=4, learning_rate=2e-3, **options)
    train(net, supervised(F.cross_entropy), x_train, y_train, epochs=3, learning_rate=5e-4, **options)
    net.eval()
    nearest = ood.fit_mahalanobis(net, x_train, y_train)
    letters, _ = data.glyphs(LETTERS, normalize=True, generator=devices.generator(seed + 1))
    known = x_held[torch.arange(len(x_held)) % (len(x_held) // 500) != 0]
    pool = {"digits label": y_test.numpy().astype(np.int8)}
    for place, (name, x) in enumerate({"known": known, "digits": x_test, "letters": letters}.items()):
        mc = MCDropout(net).predict(x, samples=30, generator=devices.generator(seed + place))
        with torch.no_grad():
            energy = torch.cat([net(part).logsumexp(dim=1) for part in x.split(500)])
        evidence = {"probs": mc.mean, "mutual_information": mc.mutual_information}
        evidence |= {"energy": energy, "distance": -nearest(x)}
        pool |= {f"{name} {field}": value.numpy().astype(np.float32) for field, value in evidence.items()}
    return pool


if __name__ == "__main__":
    np.savez_compressed(Path(__file__).with_name("pool.npz"), **make())
