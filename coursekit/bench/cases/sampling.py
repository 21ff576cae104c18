"""MC Dropout beside torch-uncertainty, ensembles beside a plain loop."""

import torch
import torch.nn.functional as F
from torch import nn

from coursekit.bayes.dropout import MCDropout
from coursekit.bayes.ensemble import train_ensemble
from coursekit.bench.case import Agreement, Case
from coursekit.bench.cases.material import images, lenet, mlp

_SAMPLES = 100


def dropout_lenet(device: torch.device, dtype: torch.dtype) -> Case:
    return _dropout(lenet(device, dtype), *images("test", 1000, device, dtype))


def dropout_mlp(device: torch.device, dtype: torch.dtype) -> Case:
    return _dropout(mlp(device, dtype, dropout=0.2), *images("train", 10000, device, dtype))


def ensemble(device: torch.device, dtype: torch.dtype) -> Case:
    x, y = images("train", 10000, device, dtype)

    def build() -> nn.Module:
        layers = nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
        return nn.Sequential(nn.Flatten(), *layers).to(device, dtype)

    def ours():
        generator = torch.Generator().manual_seed(0)
        return train_ensemble(build, x, y, members=5, epochs=1, batch_size=128, generator=generator, progress=False)

    def plain():
        members = []
        for seed in range(5):
            torch.manual_seed(seed)
            model = build()
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
            model.train()
            for rows in torch.randperm(len(x)).split(128):
                optimizer.zero_grad()
                F.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
            members.append(model.eval())
        return members

    def compare(peer, result, members):
        with torch.no_grad():
            theirs = torch.stack([m(x).softmax(1) for m in members])
        mine, other = (-probs[:, torch.arange(len(y)), y].log().mean(1) for probs in (result.predict(x).probs, theirs))
        spread = (mine.var() / 5 + other.var() / 5).sqrt()  # different seeds: equal in the mean over members
        return Agreement(
            "mean losses of the members differ by", float((mine.mean() - other.mean()).abs()), 5 * float(spread)
        )

    return Case(ours, {"a plain loop": lambda: plain}, compare)


def _dropout(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Case:
    wrapped = MCDropout(model)

    def prepare():
        from torch_uncertainty.methods import mc_dropout

        # The loop: on its default, on_batch=True, 100 copies of the input do not fit beside their activations.
        peer = mc_dropout(model, _SAMPLES, on_batch=False).eval()

        def call():
            with torch.no_grad():
                return peer(x).softmax(1).unflatten(0, (_SAMPLES, len(x)))

        return call

    def compare(peer, ours, theirs):
        # Both are random: the means over 100 samples agree within five standard errors of their difference.
        error = (ours.probs.var(0) + theirs.var(0)).div_(_SAMPLES).sqrt_().clamp_min_(1e-4)
        difference = (ours.mean - theirs.mean(0)).abs() / error
        share = float((difference > 5).double().mean())
        return Agreement("share of probabilities more than 5 standard errors apart", share, 1e-3)

    def ours():
        return wrapped.predict(x, samples=_SAMPLES)

    return Case(ours, {"torch-uncertainty": prepare}, compare, note={"torch-uncertainty": "on_batch=False"})
