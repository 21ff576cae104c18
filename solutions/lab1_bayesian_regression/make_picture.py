"""Draw result.png, the picture at the top of lab 1: python solutions/lab1_bayesian_regression/make_picture.py."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch

from coursekit import device as devices
from coursekit.bayes import features
from coursekit.bayes.linear import fit_linear
from coursekit.data import toy
from coursekit.plots import regression, style

style.use()
x, t = toy.sinus(50, generator=devices.generator(1))
grid = torch.linspace(-1, 2, 601, dtype=torch.float64)
maps = {
    "linear": features.linear(),
    "polynomial, degree 9": features.polynomial(9),
    "Gaussian bumps": features.gaussian(torch.arange(9, dtype=torch.float64) / 9, 1 / 9),
}
fits = {name: fit_linear(phi, x, t, alpha=0.05, beta=25.0).predict(grid) for name, phi in maps.items()}

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
regression.predictive_band(grid, fits["Gaussian bumps"], data=(x, t), truth=toy.sinus_truth(grid), stds=(1, 2), ax=left)
left.set(ylim=(-2.2, 3.6), title="Gaussian bumps: data, mean, ± 1, 2 std")
for name, fit in fits.items():
    right.semilogy(grid, fit.variance, label=name)
right.axhline(1 / 25, ls=":", color=style.COLORS["black"], label="noise")
right.axvspan(float(x.min()), float(x.max()), color=style.COLORS["grey"], alpha=0.18, lw=0)
right.set(
    ylim=(0.03, 100), xlabel="input x", ylabel="variance of t", title="what each model says of x it has never seen"
)
right.legend(fontsize="small", loc="upper center", framealpha=1)
figure.savefig(Path(__file__).with_name("result.png"), dpi=90, metadata={"Software": None})
