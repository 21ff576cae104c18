# ---
# coursekit: {dtype: float64}
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lab 1 · Bayesian linear regression
#
# **Goal.** You build a model that knows what it does not know. You write its posterior, its predictive distribution
# and its evidence yourself, in a few lines each, and you find out when its error bars can be trusted and when they lie.
#
# **Time.** About two hours. The notebook itself runs in seconds on a laptop, without network, and unchanged on a GPU.
#
# ![Two panels. Left: a Gaussian-feature regression of 50 noisy points of a sine curve; the band of two standard
# deviations is narrow where there are data. Right: predictive variance along the input for linear, polynomial and
# Gaussian features; outside the data the first grows, the second explodes, the third falls back to the noise.](result.png)
#
# *What you will have at the end: three models of the same data, and three very different opinions about what they
# have never seen.*
#
# **How it is graded.** 20 points. Below each question there is a check that you can run as often as you like: it says
# what was expected, what came, and where to look. When you hand in, the same checks run again together with others on
# random inputs (16 points), and someone reads the three texts you write: one proof and two comments (4 points).
#
# - Write in the place of `raise NotImplementedError(...)`. Add cells wherever you like; the check cells are locked.
# - Each question is graded on its own: a wrong answer costs that question and no other.
# - You write the mathematics with `torch` (or NumPy, after `import numpy as np`). `coursekit` has all of it ready-made: use it to compare, not to answer.
# - *Run All Cells* stops at the first cell that fails. To go on behind an open question, click on the cell after its check and take
#   *Run → Run Selected Cell and All Below*.
# - Before you hand in: *Kernel → Restart Kernel and Run All Cells*.

# %%
import math

import ipywidgets
import matplotlib.pyplot as plt
import torch

from coursekit import device as devices
from coursekit.bayes import features
from coursekit.bayes.linear import fit_linear, maximize_evidence
from coursekit.checks import matches
from coursekit.data import toy
from coursekit.plots import regression, style

device = devices.setup(seed=0)  # the GPU if there is one
torch.set_default_dtype(torch.float64)  # double precision: closed forms deserve it
style.use()
print(f"torch {torch.__version__} on {device}")

# %% [markdown]
# ## 1. A line
#
# The data: 25 points of the line $t = -0.3 + 0.5\,x + \varepsilon$ with noise $\varepsilon \sim \mathcal N(0, 0.2^2)$,
# seen only on $[0, 2]$.

# %%
NOISE_STD = 0.2
ALPHA = 2.0  # prior precision of each weight: w ~ N(0, I / ALPHA)

x_line, t_line = (v.to(device) for v in toy.line(25, generator=devices.generator(0)))
x_wide = torch.linspace(-10, 10, 250, device=device)  # where we will predict

plt.figure(figsize=style.figsize(0.7))
plt.plot(x_line.cpu(), t_line.cpu(), "o", color=style.COLORS["orange"], label="data")
plt.plot([-0.5, 2.5], [toy.line_truth(-0.5), toy.line_truth(2.5)], "--", color=style.COLORS["black"], label="truth")
plt.gca().set(xlabel="input x", ylabel="target t")
plt.legend()
plt.show()

# %% [markdown]
# ### Question 1.1: features of a line (1 point)
#
# The model is $t = \phi(x)^\top w + \varepsilon$ with $\phi(x) = (1, x)$. Write the map from all inputs at once to the
# **design matrix** $\Phi$, whose row $n$ is $\phi(x_n)^\top$.
#
# **Shapes.** `x` (N,) → (N, 2).
#
# <details><summary>Hint</summary>
#
# `torch.stack` puts tensors of equal shape side by side; `torch.ones_like(x)` follows the type and the device of `x`.
#
# </details>


# %% q1_1 answer
def phi_linear(x):
    """Design matrix (N, 2) of the inputs x (N,): a column of ones, then x."""
    ### BEGIN SOLUTION
    return torch.stack([torch.ones_like(x), x], dim=1)
    ### END SOLUTION


# %% q1_1_test test 1
x = torch.tensor([-1.0, 0.0, 2.0], device=device)
assert matches("phi_linear(x)", phi_linear(x), [[1, -1], [1, 0], [1, 2]], hint="One row per input: (1, x).")


### BEGIN HIDDEN TESTS
def draw(rng):
    return [np.array([-1.0, 0.0, 2.0]), *(rng.uniform(-3, 3, size) for size in (1, 7))]


def ask(phi_linear, inputs):
    return [phi_linear(torch.tensor(x, device=device)) for x in inputs]


def shapes(inputs):
    return [(len(x), 2) for x in inputs]


def judge(inputs, got):
    for x, rows in zip(inputs, got, strict=True):
        want = np.column_stack([np.ones(len(x)), x])
        if wrong := differs(f"phi_linear for x = {describe(x)}", rows, want, atol=1e-9, hint="Row n is (1, x_n)."):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# ### Question 1.2: the precision of the noise (1 point)
#
# From here on we speak of **precisions**, inverse variances: $\alpha$ for the prior, $\beta$ for the noise. For noise of
# standard deviation $\sigma$, what is $\beta$?
#
# There is a famous wrong answer to this small question, and we shall see in section 4 what it does to the error bars.


# %% q1_2 answer
def noise_precision(noise_std):
    """Precision beta of Gaussian noise of standard deviation noise_std."""
    ### BEGIN SOLUTION
    return 1 / noise_std**2
    ### END SOLUTION


# %% q1_2_test test 1
hint = "The precision is the inverse of the variance; the factor 1/2 of the exponent is not part of it."
assert matches("noise_precision(0.5)", noise_precision(0.5), 4.0, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    return [0.5, *rng.uniform(0.1, 3.0, 4).tolist()]


def ask(noise_precision, inputs):
    return [noise_precision(noise_std) for noise_std in inputs]


def shapes(inputs):
    return [()] * len(inputs)


def judge(inputs, got):
    for noise_std, precision in zip(inputs, got, strict=True):
        what = f"noise_precision({noise_std:.4g})"
        if wrong := differs(what, precision, noise_std**-2, rtol=1e-4, hint="The inverse of the variance."):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# ### Question 1.3: the posterior (2 points)
#
# Prior $w \sim \mathcal N(0, \tfrac1\alpha I)$, likelihood $t_n \mid w \sim \mathcal N(\phi(x_n)^\top w, \tfrac1\beta)$.
# Multiply the two densities and complete the square: the posterior is $\mathcal N(m, \Sigma)$ with
#
# $$\Sigma^{-1} = \alpha I + \beta\,\Phi^\top\Phi, \qquad m = \beta\,\Sigma\,\Phi^\top t .$$
#
# **Shapes.** `phi` (N, M), N may be 0; `t` (N,) → mean (M,), covariance (M, M).
#
# <details><summary>Hint</summary>
#
# With no data ($N = 0$) the formula must give back the prior. Mind which of the two is a precision.
# `torch.linalg.inv` will do here; `torch.linalg.cholesky` with `torch.cholesky_inverse` is the better habit.
#
# </details>


# %% q1_3 answer
def posterior(phi, t, alpha, beta):
    """Mean (M,) and covariance (M, M) of the weights given the design matrix phi (N, M) and the targets t (N,)."""
    ### BEGIN SOLUTION
    identity = torch.eye(phi.shape[1], dtype=phi.dtype, device=phi.device)
    precision = alpha * identity + beta * phi.T @ phi
    covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
    return beta * covariance @ (phi.T @ t), covariance
    ### END SOLUTION


# %% q1_3_test test 2
answer = posterior(torch.tensor([[1.0, 0.0]], device=device), torch.tensor([2.0], device=device), 1.0, 3.0)
assert isinstance(answer, tuple | list) and len(answer) == 2, (
    f"end with `return mean, covariance`: the answer is one {type(answer).__name__}"
)
hint = "One point at x = 0 says something about the intercept (precision alpha + beta) and nothing about the slope."
assert matches("covariance after one point", answer[1], [[0.25, 0], [0, 1]], hint=hint)
assert matches("mean after one point", answer[0], [1.5, 0], hint="The factor beta belongs to the mean, too.")
answer = posterior(torch.zeros(0, 2, device=device), torch.zeros(0, device=device), 4.0, 25.0)
assert matches("mean without data", answer[0], [0, 0], hint="Without data the posterior is the prior N(0, I/alpha).")
hint = "Without data the posterior is the prior: alpha is a precision, so the covariance is I/alpha."
assert matches("covariance without data (alpha = 4)", answer[1], [[0.25, 0], [0, 0.25]], hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    def case(size, columns):
        alpha, beta = rng.uniform(0.5, 3.0, 2).tolist()
        return {"phi": rng.normal(size=(size, columns)), "t": rng.normal(size=size), "alpha": alpha, "beta": beta}

    one = {"phi": np.array([[1.0, 0.0]]), "t": np.array([2.0]), "alpha": 1.0, "beta": 3.0}
    none = {"phi": np.zeros((0, 2)), "t": np.zeros(0), "alpha": 4.0, "beta": 25.0}
    return [one, none, case(6, 3), case(1, 3), case(0, 3), case(4, 1)]


def ask(posterior, inputs):
    def tensor(x):
        return torch.tensor(x, device=device)

    return {
        f"posterior of case {i} (N = {len(case['t'])}, M = {case['phi'].shape[1]}) as mean, covariance": posterior(
            tensor(case["phi"]), tensor(case["t"]), case["alpha"], case["beta"]
        )
        for i, case in enumerate(inputs)
    }


def shapes(inputs):
    sizes = [(len(case["t"]), case["phi"].shape[1]) for case in inputs]
    return {
        f"posterior of case {i} (N = {n}, M = {m}) as mean, covariance": [(m,), (m, m)]
        for i, (n, m) in enumerate(sizes)
    }


def judge(inputs, got):
    for case, (mean, covariance) in zip(inputs, got.values(), strict=True):
        phi, alpha, beta = case["phi"], case["alpha"], case["beta"]
        (n, m), where = phi.shape, f"for N = {len(phi)}, M = {phi.shape[1]}, alpha = {alpha:.4g}, beta = {beta:.4g}"
        # the same posterior through the N x N matrix of the targets
        gain = np.linalg.solve(phi @ phi.T + alpha / beta * np.eye(n), phi).T
        want, hint = (np.eye(m) - gain @ phi) / alpha, "Mind which of the two is a precision."
        wrong = differs(f"the covariance {where}", covariance, want, rtol=1e-4, atol=1e-5, hint=hint)
        wrong = wrong or differs(f"the mean {where}", mean, gain @ case["t"], rtol=1e-4, atol=1e-5)
        if wrong:
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# Now watch the posterior contract as the points come in, one by one. The cross is at the true weights $(-0.3, 0.5)$.
# This figure and the next ones start from a given state and use the kit's own fit, so they are right whatever became of
# your answers; where your checks pass, your functions give the same numbers.

# %%
BETA = 25.0  # the precision of this noise, given from here on


# %% tags=["demo"]
def posterior_of_first(n):
    fit = fit_linear(features.linear(), x_line[:n], t_line[:n], alpha=ALPHA, beta=BETA)
    return fit.mean.cpu(), fit.covariance.cpu()


def show_posterior(n, ax=None):
    mean, covariance = posterior_of_first(n)
    ax = regression.weight_density(mean, covariance, truth=toy.LINE_WEIGHTS, ax=ax)
    ax.set_title(f"n = {n}")


figure, axes = plt.subplots(1, 5, figsize=style.figsize(1.6, 2.9), sharey=True)
for n, ax in zip((0, 1, 2, 10, 25), axes, strict=True):
    show_posterior(n, ax)
    ax.label_outer()
plt.show()

# %% [markdown]
# In JupyterLab, move the slider and look at single points:


# %% tags=["demo"]
def step_by_step(n):
    figure, (left, right) = plt.subplots(1, 2, figsize=style.figsize(1.1, 3.4))
    show_posterior(n, left)
    right.plot(x_line[:n].cpu(), t_line[:n].cpu(), "o", color=style.COLORS["orange"])
    mean, covariance = posterior_of_first(n)
    draws = mean + torch.randn(20, 2, generator=devices.generator(1)) @ torch.linalg.cholesky(covariance).T
    ends = torch.tensor([-0.5, 2.5])
    right.plot(ends, draws[:, 0] + ends[:, None] * draws[:, 1], color=style.COLORS["blue"], alpha=0.35, lw=1)
    right.set(xlim=(-0.5, 2.5), ylim=(-2, 2), xlabel="input x", ylabel="target t", title="20 lines drawn from it")
    plt.show()


widget = ipywidgets.interactive(
    step_by_step, n=ipywidgets.IntSlider(value=2, min=0, max=25, description="points n", continuous_update=False)
)
display(widget)

# %% [markdown]
# ### Question 1.4: a comment (1 point, read by a person)
#
# In three or four sentences: what is the first panel ($n = 0$), and on what does it depend? What shape has the posterior
# after *one* point, and why? How does its width shrink as $n$ grows?

# %% q1_4 text 1 [markdown]
# <!-- BEGIN SOLUTION -->
# *Model answer.* At $n = 0$ the posterior is the prior $\mathcal N(0, I/\alpha)$: a round cloud that depends on $\alpha$
# alone, not on any data. One point $(x_1, t_1)$ constrains the single combination $w_0 + w_1 x_1 \approx t_1$, up to
# the noise: the density is concentrated along a line of slope $-1/x_1$ in the plane of the weights, and across
# that line only the noise limits it; along the line we still know no more than the prior. A second point at another
# input crosses this ridge with a second one and leaves a small ellipse. Afterwards $\Sigma^{-1} \approx \beta\Phi^\top\Phi$
# grows like $n$, so the width shrinks like $1/\sqrt n$ around the true weights; it stays tilted because all inputs are positive.
#
# *Rubric.* ½ point: $n = 0$ is the prior and depends on $\alpha$ only. ½ point: after one point a ridge along one
# combination of the weights (or "a line of equally good lines"), *and* the contraction with $n$ ($1/\sqrt n$, or "the precision adds up").
# <!-- END SOLUTION -->

# %% [markdown]
# ### Question 1.5: learning one point at a time (1 point)
#
# Today's posterior is tomorrow's prior. Given the current mean $m$ and **precision** $\Lambda$ of the weights, write the
# update by new data $(\Phi, t)$:
#
# $$\Lambda' = \Lambda + \beta\,\Phi^\top\Phi, \qquad \Lambda' m' = \Lambda\, m + \beta\,\Phi^\top t .$$
#
# **Shapes.** `mean`, `precision` (M,), (M, M), before; `phi`, `t` (N, M), (N,), the new data → mean (M,), precision (M, M), after.


# %% q1_5 answer
def update(mean, precision, phi, t, beta):
    """Mean (M,) and precision (M, M) of the weights after the new data phi (N, M), t (N,)."""
    ### BEGIN SOLUTION
    new_precision = precision + beta * phi.T @ phi
    new_mean = torch.linalg.solve(new_precision, precision @ mean + beta * phi.T @ t)
    return new_mean, new_precision
    ### END SOLUTION


# %% q1_5_test test 1
now = torch.tensor([1.0, 1.0], device=device), torch.tensor([[1.0, 0.0], [0.0, 2.0]], device=device)
answer = update(*now, torch.tensor([[1.0, 0.0]], device=device), torch.tensor([3.0], device=device), 1.0)
assert isinstance(answer, tuple | list) and len(answer) == 2, (
    f"end with `return mean, precision`: the answer is one {type(answer).__name__}"
)
assert matches("precision after one point", answer[1], [[2, 0], [0, 2]], hint="Precisions add: return no inverse.")
hint = "Half-way between the old intercept 1 and the observed 3; the slope stays. Is the old mean in the formula?"
assert matches("mean after one point", answer[0], [2, 1], hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    def case(size, columns):
        root = rng.normal(size=(columns, columns))
        return {
            "mean": rng.normal(size=columns),
            "precision": root.T @ root + np.eye(columns),
            "phi": rng.normal(size=(size, columns)),
            "t": rng.normal(size=size),
            "beta": float(rng.uniform(0.5, 3.0)),
        }

    one = {"mean": np.ones(2), "precision": np.diag([1.0, 2.0]), "phi": np.array([[1.0, 0.0]]), "t": np.array([3.0])}
    return [one | {"beta": 1.0}, case(1, 3), case(4, 3), case(2, 1)]


def ask(update, inputs):
    answers = []
    for case in inputs:
        given = [torch.tensor(case[name], device=device) for name in ("mean", "precision", "phi", "t")]
        answers.append(update(*given, case["beta"]))
    return {f"update {i} as mean, precision": answer for i, answer in enumerate(answers)}


def shapes(inputs):
    sizes = [len(case["mean"]) for case in inputs]
    return {f"update {i} as mean, precision": [(m,), (m, m)] for i, m in enumerate(sizes)}


def judge(inputs, got):
    for case, (mean, precision) in zip(inputs, got.values(), strict=True):
        where = f"after {len(case['t'])} new points (M = {len(case['mean'])}, beta = {case['beta']:.4g})"
        # the posterior mean is the least-squares solution of prior and data stacked
        root = np.linalg.cholesky(case["precision"]).T
        stacked = np.vstack([root, np.sqrt(case["beta"]) * case["phi"]])
        targets = np.concatenate([root @ case["mean"], np.sqrt(case["beta"]) * case["t"]])
        want, hint = np.linalg.lstsq(stacked, targets, rcond=None)[0], "Is the old mean in the formula?"
        wrong = differs(f"the precision {where}", precision, stacked.T @ stacked, rtol=1e-4, atol=1e-5)
        wrong = wrong or differs(f"the mean {where}", mean, want, rtol=1e-4, atol=1e-5, hint=hint)
        if wrong:
            return wrong


### END HIDDEN TESTS

# %% tags=["demo"]
mean, precision = torch.zeros(2, device=device), ALPHA * torch.eye(2, device=device)
for n in range(len(x_line)):  # one point at a time ...
    mean, precision = update(mean, precision, features.linear()(x_line[n : n + 1]), t_line[n : n + 1], BETA)
batch = fit_linear(features.linear(), x_line, t_line, alpha=ALPHA, beta=BETA)  # ... or all at once
difference = (torch.as_tensor(mean, device=device) - batch.mean).abs().max()
print(f"largest difference between 25 updates and one fit: {float(difference):.1e}")

# %% [markdown]
# ### Question 1.6: the predictive distribution (2 points)
#
# What we want is not $w$ but the next target. Averaging the likelihood over the posterior gives, at an input with features
# $\phi$, a normal law of mean and **variance**
#
# $$\phi^\top m, \qquad \frac1\beta + \phi^\top \Sigma\, \phi .$$
#
# The first term is the noise (*aleatoric*), the second our ignorance of the weights (*epistemic*).
#
# **Shapes.** `phi` (N, M), one row an input; `mean`, `covariance` (M,), (M, M) of the weights → mean (N,), variance (N,) of the targets.
#
# <details><summary>Hint</summary>
#
# `phi @ covariance` has shape (N, M). You need the product of each of its rows with the same row of `phi`; the N x N
# matrix `phi @ covariance @ phi.T` has what you look for on its diagonal, and a lot that you do not need.
#
# </details>


# %% q1_6 answer
def predict(phi, mean, covariance, beta):
    """Mean (N,) and variance (N,) of the targets at the inputs with features phi (N, M)."""
    ### BEGIN SOLUTION
    return phi @ mean, 1 / beta + ((phi @ covariance) * phi).sum(dim=1)
    ### END SOLUTION


# %% q1_6_test test 2
phi = torch.tensor([[1.0, 0.0], [1.0, 2.0]], device=device)
weights = torch.tensor([1.0, 0.5], device=device), torch.tensor([[0.5, -0.1], [-0.1, 0.25]], device=device)
answer = predict(phi, *weights, 4.0)
pair = len(answer) == 2 if isinstance(answer, tuple | list) else getattr(answer, "shape", None) == (2, 2)
assert pair, f"end with `return mean, variance`: the answer is one {type(answer).__name__}"
assert matches("predictive mean", answer[0], [1, 2], hint="The mean is phi m.")
hint = "Noise 1/beta = 0.25 plus phi' Sigma phi, which is 0.5 and 1.1 here. The variance, not its square root."
assert matches("predictive variance", answer[1], [0.75, 1.35], hint=hint)
answer = predict(phi[:1], *weights, 4.0)
hint = "One input is still an axis: shape (1,). `.squeeze()` drops every axis of length one."
assert matches("predictive mean at one input (N = 1)", answer[0], [1], hint=hint)
assert matches("predictive variance at one input (N = 1)", answer[1], [0.75], hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    def case(size, columns):
        root = rng.normal(size=(columns, columns))
        return {
            "phi": rng.normal(size=(size, columns)),
            "mean": rng.normal(size=columns),
            "covariance": root @ root.T,
            "beta": float(rng.uniform(0.5, 3.0)),
        }

    two = {"phi": np.array([[1.0, 0.0], [1.0, 2.0]]), "mean": np.array([1.0, 0.5]), "beta": 4.0}
    return [two | {"covariance": np.array([[0.5, -0.1], [-0.1, 0.25]])}, case(5, 3), case(1, 3), case(3, 1)]


def ask(predict, inputs):
    answers = {}
    for i, case in enumerate(inputs):
        given = [torch.tensor(case[name], device=device) for name in ("phi", "mean", "covariance")]
        n, m = case["phi"].shape
        answers[f"prediction {i} at N = {n} inputs (M = {m}) as mean, variance"] = predict(*given, case["beta"])
    return answers


def shapes(inputs):
    sizes = [case["phi"].shape for case in inputs]
    return {
        f"prediction {i} at N = {n} inputs (M = {m}) as mean, variance": [(n,), (n,)] for i, (n, m) in enumerate(sizes)
    }


def judge(inputs, got):
    for case, (mean, variance) in zip(inputs, got.values(), strict=True):
        phi, beta = case["phi"], case["beta"]
        where = f"at {len(phi)} inputs (M = {phi.shape[1]}, beta = {beta:.4g})"
        # phi' w has variance sum_ij Cov(w_i, w_j) phi_i phi_j
        want = [1 / beta + (case["covariance"] * np.outer(row, row)).sum() for row in phi]
        wrong = differs(
            f"the predictive mean {where}", mean, [(row * case["mean"]).sum() for row in phi], rtol=1e-4, atol=1e-5
        )
        wrong = wrong or differs(f"the predictive variance {where}", variance, want, rtol=1e-4, atol=1e-5)
        if wrong:
            return wrong


### END HIDDEN TESTS


# %%
def show_model(phi_map, data, truth, x, *, ylim, vlim, title, alpha=ALPHA):
    """Fit the model with these features to the data; band on the left, variance on the right."""
    predictive = fit_linear(phi_map, *data, alpha=alpha, beta=BETA).predict(x)
    figure, (left, right) = plt.subplots(1, 2, figsize=style.figsize(1.3, 3.4))
    regression.predictive_band(x, predictive, data=data, truth=truth(x), ax=left)
    regression.predictive_variance(x, predictive, data=data[0], ax=right)
    left.set(ylim=ylim, title=title)
    right.set(ylim=vlim, title="predictive variance")
    plt.show()


# %% tags=["demo"]
show_model(
    features.linear(),
    (x_line, t_line),
    toy.line_truth,
    x_wide,
    ylim=(-6, 6),
    vlim=(0, 1),
    title="a line seen on [0, 2]",
)

# %% [markdown]
# ### Question 1.7: why does the variance grow? (1 + 2 points)
#
# The variance is a parabola with its minimum in the middle of the data. Take the limit of no prior, $\alpha \to 0$. Then, with
# $\bar x = \frac1N\sum_n x_n$ and $s^2 = \frac1N\sum_n (x_n - \bar x)^2$, the predictive variance at an input $x$ is a
# formula in $x$, $\bar x$, $s^2$, $N$ and $\beta$ alone. Find it. First write it as code (1 point, checked against
# a fit), then prove it (2 points, read by a person).
#
# **Shapes.** `x_new` (K,), where we predict; `x` (N,), the training inputs → predictive variance (K,).


# %% q1_7 answer
def variance_of_a_line(x_new, x, beta):
    """Predictive variance (K,) at x_new of a line fitted to targets at the inputs x (N,), in the limit alpha -> 0."""
    ### BEGIN SOLUTION
    centre = x.mean()
    spread = (x - centre).square().mean()
    return (1 + (1 + (x_new - centre).square() / spread) / len(x)) / beta
    ### END SOLUTION


# %% q1_7_test test 1
x = torch.tensor([0.0, 2.0], device=device)
answer = variance_of_a_line(torch.tensor([1.0, 3.0], device=device), x, 1.0)
hint = "Noise 1; 1/N for the height of the line; and a term that vanishes at the barycentre x = 1 and is 2 at x = 3."
hint += " Is this term 1 there? `torch.var` divides by N - 1; s^2 divides by N."
assert matches("variance at 1 and 3, data at 0 and 2, beta = 1", answer, [1.5, 3.5], hint=hint)
answer = variance_of_a_line(torch.tensor([1.0, 3.0], device=device), x, 4.0)
assert matches("the same with beta = 4", answer, [0.375, 0.875], hint="Every term comes from the noise of the targets.")


### BEGIN HIDDEN TESTS
def draw(rng):
    def case(size, count):
        x = rng.uniform(-1, 2) + rng.uniform(0.5, 2) * (np.arange(size) + rng.uniform(-0.3, 0.3, size))
        return {"x": x, "x_new": rng.uniform(-8, 8, count), "beta": float(rng.uniform(2.0, 30.0))}

    two = {"x": np.array([0.0, 2.0]), "x_new": np.array([1.0, 3.0])}
    return [two | {"beta": 1.0}, two | {"beta": 4.0}, case(3, 5), case(12, 5), case(5, 1)]


def ask(variance_of_a_line, inputs):
    answers = []
    for case in inputs:
        x_new, x = (torch.tensor(case[name], device=device) for name in ("x_new", "x"))
        answers.append(variance_of_a_line(x_new, x, case["beta"]))
    return answers


def shapes(inputs):
    return [(len(case["x_new"]),) for case in inputs]


def judge(inputs, got):
    for case, variance in zip(inputs, got, strict=True):
        phi, phi_new = (np.column_stack([np.ones_like(x), x]) for x in (case["x"], case["x_new"]))
        weights = np.linalg.pinv(phi.T) @ phi_new.T  # prediction = weights' t, so its variance is |weights|^2 / beta
        what = f"the variance at x_new = {describe(case['x_new'])} for x = {describe(case['x'])}, beta = {case['beta']:.4g}"
        if wrong := differs(what, variance, (1 + (weights**2).sum(0)) / case["beta"], rtol=1e-4):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# **Your proof** (any form; formulas between dollar signs). Start from $\Sigma^{-1} = \beta\,\Phi^\top\Phi$ for $\phi(x) = (1, x)$.

# %% q1_7_proof text 2 [markdown]
# <!-- BEGIN SOLUTION -->
# *Model answer.* For $\phi(x) = (1, x)$ and $\alpha = 0$,
#
# $$\Sigma^{-1} = \beta\,\Phi^\top\Phi = \beta N \begin{pmatrix} 1 & \bar x \\ \bar x & \overline{x^2} \end{pmatrix},
# \qquad \overline{x^2} = \tfrac1N\textstyle\sum_n x_n^2 = s^2 + \bar x^2 .$$
#
# The determinant of the matrix is $\overline{x^2} - \bar x^2 = s^2$, positive as soon as two inputs differ, so
#
# $$\Sigma = \frac{1}{\beta N s^2}\begin{pmatrix} \overline{x^2} & -\bar x \\ -\bar x & 1 \end{pmatrix}, \qquad
# \phi(x)^\top\Sigma\,\phi(x) = \frac{\overline{x^2} - 2x\bar x + x^2}{\beta N s^2} = \frac{s^2 + (x - \bar x)^2}{\beta N s^2} .$$
#
# With the noise, $\displaystyle \sigma^2(x) = \frac1\beta\Bigl(1 + \frac1N + \frac{(x-\bar x)^2}{N s^2}\Bigr)$: a parabola in
# $x$ with its minimum $\frac1\beta(1 + \frac1N)$ at the barycentre. $\square$
#
# *Rubric.* ½ point: $\Phi^\top\Phi$ written with $N$, $\sum x_n$, $\sum x_n^2$. ½ point: inverse with the right determinant, $s^2 > 0$
# named as the condition. ½ point: the quadratic form and the completion $\overline{x^2} - 2x\bar x + x^2 = s^2 + (x-\bar x)^2$.
# ½ point: the noise added, and the conclusion (minimum at $\bar x$, growth like $x^2$). Another complete proof (centring
# the inputs first, so that $\Phi^\top\Phi$ is diagonal) earns all.
# <!-- END SOLUTION -->

# %% [markdown]
# ### Question 1.8: the hole (1 point, read by a person)
#
# The same line, now seen on $[-3, -1]$ and on $[1, 3]$, and never in between.

# %% tags=["demo"]
x_hole, t_hole = (v.to(device) for v in toy.hole(20, generator=devices.generator(0)))
show_model(
    features.linear(),
    (x_hole, t_hole),
    toy.line_truth,
    torch.linspace(-12, 12, 241, device=device),
    ylim=(-7, 6),
    vlim=(0, 0.5),
    title="the same line with a hole",
)

# %% [markdown]
# Where is this model most certain? Is that reasonable, *given what it assumes*? And what would have to change for its
# uncertainty to be large in the hole? Three or four sentences.

# %% q1_8 text 1 [markdown]
# <!-- BEGIN SOLUTION -->
# *Model answer.* It is most certain at the barycentre, in the middle of the hole, where it has never seen a point. For
# someone who is *sure* that the truth is a line this is right: points on both sides hold the line in the middle better
# than anywhere else, as the formula of 1.7 says. The error bar speaks of the weights of the assumed model, not of
# the model itself: if the truth bends inside the hole, nothing here can tell. Uncertainty that grows away from the data
# needs features that are free there: local ones, wide enough to reach into the hole, or a richer family of functions, with a prior that
# leaves them undecided where there is no data.
#
# *Rubric.* ½ point: the minimum is in the hole (barycentre), and it follows from the assumption of a line. ½ point: the uncertainty is
# conditional on the model; other features or a prior over richer functions are needed.
# <!-- END SOLUTION -->

# %% [markdown]
# ## 2. Curves from lines
#
# Linear in the *weights* is enough: other features give curves, and not a line of the code above has to change. The data are now
# 50 points of $\sin(2\pi x) + x$, seen on $[0, 1]$.

# %%
ALPHA_SINUS = 0.05
x_sinus, t_sinus = (v.to(device) for v in toy.sinus(50, generator=devices.generator(1)))
x_far = torch.linspace(-1, 2, 501, device=device)

# %% [markdown]
# ### Question 2.1: polynomials (1 point)
#
# $\phi(x) = (1, x, x^2, \dots, x^D)$ for degree $D$, in this order.
#
# **Shapes.** `x` (N,) → (N, D + 1).


# %% q2_1 answer
def phi_polynomial(x, degree):
    """Design matrix (N, degree + 1) of the powers x^0, ..., x^degree."""
    ### BEGIN SOLUTION
    return torch.stack([x**k for k in range(degree + 1)], dim=1)
    ### END SOLUTION


# %% q2_1_test test 1
x = torch.tensor([1.0, 2.0], device=device)
hint = "Degree D has D + 1 features: the powers 0 to D, the constant first."
assert matches("phi_polynomial(x, 3)", phi_polynomial(x, 3), [[1, 1, 1, 1], [1, 2, 4, 8]], hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    cases = [{"x": np.array([1.0, 2.0]), "degree": 3}]
    for size, degree in ((6, 1), (6, int(rng.integers(2, 8))), (6, 0), (1, 2)):
        cases.append({"x": rng.uniform(-2, 2, size), "degree": degree})
    return cases


def ask(phi_polynomial, inputs):
    return {
        f"phi_polynomial {i}, N = {len(case['x'])} inputs and degree {case['degree']}": phi_polynomial(
            torch.tensor(case["x"], device=device), case["degree"]
        )
        for i, case in enumerate(inputs)
    }


def shapes(inputs):
    sizes = [(len(case["x"]), case["degree"]) for case in inputs]
    return {f"phi_polynomial {i}, N = {n} inputs and degree {d}": (n, d + 1) for i, (n, d) in enumerate(sizes)}


def judge(inputs, got):
    for case, rows in zip(inputs, got.values(), strict=True):
        want = np.ones((len(case["x"]), case["degree"] + 1))
        for k in range(case["degree"]):
            want[:, k + 1] = want[:, k] * case["x"]
        what = f"phi_polynomial of degree {case['degree']} for x = {describe(case['x'])}"
        if wrong := differs(what, rows, want, rtol=1e-4, atol=1e-5):
            return wrong


### END HIDDEN TESTS

# %% tags=["demo"]
show_model(
    features.polynomial(9),
    (x_sinus, t_sinus),
    toy.sinus_truth,
    x_far,
    alpha=ALPHA_SINUS,
    ylim=(-3, 5),
    vlim=(0, 10),
    title="polynomial of degree 9",
)

# %% [markdown]
# ### Question 2.2: Gaussian bumps (1 point)
#
# $\phi_j(x) = \exp\bigl(-\frac{(x - \mu_j)^2}{2 s^2}\bigr)$ with centres $\mu_1, \dots, \mu_M$ and width $s$.
#
# **Shapes.** `x`, `centres` (N,), (M,) → (N, M).
#
# <details><summary>Hint</summary>
#
# `x[:, None] - centres[None, :]` holds all differences, by broadcasting.
#
# </details>


# %% q2_2 answer
def phi_gaussian(x, centres, width):
    """Design matrix (N, M) of Gaussian bumps of the given width at the centres (M,)."""
    ### BEGIN SOLUTION
    return torch.exp(-(x[:, None] - centres[None, :]).square() / (2 * width**2))
    ### END SOLUTION


# %% q2_2_test test 1
x, centres = torch.tensor([0.0, 1.0, 2.0], device=device), torch.tensor([0.0, 2.0], device=device)
e = math.exp(-0.125), math.exp(-0.5)
hint = "At distance 1 with width 2 the bump is exp(-1/8): the width is squared, times 2, and stands below."
assert matches(
    "phi_gaussian(x, centres, 2.0)", phi_gaussian(x, centres, 2.0), [[1, e[1]], [e[0], e[0]], [e[1], 1]], hint=hint
)


### BEGIN HIDDEN TESTS
def draw(rng):
    def case(size, bumps):
        x, centres = rng.uniform(-1, 2, size), rng.uniform(0, 1, bumps)
        return {"x": x, "centres": centres, "width": float(rng.uniform(0.2, 0.8))}

    return [{"x": np.array([0.0, 1.0, 2.0]), "centres": np.array([0.0, 2.0]), "width": 2.0}, case(6, 4), case(1, 3)]


def ask(phi_gaussian, inputs):
    answers = {}
    for i, case in enumerate(inputs):
        x, centres = (torch.tensor(case[name], device=device) for name in ("x", "centres"))
        key = f"phi_gaussian {i}, {len(case['x'])} inputs and {len(case['centres'])} centres"
        answers[key] = phi_gaussian(x, centres, case["width"])
    return answers


def shapes(inputs):
    sizes = [(len(case["x"]), len(case["centres"])) for case in inputs]
    return {f"phi_gaussian {i}, {n} inputs and {m} centres": (n, m) for i, (n, m) in enumerate(sizes)}


def judge(inputs, got):
    for case, rows in zip(inputs, got.values(), strict=True):
        want = np.exp(-0.5 * (np.subtract.outer(case["x"], case["centres"]) / case["width"]) ** 2)
        what = f"phi_gaussian for x = {describe(case['x'])}, centres = {describe(case['centres'])}"
        if wrong := differs(f"{what}, width = {case['width']:.4g}", rows, want, rtol=1e-4, atol=1e-5):
            return wrong


### END HIDDEN TESTS

# %%
CENTRES, WIDTH = torch.arange(9, device=device) / 9, 1 / 9

# %% tags=["demo"]
show_model(
    features.gaussian(CENTRES, WIDTH),
    (x_sinus, t_sinus),
    toy.sinus_truth,
    x_far,
    alpha=ALPHA_SINUS,
    ylim=(-3, 5),
    vlim=(0, 0.3),
    title="nine Gaussian bumps",
)

# %% [markdown]
# ### Question 2.3: far from everything (1 point)
#
# Two models of the same data, two opinions about $x = 2$. Let $|x| \to \infty$ in $\frac1\beta + \phi(x)^\top\Sigma\,\phi(x)$ and
# write down
#
# - the limit of the predictive variance with Gaussian bumps, for given $\alpha$ and $\beta$;
# - the exponent $p$ in "the predictive variance of a polynomial of degree $D$ grows like $|x|^p$".
#
# Both are worth a moment of thought: one of the two models is far too sure of itself exactly where it knows nothing.


# %% q2_3 answer
def far_from_the_data(alpha, beta, degree):
    """Two numbers: the limit of the variance with Gaussian bumps, and the exponent p for a polynomial of this degree."""
    ### BEGIN SOLUTION
    limit = 1 / beta  # phi(x) -> 0: the model is sure that the mean is 0, and only the noise is left
    exponent = 2 * degree  # phi(x)' Sigma phi(x) is dominated by Sigma_DD (x^D)^2
    return limit, exponent
    ### END SOLUTION


# %% q2_3_test test 1
answer = far_from_the_data(0.05, 25.0, 1)
pair = len(answer) == 2 if isinstance(answer, tuple | list) else getattr(answer, "shape", None) == (2,)
assert pair, f"end with `return limit, exponent`: the answer is one {type(answer).__name__}"
bumps = fit_linear(features.gaussian(CENTRES, WIDTH), x_sinus, t_sinus, alpha=0.05, beta=25.0)
measured = bumps.predict(torch.tensor([50.0], device=device)).variance.reshape(())
hint = "Every bump is 0 out there. What is left of 1/beta + phi' Sigma phi?"
assert matches("limit for alpha = 0.05, beta = 25", answer[0], measured, hint=hint)
line = fit_linear(features.linear(), x_sinus, t_sinus, alpha=0.05, beta=25.0)
near, far = line.predict(torch.tensor([1e6, 2e6], device=device)).variance.tolist()
hint = "Doubling x multiplies the variance by 2^p. Which power of x dominates phi' Sigma phi?"
assert matches("exponent of a line (degree 1)", answer[1], math.log2(far / near), rtol=1e-3, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    cases = [[0.05, 25.0, 1]]
    for _ in range(3):
        cases.append([*rng.uniform(0.1, 30.0, 2).tolist(), int(rng.integers(2, 12))])
    return cases


def ask(far_from_the_data, inputs):
    return {f"answer {i} as limit, exponent": far_from_the_data(*case) for i, case in enumerate(inputs)}


def shapes(inputs):
    return {f"answer {i} as limit, exponent": [(), ()] for i, _ in enumerate(inputs)}


def judge(inputs, got):
    for (alpha, beta, degree), (limit, exponent) in zip(inputs, got.values(), strict=True):
        what = f"the limit for alpha = {alpha:.4g}, beta = {beta:.4g}"
        wrong = differs(what, limit, 1 / beta, rtol=1e-3, hint="Every bump is 0 out there.")
        hint = "Which power of x dominates phi' Sigma phi?"
        wrong = wrong or differs(f"the exponent for degree {degree}", exponent, degree + degree, atol=1e-2, hint=hint)
        if wrong:
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# ## 3. Which model do the data support?
#
# By least squares, a polynomial of degree 9 never fits worse than one of degree 3. Does that make it more credible? The
# **evidence** $p(t \mid \alpha, \beta) = \int p(t \mid w, \beta)\,p(w \mid \alpha)\,dw$ answers: it is the density that the model
# gave to the data *before* seeing them, and a model that could explain everything gave little to each.
#
# ### Question 3.1: the log evidence (2 points)
#
# Before any data, $t = \Phi w + \varepsilon$ is a sum of two independent Gaussian vectors, so
#
# $$ p(t \mid \alpha, \beta) = \mathcal N\bigl(t;\ 0,\ C\bigr), \qquad C = \tfrac1\beta I + \tfrac1\alpha\Phi\Phi^\top .$$
#
# **Shapes.** `phi`, `t` (N, M), (N,) → $\log p(t \mid \alpha, \beta)$ in nats, one number.
#
# <details><summary>Hint</summary>
#
# $\log\mathcal N(t; 0, C) = -\frac12\bigl(N\log 2\pi + \log\det C + t^\top C^{-1} t\bigr)$. Take `torch.linalg.slogdet` or a
# Cholesky factor: the determinant itself under- or overflows. (There is also a form with M x M matrices.)
#
# </details>


# %% q3_1 answer
def log_evidence(phi, t, alpha, beta):
    """Log evidence, in nats, of the targets t (N,) under the design matrix phi (N, M)."""
    ### BEGIN SOLUTION
    n = len(t)
    c = torch.eye(n, dtype=phi.dtype, device=phi.device) / beta + phi @ phi.T / alpha
    factor = torch.linalg.cholesky(c)
    whitened = torch.linalg.solve_triangular(factor, t[:, None], upper=False)
    return -0.5 * n * math.log(2 * math.pi) - factor.diagonal().log().sum() - 0.5 * whitened.square().sum()
    ### END SOLUTION


# %% q3_1_test test 2
one = torch.ones(1, device=device)
answer = log_evidence(one[:, None], one, 1.0, 1.0)
hint = "One target t = 1 of variance 1/beta + 1/alpha = 2: log N(1; 0, 2), with its constant -1/2 log(2 pi)."
assert matches("log evidence of one target", answer, -0.5 * math.log(4 * math.pi) - 0.25, hint=hint)
phi, t = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], device=device), torch.tensor([1.0, 2.0, 0.0], device=device)
hint = "Right for alpha = beta = 1 but not here? Then alpha and beta are exchanged, or one of them is inverted."
expected = fit_linear(None, phi, t, alpha=2.0, beta=5.0).log_evidence
answer = log_evidence(phi, t, 2.0, 5.0)
assert matches("log evidence of three targets, alpha = 2, beta = 5", answer, expected, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    def case(size, columns, alpha, beta):
        phi, t = rng.normal(size=(size, columns)), rng.normal(size=size)
        return {"phi": phi, "t": t, "alpha": alpha, "beta": beta}

    small, large = rng.uniform(0.5, 1.5, 2).tolist(), rng.uniform(2.5, 5.0, 2).tolist()
    one = {"phi": np.ones((1, 1)), "t": np.ones(1), "alpha": 1.0, "beta": 1.0}
    three = {"phi": np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]), "t": np.array([1.0, 2.0, 0.0])}
    three |= {"alpha": 2.0, "beta": 5.0}
    return [one, three, case(5, 2, small[0], large[0]), case(4, 6, large[1], small[1]), case(1, 3, 2.0, 3.0)]


def ask(log_evidence, inputs):
    def value(case):
        phi, t = (torch.tensor(case[name], device=device) for name in ("phi", "t"))
        return log_evidence(phi, t, case["alpha"], case["beta"])

    return [value(case) for case in inputs]


def shapes(inputs):
    return [()] * len(inputs)


def judge(inputs, got):
    for case, value in zip(inputs, got, strict=True):
        phi, alpha, beta = case["phi"], case["alpha"], case["beta"]
        # the chain rule: log p(t_1) + log p(t_2 | t_1) + ..., each a normal density
        want, mean, covariance = 0.0, np.zeros(phi.shape[1]), np.eye(phi.shape[1]) / alpha
        for row, target in zip(phi, case["t"], strict=True):
            gain = covariance @ row
            variance, error = 1 / beta + row @ gain, target - row @ mean
            want -= 0.5 * (np.log(2 * np.pi * variance) + error * error / variance)
            mean, covariance = mean + gain * error / variance, covariance - np.outer(gain, gain) / variance
        what = f"the log evidence for N = {len(phi)}, M = {phi.shape[1]}, alpha = {alpha:.4g}, beta = {beta:.4g}"
        # an answer in single precision is a hundred times closer
        if wrong := differs(what, value, want, rtol=1e-4, atol=1e-3):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# ### Question 3.2: the degree that the data support (1 point)
#
# Return the degree among `degrees` whose polynomial has the largest evidence. From here on use what is tested: the log
# evidence of a polynomial of degree `d` is
#
# ```python
# fit_linear(features.polynomial(d), x, t, alpha=alpha, beta=beta).log_evidence
# ```


# %% q3_2 answer
def best_degree(x, t, degrees, alpha, beta):
    """The entry of the list degrees whose polynomial features have the largest evidence."""

    ### BEGIN SOLUTION
    def evidence(degree):
        return float(fit_linear(features.polynomial(degree), x, t, alpha=alpha, beta=beta).log_evidence)

    return max(degrees, key=evidence)
    ### END SOLUTION


# %% q3_2_test test 1
x = torch.linspace(-1, 1, 20, device=device)
t = 1 - 2 * x**2 + 0.1 * torch.cos(40 * x)
hint = "A parabola with small wiggles: the evidence is largest at degree 2. 8 has the smallest error, 3 is an index."
assert matches("best_degree(x, t, [8, 4, 1, 2], ...)", best_degree(x, t, [8, 4, 1, 2], 1.0, 100.0), 2, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    x = np.linspace(-1, 1, 20)
    cases = [{"x": x, "t": 1 - 2 * x**2 + 0.1 * np.cos(40 * x), "degrees": [8, 4, 1, 2]}]
    for degree in (0, 1, 2, 3):
        x = np.sort(rng.uniform(-1, 1, 30))
        weights = rng.choice([-1.0, 1.0], degree + 1) * rng.uniform(1.0, 2.0, degree + 1)
        t = sum(w * x**k for k, w in enumerate(weights)) + 0.1 * rng.normal(size=30)
        cases.append({"x": x, "t": t, "degrees": [int(d) for d in rng.permutation([0, 1, 2, 3, 5, 8])]})
    return cases


def ask(best_degree, inputs):
    answers = []
    for case in inputs:
        x, t = (torch.tensor(case[name], device=device) for name in ("x", "t"))
        answers.append(best_degree(x, t, list(case["degrees"]), 1.0, 100.0))
    return answers


def shapes(inputs):
    return [()] * len(inputs)


def judge(inputs, got):
    for i, (case, degree) in enumerate(zip(inputs, got, strict=True)):
        x, t, degrees, values = case["x"], case["t"], case["degrees"], {}
        for d in degrees:
            phi = np.column_stack([x**k for k in range(d + 1)])
            c = np.eye(len(x)) / 100 + phi @ phi.T
            values[d] = -0.5 * (np.linalg.slogdet(c)[1] + t @ np.linalg.solve(c, t))
        best = max(degrees, key=values.get)
        if degree not in degrees:
            return f"data set {i}: {describe(degree)} is not one of the degrees {degrees}: return the degree, not its index."
        chosen = int(degree.real)
        if values[best] - values[chosen] > 1e-3:
            return (
                f"data set {i}, degrees {degrees}, alpha = 1, beta = 100: expected {best}, whose log evidence is "
                f"larger by {values[best] - values[chosen]:.3g} nats, got {chosen}."
            )


### END HIDDEN TESTS

# %% [markdown]
# ### Question 3.3: let the data choose alpha and beta (1 point)
#
# Nobody hands out $\alpha$ and $\beta$. **Evidence maximisation** takes the pair that makes the data most probable. At the maximum
#
# $$\alpha = \frac{\gamma}{m^\top m}, \qquad \beta = \frac{N - \gamma}{\|t - \Phi m\|^2}, \qquad
# \gamma = \sum_i \frac{\lambda_i}{\lambda_i + \alpha},$$
#
# where $m$ is the posterior mean at this $\alpha, \beta$, the $\lambda_i$ are the eigenvalues of $\beta\,\Phi^\top\Phi$, and $\gamma$ is the
# number of weights that the data determine. Find such a pair; any method is welcome.
#
# <details><summary>Hint</summary>
#
# Start at $\alpha = \beta = 1$ and put the right-hand sides in place of the left ones until nothing changes any more (relative
# change below $10^{-6}$, say; a few hundred steps at most). `torch.linalg.eigvalsh` gives the eigenvalues of $\Phi^\top\Phi$ once for all;
# times the current $\beta$ they are the $\lambda_i$. `fit_linear(None, phi, t, alpha=alpha, beta=beta).mean` is $m$, whatever became of question 1.3.
#
# </details>


# %% q3_3 answer
def fit_hyperparameters(phi, t):
    """The pair alpha, beta that maximises the evidence of the targets t (N,) under phi (N, M)."""
    ### BEGIN SOLUTION
    alpha, beta = 1.0, 1.0
    gram, moment = phi.T @ phi, phi.T @ t
    eigenvalues = torch.linalg.eigvalsh(gram).clamp_min(0)
    identity = torch.eye(len(gram), dtype=phi.dtype, device=phi.device)
    for _ in range(1000):
        mean = torch.linalg.solve(alpha * identity + beta * gram, beta * moment)
        gamma = float((beta * eigenvalues / (beta * eigenvalues + alpha)).sum())
        before = alpha, beta
        alpha = gamma / float(mean @ mean)
        beta = (len(t) - gamma) / float((t - phi @ mean).square().sum())
        if abs(alpha / before[0] - 1) + abs(beta / before[1] - 1) < 1e-9:
            break
    return alpha, beta
    ### END SOLUTION


# %% q3_3_test test 1
phi = features.polynomial(3)(2 * x_sinus - 1)
target = maximize_evidence(None, phi, t_sinus)
answer = fit_hyperparameters(phi, t_sinus)
pair = len(answer) == 2 if isinstance(answer, tuple | list) else getattr(answer, "shape", None) == (2,)
assert pair, f"end with `return alpha, beta`: the answer is one {type(answer).__name__}"
hint = "(N - gamma) / |t - Phi m|^2, with the m of the current alpha and beta. Did you iterate until nothing changes?"
assert matches("beta for a cubic", answer[1], target.beta, rtol=1e-2, hint=hint)
hint = "gamma / m'm, not M / m'm. Do the lambda_i contain the current beta? Did you iterate until nothing changes?"
assert matches("alpha for a cubic", answer[0], target.alpha, rtol=1e-2, hint=hint)
phi = features.polynomial(9)(2 * x_sinus - 1)  # ten weights, of which the data determine fewer than seven
target = maximize_evidence(None, phi, t_sinus)
answer = fit_hyperparameters(phi, t_sinus)
assert matches("alpha for degree 9", answer[0], target.alpha, rtol=1e-2, hint=hint)
hint = "(N - gamma) / |t - Phi m|^2: gamma, not the number of weights M, and not zero."
assert matches("beta for degree 9", answer[1], target.beta, rtol=1e-2, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    cases = []
    for scales in ([6.0, 4.0, 3.0], [6.0, 4.0, 3.0, 0.3, 0.2, 0.1], [8.0, 5.0, 0.5, 0.4, 0.3, 0.2, 0.1]):
        while True:
            left, right = (np.linalg.qr(rng.normal(size=(n, len(scales))))[0] for n in (40, len(scales)))
            phi = left * scales @ right.T  # the weights along small singular values are badly determined
            weights = right @ (rng.choice([-1.0, 1.0], len(scales)) * rng.uniform(0.7, 1.4, len(scales)))
            t = phi @ weights + rng.uniform(0.2, 0.5) * rng.normal(size=40)
            alpha, beta, _, single = _maximum(phi, t)
            if single and 0.3 < alpha < 3 and 3 < beta < 40:
                break
        cases.append({"phi": phi, "t": t})
    return cases


def ask(fit_hyperparameters, inputs):
    answers = {}
    for i, case in enumerate(inputs):
        given = (torch.tensor(case[name], device=device) for name in ("phi", "t"))
        answers[f"answer {i} as alpha, beta"] = fit_hyperparameters(*given)
    return answers


def shapes(inputs):
    return {f"answer {i} as alpha, beta": [(), ()] for i, _ in enumerate(inputs)}


def judge(inputs, got):
    for case, (alpha, beta) in zip(inputs, got.values(), strict=True):
        best_alpha, best_beta, gamma, _ = _maximum(case["phi"], case["t"])
        columns = case["phi"].shape[1]
        where = f"for N = 40, M = {columns}, of which the data determine gamma = {gamma:.2f}"
        hint = "Is it gamma / m'm, and is gamma that of the current alpha and beta, iterated until nothing changes?"
        wrong = differs(f"alpha {where}", alpha, best_alpha, rtol=2e-2, hint=hint)
        wrong = wrong or differs(f"beta {where}", beta, best_beta, rtol=2e-2, hint="(N - gamma) / |t - Phi m|^2.")
        if wrong:
            return wrong


def _maximum(phi, t):
    """alpha, beta of the largest evidence, gamma there, and whether the evidence has no other maximum."""
    from scipy.optimize import minimize_scalar

    # in the eigenbasis of phi phi', and with the best beta for a given ratio alpha / beta
    values, vectors = np.linalg.eigh(phi @ phi.T)
    values, squares = values.clip(0), (vectors.T @ t) ** 2

    def best_beta(log_ratio):
        return len(t) / (squares / (1 + values * np.exp(-log_ratio))).sum()

    def loss(log_ratio):
        return np.log1p(values * np.exp(-log_ratio)).sum() - len(t) * np.log(best_beta(log_ratio))

    grid = np.linspace(-12, 12, 481)
    losses = np.array([loss(g) for g in grid])
    steps = np.sign(np.diff(losses))
    least = int(losses.argmin())
    end = minimize_scalar(
        loss, bounds=(grid[max(least - 1, 0)], grid[min(least + 1, 480)]), method="bounded", options={"xatol": 1e-8}
    )
    beta = best_beta(end.x)
    alpha = beta * np.exp(end.x)
    single = (np.diff(steps) != 0).sum() == 1 and 0 < least < 480
    return alpha, beta, (beta * values / (beta * values + alpha)).sum(), single


### END HIDDEN TESTS

# %% [markdown]
# With both in hand, ask the data for the degree, and for the noise that nobody told them. The inputs are first mapped from
# $[0, 1]$ to $[-1, 1]$: the prior $\mathcal N(0, I/\alpha)$ speaks of the weights of *these* powers, so this is another model
# than in section 2.

# %% tags=["demo"]
u_sinus, degrees = 2 * x_sinus - 1, list(range(13))
fits = [maximize_evidence(features.polynomial(d), u_sinus, t_sinus) for d in degrees]
evidences = [float(fit.log_evidence) for fit in fits]
winner = max(degrees, key=evidences.__getitem__)


def least_squares_error(degree):
    phi = features.polynomial(degree)(u_sinus)
    residual = t_sinus - phi @ torch.linalg.lstsq(phi, t_sinus[:, None]).solution[:, 0]
    return float(residual.square().mean()) ** 0.5


figure, (left, right) = plt.subplots(1, 2, figsize=style.figsize(1.3, 3.2))
left.plot(degrees, evidences, "o-")
left.axvline(winner, ls="--", color=style.COLORS["orange"], label=f"largest: degree {winner}")
left.set(xlabel="degree of the polynomial", ylabel="log evidence (nats)", title="evidence, alpha and beta maximised")
left.legend()
right.plot(degrees, [least_squares_error(d) for d in degrees], "o-", color=style.COLORS["green"])
right.axhline(NOISE_STD, ls=":", color=style.COLORS["black"], label="true noise")
right.set(xlabel="degree of the polynomial", ylabel="root mean square error", title="training error of least squares")
right.legend()
plt.show()
print(f"degree {winner}: estimated noise {fits[winner].beta ** -0.5:.3f}, true noise {NOISE_STD}")

# %% [markdown]
# ## 4. Can the error bars be trusted?
#
# A 95 % interval should hold the target in 95 % of all cases. This can be measured.
#
# ### Question 4.1: coverage (1 point)
#
# Return the share of targets inside their central interval of probability `level`, for normal predictive distributions.
#
# **Shapes.** `mean`, `variance`, `t` (N,) each; `level` a number between 0 and 1 → a number between 0 and 1.
#
# <details><summary>Hint</summary>
#
# The interval is mean ± z · std, where a standard normal variable stays below $z$ with probability $(1 + \text{level})/2$:
# `torch.special.ndtri` is the inverse of the normal distribution function (of a tensor: `torch.tensor(...)` makes one of a number).
# The share of `True` among booleans is the mean of their `.double()`.
#
# </details>


# %% q4_1 answer
def coverage(mean, variance, t, level):
    """Share of the targets t (N,) inside the central interval of N(mean, variance) of this probability."""
    ### BEGIN SOLUTION
    z = torch.special.ndtri(torch.tensor((1 + level) / 2, dtype=t.dtype, device=t.device))
    return float(((t - mean).abs() <= z * variance.sqrt()).to(t.dtype).mean())
    ### END SOLUTION


# %% q4_1_test test 1
t = torch.tensor([0.0, 3.8, 4.2, -3.8], device=device)
answer = coverage(torch.zeros(4, device=device), torch.full((4,), 4.0, device=device), t, 0.95)
hint = "Standard deviation 2, interval +-3.92: three of the four targets are inside. 4.0 is the variance."
assert matches("coverage at level 0.95", answer, 0.75, hint=hint)
answer = coverage(torch.zeros(4, device=device), torch.full((4,), 4.0, device=device), t, 0.5)
hint = "The 50 % interval is +-0.6745 std: it leaves 25 % on either side, so z belongs to (1 + level) / 2."
assert matches("coverage at level 0.5", answer, 0.25, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    four = {"mean": np.zeros(4), "variance": np.full(4, 4.0), "t": np.array([0.0, 3.8, 4.2, -3.8])}
    cases = [four | {"level": 0.95}, four | {"level": 0.5}]
    for size, level in (
        (300, 0.9),
        (300, float(rng.uniform(0.3, 0.99))),
        (300, float(rng.uniform(0.3, 0.99))),
        (1, 0.7),
    ):
        mean, variance = rng.normal(size=size), rng.uniform(0.1, 9.0, size)
        scores = rng.normal(size=size)
        bound = _bound(level)
        # no target lies on the edge of its interval, so that rounding cannot move one across
        scores = np.where(np.abs(np.abs(scores) - bound) < 0.01, np.sign(scores) * (bound + 0.02), scores)
        cases.append({"mean": mean, "variance": variance, "t": mean + np.sqrt(variance) * scores, "level": level})
    return cases


def ask(coverage, inputs):
    answers = []
    for case in inputs:
        mean, variance, t = (torch.tensor(case[name], device=device) for name in ("mean", "variance", "t"))
        answers.append(coverage(mean, variance, t, case["level"]))
    return answers


def shapes(inputs):
    return [()] * len(inputs)


def judge(inputs, got):
    for case, share in zip(inputs, got, strict=True):
        inside = np.abs(case["t"] - case["mean"]) / np.sqrt(case["variance"]) <= _bound(case["level"])
        what = f"the share of {len(inside)} targets inside their intervals of level {case['level']:.4g}"
        hint = "The interval is mean +- z std, and z belongs to (1 + level) / 2."
        if wrong := differs(what, share, inside.mean(), rtol=0, atol=1e-4, hint=hint):
            return wrong


def _bound(level):
    import scipy.special

    return scipy.special.ndtri((1 + level) / 2)


### END HIDDEN TESTS

# %% [markdown]
# Now the experiment: 20 000 worlds drawn from the prior, each with its own line, its own 25 noisy points, and one new target to predict.
# Once with the noise precision of question 1.2, and once with the $\frac{1}{2\sigma^2}$ that many a lecture and lab have used.

# %% tags=["demo"]
WORLDS = 20_000
draw = devices.generator(1)
line_weights = torch.randn(WORLDS, 2, generator=draw) / math.sqrt(ALPHA)
x_new = 4 * torch.rand(WORLDS, generator=draw) - 1
noise = NOISE_STD * torch.randn(WORLDS, 26, generator=draw)
targets = line_weights @ features.linear()(x_line.cpu()).T + noise[:, :25]  # (WORLDS, 25)
t_new = (line_weights * features.linear()(x_new)).sum(1) + noise[:, 25]

for name, beta in (("1 / sigma^2      ", 1 / NOISE_STD**2), ("1 / (2 sigma^2)  ", 1 / (2 * NOISE_STD**2))):
    worlds = fit_linear(features.linear(), x_line.cpu(), targets, alpha=ALPHA, beta=beta)
    phi_new = features.linear()(x_new)
    mean_new = (phi_new * worlds.mean).sum(1)
    variance_new = 1 / beta + ((phi_new @ worlds.covariance) * phi_new).sum(1)
    inside = coverage(mean_new, variance_new, t_new, 0.95)
    print(f"beta = {name} the 95 % interval holds the target in {100 * inside:.1f} % of {WORLDS} worlds")

# %% [markdown]
# Too wide is wrong, too: who always says "anything between -10 and 10" is never caught, and of no use.
#
# ## What to take away
#
# - The posterior contracts like $1/\sqrt n$; without data it is the prior.
# - Predictive variance = noise + ignorance of the weights, *within the model you assumed*: a line is sure of itself in a hole, a
#   polynomial explodes outside its data, and Gaussian bumps return to the noise level where they know least.
# - The evidence weighs fit against flexibility, and needs no validation set.
# - Error bars can be measured. A factor of two in $\beta$ is enough to spoil them.
#
# The derivations, and what happens when the model is not linear in its weights, are in sessions 5 and 6 of the book.
