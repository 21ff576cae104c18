"""Draw result.png, the picture at the top of lab 3: python solutions/lab3_uncertainty/make_picture.py (a minute)."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from torch.nn import functional as F

from coursekit import data
from coursekit import device as devices
from coursekit.bayes.dropout import MCDropout
from coursekit.nets import LeNet
from coursekit.plots import detection, images, style
from coursekit.train import train
from coursekit.uncertainty import failure, ood

devices.setup(seed=0)
style.use()
x_all, y_all = data.mnist("train", normalize=True)
x, y = x_all[:8500], y_all[:8500]
x_test, y_test = data.mnist("test", normalize=True)
letters, _ = data.glyphs(250, normalize=True)
net, shuffle = LeNet(), devices.generator(0)
for epochs, lr in ((4, 2e-3), (3, 5e-4)):
    train(net, F.cross_entropy, x, y, epochs=epochs, batch_size=100, lr=lr, generator=shuffle, progress=False)
net.eval()
with torch.no_grad():
    probs = net(x_test).softmax(1)
correct = probs.argmax(1) == y_test
mc = MCDropout(net).predict(x_test, samples=50, generator=devices.generator(1))
nearest = ood.fit_mahalanobis(net, x, y)

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8))
worst = mc.entropy.argsort(descending=True)[:12]
captions = [f"{int(y_test[n])} → {int(mc.labels[n])}" for n in worst]
images.image_grid(x_test[worst], captions=captions, wrong=mc.labels[worst] != y_test[worst], columns=4, ax=left)
left.set_title("least certain: label → prediction")

confidnet = failure.fit_confidnet(net, x_all, y_all, epochs=12, generator=devices.generator(0), progress=False)
scores = {"MCP": probs.amax(1), "ConfidNet": confidnet(x_test)}
scores |= {n: s for n, s in failure.confidence_scores(mc).items() if n != "MCP"}
for name, score in scores.items():
    metrics = failure.failure_metrics(score, correct).detection
    detection.precision_recall(metrics, negatives=True, label=name, ax=middle)
middle.set_title(f"finding {int((~correct).sum())} misread digits among {len(y_test)}")
middle.get_legend().set_loc("upper right")

held = MCDropout(net).predict(x_all[8500:], samples=30, generator=devices.generator(0))
unsure, too_far = held.confidence.quantile(0.10), (-nearest(x_all[8500:])).quantile(0.96)
for pictures, marker, color, label in ((x_test[:1000], "o", "blue", "digits"), (letters, "x", "orange", "letters")):
    p = MCDropout(net).predict(pictures, samples=30, generator=devices.generator(0))
    right.plot(p.confidence, -nearest(pictures), marker, ms=3.5, alpha=0.7, color=style.COLORS[color], label=label)
right.axhline(float(too_far), ls="--", lw=1, color=style.COLORS["black"])
right.vlines(float(unsure), 15, float(too_far), ls="--", lw=1, color=style.COLORS["black"])
for place, text in (((0.45, 520), "reject"), ((0.65, 60), "hand over"), ((0.95, 20), "accept")):
    right.annotate(text, place, ha="center", weight="bold")
right.set(
    yscale="log", ylim=(15, 700), xlabel="largest mean probability", ylabel="squared distance to the training digits"
)
right.set_title("accept, hand over or reject")
right.legend(loc="lower left", fontsize="small", markerscale=1.5)
figure.savefig(Path(__file__).with_name("result.png"), dpi=80, metadata={"Software": None})
