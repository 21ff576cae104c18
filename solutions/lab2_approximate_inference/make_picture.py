"""Draw result.png, the picture at the top of lab 2: python solutions/lab2_approximate_inference/make_picture.py."""

import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

from coursekit import bayes
from coursekit import device as devices
from coursekit.data import toy
from coursekit.nets import MLP
from coursekit.plots import style
from coursekit.train import supervised, train

STEPS, PRIOR_STD = 160, 3.0

devices.setup(seed=0)
torch.set_default_dtype(torch.float64)
style.use()
x, y = toy.moons(200, noise_std=0.1, generator=devices.generator(0))
decay = 1 / (len(x) * PRIOR_STD**2)


def loss(outputs, labels):
    return F.binary_cross_entropy_with_logits(outputs[:, 0], labels.to(outputs))


def network(dropout=0.0):
    return MLP(2, 1, width=50, depth=1, dropout=dropout)


torch.manual_seed(0)
map_mlp, dropout_mlp = network(), network(0.2)
train(map_mlp, supervised(loss), x, y, epochs=1500, learning_rate=1e-2, weight_decay=decay, progress=False)
train(dropout_mlp, supervised(loss), x, y, epochs=1500, learning_rate=1e-2, progress=False)
laplace = bayes.fit_laplace(map_mlp, x, y, weights="all", prior_precision=PRIOR_STD**-2)

layers = [bayes.LinearVariational(n, m, prior_std=PRIOR_STD) for n, m in ((2, 50), (50, 1))]
variational = bayes.VariationalNetwork(nn.Sequential(layers[0], nn.ReLU(), layers[1]))
train(variational, variational.negative_elbo(data_size=len(x)), x, y, epochs=3000, learning_rate=1e-2, progress=False)

options = {"members": 5, "epochs": 800, "batch_size": None, "learning_rate": 1e-2, "weight_decay": decay}
ensemble = bayes.train_ensemble(network, x, y, generator=devices.generator(0), progress=False, **options)

axis = torch.linspace(-6, 7, STEPS), torch.linspace(-5.5, 6, STEPS)
points = torch.stack(torch.meshgrid(*axis, indexing="xy"), -1).reshape(-1, 2)
draws = {"samples": 100, "generator": devices.generator(0)}
predictives = {
    "MAP": bayes.Ensemble([map_mlp]).predict(points),
    "Laplace": laplace.predict(points, link="mc", **draws),
    "variational": variational.predict(points, **draws),
    "MC Dropout": bayes.MCDropout(dropout_mlp).predict(points, **draws),
    "ensemble of 5": ensemble.predict(points),
}
figure, axes = plt.subplots(2, 5, figsize=(9.6, 4.0), sharex=True, sharey=True)
for (name, predictive), column in zip(predictives.items(), axes.T, strict=True):
    for ax, values in zip(column, (predictive.entropy, predictive.mutual_information), strict=True):
        surface = values.reshape(STEPS, STEPS)
        image = ax.pcolormesh(*axis, surface, vmin=0, vmax=math.log(2), shading="gouraud")
        ax.scatter(*x.T, s=2, c=[style.COLORS["sky" if label == 0 else "orange"] for label in y.tolist()])
        ax.set(xticks=[], yticks=[])
    column[0].set(title=name)
axes[0, 0].set(ylabel="entropy")
axes[1, 0].set(ylabel="mutual information")
figure.colorbar(image, ax=axes, label="nats", shrink=0.8)
figure.savefig(Path(__file__).with_name("result.png"), dpi=90, metadata={"Software": None})
