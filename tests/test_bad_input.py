"""Wrong calls, as strangers make them: each ends in an error of coursekit's own, raised where coursekit looked."""

import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import coursekit
from coursekit import bayes, landscape, uncertainty
from coursekit.nets import MLP
from coursekit.predictive import CategoricalPredictive, NormalPredictive
from coursekit.train import supervised, train

HOME = Path(coursekit.__file__).parent
X, Y, T = torch.randn(8, 2, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3, torch.zeros(8)
NET, ONE = MLP(2, 3, width=4), MLP(2, 1, width=4)
PROBS = torch.softmax(X @ torch.ones(2, 3), 1)
REAL = NormalPredictive(torch.zeros(1, 8), torch.ones(1, 8))
VARIATIONAL = nn.Sequential(bayes.LinearVariational(2, 3))
ENTROPY = supervised(F.cross_entropy)


def direction(net=NET):
    return landscape.random_directions(net, count=1)[0]


CALLS = {
    "train: NumPy": lambda: train(NET, ENTROPY, X.numpy(), Y.numpy(), epochs=1),
    "train: float64 data": lambda: train(NET, ENTROPY, X.double(), Y, epochs=1),
    "train: a class for a model": lambda: train(MLP, ENTROPY, X, Y, epochs=1),
    "train: epochs=2.5": lambda: train(NET, ENTROPY, X, Y, epochs=2.5),
    "train: batch_size=0": lambda: train(NET, ENTROPY, X, Y, epochs=1, batch_size=0),
    "train: generator=0": lambda: train(NET, ENTROPY, X, Y, epochs=1, batch_size=3, generator=0),
    "train: learning_rate=-1": lambda: train(NET, ENTROPY, X, Y, epochs=1, learning_rate=-1),
    "train: learning_rate='1'": lambda: train(NET, ENTROPY, X, Y, epochs=1, learning_rate="1"),
    "train: NaN": lambda: train(NET, ENTROPY, X * float("nan"), Y, epochs=1),
    "max_softmax: NumPy": lambda: uncertainty.max_softmax(NET, X.numpy()),
    "max_softmax: float64 data": lambda: uncertainty.max_softmax(NET, X.double()),
    "max_softmax: probabilities first": lambda: uncertainty.max_softmax(PROBS, X),
    "max_softmax: a class": lambda: uncertainty.max_softmax(MLP, X),
    "max_softmax: batch_size=2.5": lambda: uncertainty.max_softmax(NET, X, batch_size=2.5),
    "energy: temperature='1'": lambda: uncertainty.energy(NET, X, temperature="1"),
    "odin: temperature=0": lambda: uncertainty.odin(NET, X, temperature=0),
    "mahalanobis: float labels": lambda: uncertainty.fit_mahalanobis(NET, X, T),
    "reliability: NumPy": lambda: uncertainty.reliability(PROBS.numpy(), Y.numpy()),
    "reliability: bins=15.0": lambda: uncertainty.reliability(PROBS, Y, bins=15.0),
    "reliability: bins=0": lambda: uncertainty.reliability(PROBS, Y, bins=0),
    "crps: classes": lambda: uncertainty.crps(CategoricalPredictive(PROBS[None]), T),
    "confidence_scores: numbers": lambda: uncertainty.confidence_scores(REAL),
    "confidence_scores: probabilities": lambda: uncertainty.confidence_scores(PROBS),
    "coverage: NumPy": lambda: uncertainty.coverage(REAL, T.numpy()),
    "coverage: level=95": lambda: uncertainty.coverage(REAL, T, level=95),
    "fit_linear: alpha='1'": lambda: bayes.fit_linear(None, X, T, alpha="1", beta=1.0),
    "fit_linear: NumPy": lambda: bayes.fit_linear(None, X.numpy(), T.numpy(), alpha=1.0, beta=1.0),
    "fit_linear: features without a call": lambda: bayes.fit_linear(bayes.features.linear, X, T, alpha=1.0, beta=1.0),
    "fit_laplace: NumPy": lambda: bayes.fit_laplace(NET, X.numpy(), Y.numpy()),
    "fit_laplace: a class": lambda: bayes.fit_laplace(MLP, X, Y),
    "fit_laplace: prior_precision='1'": lambda: bayes.fit_laplace(NET, X, Y, prior_precision="1"),
    "fit_laplace: generator=0": lambda: bayes.fit_laplace(NET, X, Y).predict(X, link="mc", generator=0),
    "MCDropout: a class": lambda: bayes.MCDropout(MLP).predict(X),
    "Ensemble: a network": lambda: bayes.Ensemble(NET),
    "Ensemble: one tensor": lambda: bayes.Ensemble(X),
    "train_ensemble: a network": lambda: bayes.train_ensemble(NET, X, Y, progress=False),
    "VariationalNetwork: generator=0": lambda: bayes.VariationalNetwork(VARIATIONAL).predict(X, generator=0),
    "elbo: samples=2.5": lambda: bayes.elbo(VARIATIONAL, X, Y, samples=2.5),
    "negative_elbo: data_size=0": lambda: bayes.negative_elbo(data_size=0),
    "line: Directions": lambda: landscape.line(NET, F.cross_entropy, X, Y, landscape.random_directions(NET)),
    "line: float64 data": lambda: landscape.line(NET, F.cross_entropy, X.double(), Y, direction()),
    "line: NumPy": lambda: landscape.line(NET, F.cross_entropy, X.numpy(), Y.numpy(), direction()),
    "line: a class for the loss": lambda: landscape.line(NET, nn.CrossEntropyLoss, X, Y, direction()),
    "line: steps=5.0": lambda: landscape.line(NET, F.cross_entropy, X, Y, direction(), steps=5.0),
    "eigenvalues: k=0": lambda: landscape.top_eigenvalues(NET, F.cross_entropy, X, Y, k=0),
    "eigenvalues: a class": lambda: landscape.top_eigenvalues(MLP, F.cross_entropy, X, Y),
    "spectrum: samples=2.5": lambda: landscape.spectral_density(NET, F.cross_entropy, X, Y, samples=2.5),
    "spectrum: generator=0": lambda: landscape.spectral_density(NET, F.cross_entropy, X, Y, generator=0),
    "directions: count=2.0": lambda: landscape.random_directions(NET, count=2.0),
    "directions: a class": lambda: landscape.random_directions(MLP),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_is_refused_where_coursekit_looked(name):
    with pytest.raises((TypeError, ValueError, FloatingPointError)) as caught:
        CALLS[name]()
    innermost = traceback.extract_tb(caught.value.__traceback__)[-1].filename
    assert Path(innermost).is_relative_to(HOME), f"{innermost}: {caught.value}"
    assert len(str(caught.value)) < 600


def test_integers_of_numpy_are_integers():
    five = np.int64(5)
    train(MLP(2, 3), ENTROPY, X, Y, epochs=np.int64(1), batch_size=five, progress=False)
    assert bayes.VariationalNetwork(VARIATIONAL).predict(X, samples=five).probs.shape[0] == 5
    assert len(uncertainty.reliability(PROBS, Y, bins=five).counts) == 5
    assert len(landscape.random_directions(NET, count=five)) == 5
    assert len(landscape.line(NET, F.cross_entropy, X, Y, direction(), steps=five).loss) == 5
    uncertainty.max_softmax(NET, X, batch_size=five)
