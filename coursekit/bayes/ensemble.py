r"""Deep ensembles: the same network trained M times from different starts, as one predictive."""

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from tqdm.auto import tqdm

from coursekit._frozen import evaluation_mode
from coursekit._inputs import (
    check_choice,
    check_count,
    check_generator,
    check_input,
    check_positive,
    describe,
    refuse_idle,
)
from coursekit.bayes._likelihood import (
    LIKELIHOODS,
    Likelihood,
    as_columns,
    check_targets,
    log_likelihood,
    predictive_of,
)
from coursekit.bayes._memory import activation_bytes, chunks
from coursekit.device import seeded
from coursekit.predictive import CategoricalPredictive, NormalPredictive
from coursekit.train import supervised, train


class Ensemble:
    r"""M networks as one predictive: the equal mixture of what they predict.

    .. math:: p(y \mid x) = \frac1M \sum_{m=1}^M p(y \mid f_m(x))

    Args:
        models: M >= 1 networks, of any architecture, with outputs of the same size.
        likelihood: "classification" (logits (N, C) or one logit), "regression" (mean (N, 1), noise of standard
            deviation ``noise_std``) or "heteroscedastic" ((N, 2): mean and log variance).

    Raises:
        TypeError, ValueError: no model, something that is no module, an unknown likelihood.

    Source: Lakshminarayanan, Pritzel and Blundell, Simple and scalable predictive uncertainty estimation using deep
    ensembles (2017).

    Example: two constant models, +1 and -1, disagree with variance 1.

    >>> models = [nn.Linear(1, 1, bias=False) for _ in range(2)]
    >>> _ = [nn.init.constant_(model.weight, value) for model, value in zip(models, (1.0, -1.0))]
    >>> p = Ensemble(models, likelihood="regression", noise_std=0.5).predict(torch.ones(1, 1))
    >>> p.mean.item(), p.epistemic.item(), p.aleatoric.item()
    (0.0, 1.0, 0.25)
    """

    def __init__(
        self, models: Iterable[nn.Module], *, likelihood: Likelihood = "classification", noise_std: float = 1.0
    ):
        if isinstance(models, nn.Module) and not isinstance(models, nn.ModuleList):
            raise TypeError(
                f"models must be a list of networks, got one {type(models).__name__}; write Ensemble([model])"
            )
        self.models = list(models)
        if not self.models:
            raise ValueError("an ensemble needs at least one model")
        for model in self.models:
            if not isinstance(model, nn.Module):
                raise TypeError(f"an ensemble is made of torch modules, got {type(model).__name__}")
        check_choice("likelihood", likelihood, LIKELIHOODS)
        self.likelihood = likelihood
        self.noise_std = check_positive("noise_std", noise_std)

    def __len__(self) -> int:
        return len(self.models)

    def predict(
        self, x: Tensor, *, samples: int | None = None, generator: torch.Generator | None = None
    ) -> CategoricalPredictive | NormalPredictive:
        """The predictive at x (N, ...), S = M: each member in evaluation mode, its own mode untouched.

        Args:
            samples: use only the first so many members; ``None``: all.
            generator: nothing is drawn; anything but ``None`` is an error.

        Memory: outputs (M, N, K), and the activations of one chunk of the inputs.
        """
        refuse_idle(generator=generator, why="an ensemble draws nothing")
        samples = len(self.models) if samples is None else samples
        check_count("samples", samples)
        if samples > len(self.models):
            raise ValueError(f"samples={samples}: the ensemble has {len(self.models)} members")
        outputs = []
        with torch.no_grad():
            for model in self.models[:samples]:
                check_input(model, x)
                with evaluation_mode(model):
                    rows = chunks(x, 2 * activation_bytes(model, x[:1]))
                    outputs.append(torch.cat([as_columns(model(x[r]), len(x[r]), self.likelihood) for r in rows]))
        if len({output.shape[1] for output in outputs}) > 1:
            sizes = ", ".join(str(output.shape[1]) for output in outputs)
            raise ValueError(f"the members must have outputs of one size, got {sizes}")
        return predictive_of(torch.stack(outputs), self.likelihood, self.noise_std)


def train_ensemble(
    build: Callable[[], nn.Module],
    x: Tensor,
    y: Tensor,
    *,
    members: int = 5,
    epochs: int = 10,
    batch_size: int | None = 128,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    likelihood: Likelihood = "classification",
    noise_std: float = 1.0,
    vectorize: bool | None = None,
    generator: torch.Generator | None = None,
    progress: bool = True,
) -> Ensemble:
    r"""Train M networks by Adam on the mean negative log-likelihood, each from its own start and in its own order.

    On a CPU the members are trained one after the other, which is the fastest there; on a GPU all at once, stacked by
    ``torch.func``. Both follow the same seeds, so they give the same members up to rounding.

    Args:
        build: makes a fresh, randomly initialised network; called M times, each with torch's global generator
            seeded for that member (and put back afterwards).
        x, y: (N, ...) inputs and (N,) targets.
        members: M.
        batch_size: ``None``: the full batch.
        weight_decay: Adam's L2 penalty.
        likelihood, noise_std: as for :class:`Ensemble`.
        vectorize: all at once or one by one; ``None``: at once if x is on a GPU and the networks allow it. Dropout and
            BatchNorm do not: one by one.
        generator: seeds the members; of any device.

    Raises:
        TypeError, ValueError: bad tensors, counts < 1, ``vectorize=True`` for a network with dropout or BatchNorm.
        FloatingPointError: a loss became NaN: lower ``learning_rate``.

    >>> from coursekit.nets import MLP
    >>> x = torch.linspace(-1, 1, 20)[:, None]
    >>> build = lambda: MLP(1, 1, width=8)
    >>> ensemble = train_ensemble(build, x, x[:, 0], members=3, epochs=2, likelihood="regression", progress=False)
    >>> ensemble.predict(x).means.shape
    torch.Size([3, 20])
    """
    check_choice("likelihood", likelihood, LIKELIHOODS)
    noise_std = check_positive("noise_std", noise_std)
    for name, value in (("members", members), ("epochs", epochs)):
        check_count(name, value)
    if batch_size is not None:
        check_count("batch_size", batch_size)
    if isinstance(build, nn.Module) or not callable(build):
        raise TypeError(f"build must be a function that makes a network, got {describe(build)}: write lambda: MLP(...)")
    check_generator(generator)
    place = "cpu" if generator is None else generator.device
    seeds = torch.randint(2**31, (members,), generator=generator, device=place).tolist()
    models = [_build(build, seed, x) for seed in seeds]
    parameters = [id(p) for model in models for p in model.parameters()]
    if len({id(model) for model in models}) < members or len(set(parameters)) < len(parameters):
        raise ValueError("build() returned networks that share parameters: it must make a new one at each call")
    check_input(models[0], x)
    with torch.no_grad(), evaluation_mode(models[0]):
        outputs = as_columns(models[0](x[:1]), 1, likelihood).shape[1]
    y = check_targets(y, x, outputs, likelihood)
    blocked = [type(m).__name__ for m in models[0].modules() if _is_blocked(m)]
    if vectorize and blocked:
        raise ValueError(f"vectorize=True cannot train {blocked[0]} layers; leave it at None")
    at_once = x.is_cuda and not blocked if vectorize is None else vectorize

    def loss(out: Tensor, target: Tensor) -> Tensor:
        return -log_likelihood(as_columns(out, len(target), likelihood), target, likelihood, noise_std).mean()

    fit = _train_at_once if at_once else _train_one_by_one
    fit(models, seeds, loss, x, y, epochs, batch_size, learning_rate, weight_decay, progress)
    return Ensemble(models, likelihood=likelihood, noise_std=noise_std)


class Ambiguity(NamedTuple):
    """Mean squared errors: ``ensemble = members - spread``, exactly."""

    ensemble: Tensor
    members: Tensor
    spread: Tensor


def ambiguity_decomposition(predictions: Tensor, targets: Tensor) -> Ambiguity:
    r"""Why averaging helps: the ensemble errs less than its members do on average, by just their spread.

    .. math:: (\bar f - y)^2 = \frac1M\sum_m (f_m - y)^2 - \frac1M\sum_m (f_m - \bar f)^2,
        \qquad \bar f = \frac1M\sum_m f_m

    Args:
        predictions: (M, N) predictions of the members, for example ``ensemble.predict(x).means``.
        targets: (N,).

    Returns:
        the three terms averaged over the N targets.

    Raises:
        ValueError: shapes that do not fit, no member or no target.

    Source: Krogh and Vedelsby, Neural network ensembles, cross validation, and active learning (1995).

    >>> [v.item() for v in ambiguity_decomposition(torch.tensor([[1.0], [3.0]]), torch.tensor([0.0]))]
    [4.0, 5.0, 1.0]
    """
    if predictions.ndim < 2 or predictions.shape[1:] != targets.shape or predictions.numel() == 0:
        raise ValueError(
            f"predictions must be (M, N) and targets (N,), not empty; got {tuple(predictions.shape)} and "
            f"{tuple(targets.shape)}"
        )
    mean = predictions.mean(0)
    return Ambiguity(
        (mean - targets).square().mean(), (predictions - targets).square().mean(), (predictions - mean).square().mean()
    )


def _build(build: Callable[[], nn.Module], seed: int, x: Tensor) -> nn.Module:
    with seeded(seed, x.device):
        model = build()
    if not isinstance(model, nn.Module):
        raise TypeError(f"build() must return a torch module, got {type(model).__name__}")
    return model.to(x.device, x.dtype)


def _is_blocked(module: nn.Module) -> bool:
    random = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
    running = isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats
    return random or running


def _adam(device: torch.device) -> Callable[..., torch.optim.Optimizer]:
    return partial(torch.optim.Adam, fused=device.type in ("cpu", "cuda"))


def _train_one_by_one(models, seeds, loss, x, y, epochs, batch_size, learning_rate, weight_decay, progress) -> None:
    for model, seed in tqdm(list(zip(models, seeds, strict=True)), desc="members", disable=not progress, leave=False):
        with seeded(seed, x.device):  # for dropout within the network
            train(
                model,
                supervised(loss),
                x,
                y,
                epochs=epochs,
                batch_size=batch_size,
                learning_rate=learning_rate,
                weight_decay=weight_decay,
                optimizer=_adam(x.device),
                generator=torch.Generator().manual_seed(seed),
                progress=False,
            )


def _train_at_once(models, seeds, loss, x, y, epochs, batch_size, learning_rate, weight_decay, progress) -> None:
    parameters, buffers = stack_module_state(models)
    base = copy.deepcopy(models[0]).to("meta").train()
    optimizer = _adam(x.device)(parameters.values(), lr=learning_rate, weight_decay=weight_decay)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def member(p: dict, b: dict, x_batch: Tensor, y_batch: Tensor) -> Tensor:
        return loss(functional_call(base, (p, b), (x_batch,)), y_batch)

    n = len(x)
    for epoch in tqdm(range(1, epochs + 1), desc="training", unit="epoch", disable=not progress, leave=False):
        total = 0.0
        if batch_size is None or batch_size >= n:
            batches = [None]
        else:  # the orders that train() draws for each member
            order = torch.stack([torch.randperm(n, generator=g) for g in generators]).to(x.device)
            batches = order.split(batch_size, 1)
        for index in batches:
            optimizer.zero_grad(set_to_none=True)
            if index is None:
                losses = vmap(member, (0, 0, None, None))(parameters, buffers, x, y)
            else:
                losses = vmap(member)(parameters, buffers, x[index], y[index])
            losses.sum().backward()  # members share no parameter: the gradient of each is its own
            optimizer.step()
            total = total + losses.detach() * (n if index is None else index.shape[1])
        if not bool(torch.isfinite(total).all()):
            raise FloatingPointError(
                f"a loss is not finite after epoch {epoch}: lower learning_rate={learning_rate:g}, check the data"
            )
    with torch.no_grad():
        for m, model in enumerate(models):
            for name, parameter in model.named_parameters():
                parameter.copy_(parameters[name][m])
