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
# # Lab 2 · Approximate inference
#
# **Goal.** Outside linear regression the posterior has no formula. You write the three approximations that everybody
# uses, Laplace, variational inference and Monte Carlo dropout, and you learn what each of them says about places where
# there are no data. On the way you mend half a dozen faults that have been published, and copied, in code for exactly this.
#
# **Time.** About three hours. The notebook itself runs in less than a minute on a laptop, without network, and unchanged
# on a GPU.
#
# ![Two rows of five maps of the plane around two interleaved half-moons of data. Columns: MAP, Laplace, variational,
# MC dropout, ensemble. Upper row, predictive entropy: MAP doubts only along a thin line; Laplace and variational
# inference open this line into a fan away from the data; MC dropout and the ensemble stay close to MAP. Lower row, mutual
# information: zero everywhere for MAP, large in the fans.](result.png)
#
# *What you will have at the end: five answers to the question "how sure are you, far from anything you have seen?"*
#
# **How it is graded.** 20 points. Below each question there is a check that you can run as often as you like: it says
# what was expected, what came, and where to look. When you hand in, the same checks run again together with others on
# random inputs (16 points), and someone reads the three comments you write (4 points).
#
# - Write in the place of `raise NotImplementedError(...)`. Add cells wherever you like; the check cells are locked.
# - Each question is graded on its own: a wrong answer costs that question and no other. If you are stuck, go on:
#   the figures of a part use what you wrote in that part alone.
# - You write the mathematics with `torch` (or NumPy). `coursekit` has all of it ready-made: use it to compare, not to answer.
# - *Run All Cells* stops at the first cell that fails. To go on behind an open question, click on the cell after its check and take
#   *Run → Run Selected Cell and All Below*.
# - Before you hand in: *Kernel → Restart Kernel and Run All Cells*.

# %%
import math

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from coursekit import bayes
from coursekit import device as devices
from coursekit.bayes import features
from coursekit.checks import matches
from coursekit.data import toy
from coursekit.nets import MLP
from coursekit.plots import classification, style
from coursekit.predictive import CategoricalPredictive
from coursekit.train import supervised, train

device = devices.setup(seed=0)  # the GPU if there is one
torch.set_default_dtype(torch.float64)  # double precision: closed forms deserve it
style.use()
print(f"torch {torch.__version__} on {device}")


# %% [markdown]
# ## 1. Logistic regression and Laplace's approximation
#
# Two classes in the plane, 20 points in all. The model has two weights and no intercept:
#
# $$\begin{gathered}
# p(y = 1 \mid x, w) = \sigma(x^\top w), \\
# \sigma(a) = \frac{1}{1 + e^{-a}}, \qquad w \sim \mathcal N(0, s_0^2 I).
# \end{gathered}$$
#
# We call $x^\top w$ the **logit**. The prior is wide, $s_0 = 10$: we know little about $w$, and 20 points will not teach us
# everything.

# %%
PRIOR_STD = 10.0


def blobs(n):
    x, y = toy.blobs(n, generator=devices.generator(0))
    return x.to(device), y.to(device, torch.float64)


x_blobs, y_blobs = blobs(20)

plt.figure(figsize=style.figsize(0.6, 3.4))
for label, color in ((0, "blue"), (1, "orange")):
    chosen = x_blobs[y_blobs == label].cpu()
    plt.plot(chosen[:, 0], chosen[:, 1], "os"[label], color=style.COLORS[color], label=f"class {label}")
plt.gca().set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal", title="20 points")
plt.legend()
plt.show()

# %% [markdown]
# ### Question 1.1: what MAP minimises (1 point)
#
# The posterior is proportional to $p(y \mid x, w)\,p(w)$. Write minus its logarithm, without the constants that do not depend
# on $w$:
#
# $$E(w) = -\sum_{n=1}^N \log p(y_n \mid x_n, w) + \frac{\|w\|^2}{2 s_0^2}.$$
#
# It must be a **sum** over the data (the posterior is a product), and it must survive logits of $\pm 1000$. Write this one with
# `torch`: after question 1.5 it is differentiated.
#
# **Shapes.** `w` (D,); `x` (N, D); `y` (N,) of zeros and ones → one number.
#
# <details><summary>Hint</summary>
#
# $-\log\sigma(a) = \log(1 + e^{-a})$, which is `F.softplus(-a)`, exact for every $a$; and $1 - \sigma(a) = \sigma(-a)$. Or let
# `F.binary_cross_entropy_with_logits` do both; mind its `reduction`.
#
# </details>


# %% q1_1 answer
def neg_log_joint(w, x, y, prior_std):
    """E(w): minus the log of likelihood times prior, up to a constant; w (D,), x (N, D), y (N,) of 0 and 1."""
    ### BEGIN SOLUTION
    fit = F.binary_cross_entropy_with_logits(x @ w, y, reduction="sum")
    return fit + w.square().sum() / (2 * prior_std**2)
    ### END SOLUTION


# %% q1_1_test test 1
x, y = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], device=device), torch.tensor([1.0, 0.0, 1.0], device=device)
answer = neg_log_joint(torch.zeros(2, device=device), x, y, 2.0)
hint = "At w = 0 every probability is 1/2, so each of the three points costs log 2. A sum, not a mean; one sigmoid."
assert matches("E(0) of three points", answer, 3 * math.log(2), hint=hint)
w = torch.tensor([1.0, -1.0], device=device)
expected = math.log1p(math.exp(-1)) + math.log1p(math.exp(-2)) + math.log(2) + 2 / 8
hint = "Logits 1, -2, 0, and a penalty |w|^2 / (2 s0^2) = 2/8 for s0 = 2: the standard deviation, not the variance."
assert matches("E((1, -1)), prior_std = 2", neg_log_joint(w, x, y, 2.0), expected, hint=hint)
answer = neg_log_joint(1000 * w[:1], x[:1, :1], torch.zeros(1, device=device), 1000.0)
hint = (
    "-log(1 - sigmoid(1000)) is 1000. Infinite, NaN or 100.5? Then a probability was rounded to 1 before the logarithm."
)
assert matches("E at a logit of 1000", answer, 1000.5, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    three = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]), np.array([1.0, 0.0, 1.0])
    cases = {
        "three points, w = (0, 0), prior_std = 2": (np.zeros(2), *three, 2.0),
        "three points, w = (1, -1), prior_std = 2": (np.array([1.0, -1.0]), *three, 2.0),
        "one point of class 0 with logit 1000": (np.array([1000.0]), np.ones((1, 1)), np.zeros(1), 1000.0),
        "one point of class 1 with logit -1000": (np.array([1000.0]), -np.ones((1, 1)), np.ones(1), 1000.0),
    }
    for size in (1, 6):
        x, y = 2 * rng.normal(size=(size, 3)), rng.integers(0, 2, size).astype(float)
        cases[f"random data, N = {size}, D = 3"] = (rng.normal(size=3), x, y, float(rng.uniform(0.3, 3.0)))
    return cases


def ask(neg_log_joint, inputs):
    got = {}
    for name, (w, x, y, prior_std) in inputs.items():
        got[name] = neg_log_joint(*(torch.tensor(v, device=device) for v in (w, x, y)), prior_std)
    return got


def shapes(inputs):
    return dict.fromkeys(inputs, ())


def judge(inputs, got):
    for name, (w, x, y, prior_std) in inputs.items():
        want = np.logaddexp(0, (1 - 2 * y) * (x @ w)).sum() + ((w / prior_std) ** 2).sum() / 2
        hint = "A sum over the points, from the logits, plus |w|^2 / (2 prior_std^2)."
        if wrong := differs(f"E(w), {name}", got[name], want, rtol=1e-5, atol=1e-5, hint=hint):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# ### Question 1.2: find the fault, the loss that cannot fall (1 point)
#
# A published version of this lab ends its model with a sigmoid, and then trains with
#
# ```python
# probabilities = torch.sigmoid(x @ w)
# loss = F.binary_cross_entropy_with_logits(probabilities, y, reduction="sum")
# ```
#
# The second function expects *logits*: it applies the sigmoid once more. The program runs, the accuracy is fine, and all its users
# report losses that end a little above 201 for 400 points, 200 of each class, however well the classes are separated.
#
# Which bound can this loss never pass? Return the infimum over all weights and all data sets with so many `positives` (class 1)
# and `negatives` (class 0).
#
# <details><summary>Hint</summary>
#
# What is the loss of one point of class 1, as a function of the "probability" $q \in (0, 1)$ that is taken for a logit? Which
# $q$ would be best? And for class 0?
#
# </details>


# %% q1_2 answer
def double_sigmoid_floor(positives, negatives):
    """Greatest lower bound of the faulty loss for so many points of class 1 and of class 0."""
    ### BEGIN SOLUTION
    return positives * math.log(1 + math.exp(-1)) + negatives * math.log(2)
    ### END SOLUTION


# %% q1_2_test test 1
hint = "Take the best q in [0, 1] for each class by itself: the second sigmoid still turns it into a loss above 0."
assert matches("double_sigmoid_floor(200, 200)", double_sigmoid_floor(200, 200), 201.2818, rtol=1e-5, hint=hint)
hint = "One point: a constant is no answer, and the two classes are not alike. Which q is best for which class?"
assert matches("double_sigmoid_floor(1, 0)", double_sigmoid_floor(1, 0), 0.313262, rtol=1e-5, hint=hint)
assert matches("double_sigmoid_floor(0, 1)", double_sigmoid_floor(0, 1), 0.693147, rtol=1e-5, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    return [[200, 200], [3, 1], [1, 3], [1, 0], [0, 1], *rng.integers(0, 500, (3, 2)).tolist()]


def ask(double_sigmoid_floor, inputs):
    return {f"{a} positives, {b} negatives, case {i}": double_sigmoid_floor(a, b) for i, (a, b) in enumerate(inputs)}


def shapes(inputs):
    return {f"{a} positives, {b} negatives, case {i}": () for i, (a, b) in enumerate(inputs)}


def judge(inputs, got):
    q = np.array([0.0, 1.0])  # softplus(q) - y q is smallest at one of the two ends of [0, 1]
    best = (np.logaddexp(0, q) - q).min(), np.logaddexp(0, q).min()
    for (positives, negatives), value in zip(inputs, got.values(), strict=True):
        want = positives * best[0] + negatives * best[1]
        what = f"the bound for {positives} positives and {negatives} negatives"
        if wrong := differs(what, value, want, rtol=1e-5, atol=1e-5):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# ### The MAP solution
#
# The given `find_map` minimises $E(w)/N$: an optimiser does not care about the factor, a posterior will.


# %%
def logistic_loss(outputs, y):
    return F.binary_cross_entropy_with_logits(outputs[:, 0], y)


def find_map(x, y, prior_std):
    """The logistic model at its maximum a posteriori: a linear layer without bias."""
    model = nn.Linear(x.shape[1], 1, bias=False, device=device)
    nn.init.zeros_(model.weight)
    options = {"max_iter": 200, "tolerance_grad": 1e-10, "tolerance_change": 1e-14, "line_search_fn": "strong_wolfe"}
    optimiser = torch.optim.LBFGS(model.parameters(), **options)

    def closure():
        optimiser.zero_grad()
        loss = logistic_loss(model(x), y) + model.weight.square().sum() / (2 * prior_std**2 * len(x))
        loss.backward()
        return loss

    optimiser.step(closure)
    return model


def two_classes(p):
    """Probabilities p (S, N) of class 1 as an object that the plots of the course understand."""
    p = torch.as_tensor(p).to(device, torch.float64)
    return CategoricalPredictive(torch.stack([1 - p, p], -1))


# %% tags=["demo"]
map_model = find_map(x_blobs, y_blobs, PRIOR_STD)
w_map = map_model.weight[0].detach()
print("MAP weights:", [round(v, 3) for v in w_map.tolist()])

# %% [markdown]
# The faulty loss of question 1.2 on 400 points, with ever larger weights, beside the loss as it should be:

# %% tags=["demo"]
x_many, y_many = blobs(400)
for scale in (1, 10, 1000):
    logits = scale * x_many @ w_map
    faulty = F.binary_cross_entropy_with_logits(torch.sigmoid(logits), y_many, reduction="sum")
    right = F.binary_cross_entropy_with_logits(logits, y_many, reduction="sum")
    print(f"weights x {scale:4}: sigmoid twice {float(faulty):.3f}, once {float(right):.3f}")
print(f"your bound: {float(double_sigmoid_floor(200, 200)):.3f}")

# %% tags=["demo"]
RAYS = {"across, (1, 1)": (1.0, 1.0), "along the gap, (1, -0.6)": (1.0, -0.6)}
distances = torch.linspace(0, 40, 200, device=device)


def show_confidence(predict, title, ax, margin=6.0):
    classification.decision_surface(predict, x_blobs, y_blobs, show="confidence", margin=margin, steps=100, ax=ax)
    ax.collections[0].set_clim(0.5, 1)
    ax.set(title=title)


figure, (left, right) = plt.subplots(1, 2, figsize=style.figsize(1.3, 3.6))
show_confidence(lambda points: two_classes(torch.sigmoid(points @ w_map)[None]), "MAP", left)
for name, direction in RAYS.items():
    ray = distances[:, None] * torch.tensor(direction, device=device)
    p = torch.sigmoid(ray @ w_map)
    right.plot(distances.cpu(), torch.maximum(p, 1 - p).cpu(), label=name)
right.set(xlabel="distance t along the ray t d", ylabel="confidence of MAP", ylim=(0.48, 1.02), title="on the way out")
right.legend()
plt.show()

# %% [markdown]
# ### Question 1.3: a comment (1 point, read by a person)
#
# Three or four sentences. What happens to the confidence of the MAP model as one walks away from the data, and why? On which
# rays does it *not* happen? Is there a reason in the data to be that sure there?

# %% q1_3 text 1 [markdown]
# <!-- BEGIN SOLUTION -->
# *Model answer.* On the ray $t\,d$ the logit is $t\,d^\top w_{\mathrm{MAP}}$: it grows without bound, linearly in $t$, so the confidence
# $\sigma(t\,|d^\top w_{\mathrm{MAP}}|)$ tends to 1 at exponential speed. It does so in every direction except the two with
# $d^\top w_{\mathrm{MAP}} = 0$, the decision boundary itself, where it stays ½: the iso-lines are parallel to it. Nothing in the data
# says so: no point was ever seen there, and other lines that separate the 20 points as well give the opposite label
# in the region along the gap. The model knows only *one* $w$ and takes its extrapolation for certain.
#
# *Rubric.* ½ point: the confidence tends to 1 because the logit grows linearly with the distance, except on the boundary
# $d^\top w = 0$. ½ point: this certainty is that of one single $w$ (a plug-in estimate); other weights that fit as well disagree
# there, or "no data there, so no reason".
# <!-- END SOLUTION -->

# %% [markdown]
# ### Question 1.4: the Hessian by hand (1 point)
#
# Laplace's idea: near its maximum the log posterior is a parabola. So replace the posterior by the Gaussian with the same top and
# the same curvature,
#
# $$p(w \mid \mathcal D) \approx \mathcal N(w_{\mathrm{MAP}}, \Sigma), \qquad \Sigma^{-1} = \nabla^2 E(w_{\mathrm{MAP}}) .$$
#
# Differentiate $E$ twice and write its Hessian.
#
# **Shapes.** `w` (D,); `x` (N, D) → (D, D). The labels $y$ are not among the arguments: you will see why.
#
# <details><summary>Hint</summary>
#
# It is the Hessian of $-\log p$, not of $p$. First derivative of one term in its logit $a$: $\sigma(a) - y$. Second
# derivative: $\sigma(a)(1 - \sigma(a))$. Each logit is $a_n = x_n^\top w$: what does the chain rule add, twice?
#
# </details>


# %% q1_4 answer
def hessian(w, x, prior_std):
    """Hessian (D, D) of E at w (D,) for inputs x (N, D): the precision of Laplace's Gaussian."""
    ### BEGIN SOLUTION
    p = torch.sigmoid(x @ w)
    identity = torch.eye(len(w), dtype=w.dtype, device=w.device)
    return (x.T * (p * (1 - p))) @ x + identity / prior_std**2
    ### END SOLUTION


# %% q1_4_test test 1
x = torch.tensor([[2.0, 0.0], [2.0, 2.0]], device=device)
hint = "At w = 0 each p(1 - p) is 1/4: x'x/4 is [[2, 1], [1, 1]], and I is added. A sum over the points, not a mean."
assert matches("Hessian at 0", hessian(torch.zeros(2, device=device), x, 1.0), [[3, 1], [1, 2]], hint=hint)
answer = hessian(torch.tensor([math.log(3) / 2, 0.0], device=device), x[:1], 1.0)
hint = "Here p = 3/4, so p(1 - p) = 3/16. Is the curvature taken at w, and is it that of -log p?"
assert matches("Hessian where p = 3/4", answer, [[1.75, 0], [0, 1]], hint=hint)
answer = hessian(torch.ones(2, device=device), torch.zeros(0, 2, device=device), 0.5)
assert matches(
    "Hessian without data, prior_std = 0.5", answer, [[4, 0], [0, 4]], hint="The prior has precision 1/s0^2."
)


### BEGIN HIDDEN TESTS
def draw(rng):
    x = np.array([[2.0, 0.0], [2.0, 2.0]])
    cases = {
        "one point where p = 3/4, prior_std = 1": (np.array([np.log(3) / 2, 0.0]), x[:1], 1.0),
        "two points, w = (0, 0), prior_std = 1": (np.zeros(2), x, 1.0),
        "no data, w = (1, 1), prior_std = 0.5": (np.ones(2), np.zeros((0, 2)), 0.5),
    }
    for size, dim in ((1, 1), (5, 3), (3, 4), (0, 3)):
        w, x = rng.normal(size=dim), rng.normal(size=(size, dim))
        cases[f"random data, N = {size}, D = {dim}"] = (w, x, float(rng.uniform(0.5, 0.8)))
    return cases


def ask(hessian, inputs):
    got = {}
    for name, (w, x, prior_std) in inputs.items():
        got[name] = hessian(torch.tensor(w, device=device), torch.tensor(x, device=device), prior_std)
    return got


def shapes(inputs):
    return {name: (len(w), len(w)) for name, (w, _, _) in inputs.items()}


def judge(inputs, got):
    for name, (w, x, prior_std) in inputs.items():
        want = np.eye(len(w)) / prior_std**2
        for row in x:  # p (1 - p) = 1 / (4 cosh(a/2)^2)
            want = want + np.outer(row, row) / (2 * np.cosh(row @ w / 2)) ** 2
        hint = "x' diag(p(1 - p)) x, a sum over the points, plus I / prior_std^2."
        if wrong := differs(f"the Hessian, {name}", got[name], want, rtol=1e-5, atol=1e-5, hint=hint):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# ### Question 1.5: the Hessian by automatic differentiation (1 point)
#
# For a network nobody derives it by hand. Write the Hessian of *any* function of a vector, by differentiating its gradient.
#
# **Shapes.** `f` maps a tensor (D,) to one number; `w` (D,), a plain tensor without gradient → (D, D).
#
# <details><summary>Hint</summary>
#
# `w.detach().clone().requires_grad_()` starts a fresh graph. `torch.autograd.grad(value, w, create_graph=True)` returns a tuple with
# the gradient, which can be differentiated again; each of its entries gives one row. Keep the graph until the last row:
# `retain_graph=True`.
#
# </details>


# %% q1_5 answer
def hessian_autograd(f, w):
    """Hessian (D, D) of the function f at w (D,)."""
    ### BEGIN SOLUTION
    w = w.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(w), w, create_graph=True)
    rows = [torch.autograd.grad(entry, w, retain_graph=True)[0] for entry in gradient]
    return torch.stack(rows)
    ### END SOLUTION


# %% q1_5_test test 1
answer = hessian_autograd(lambda w: w[0] ** 2 + 3 * w[0] * w[1] + w[1] ** 3, torch.tensor([1.0, 2.0], device=device))
hint = (
    "f = a^2 + 3ab + b^3 at (1, 2): second derivatives 2, 3 and 6b = 12. Row i is the gradient of the i-th derivative."
)
assert matches("Hessian of a^2 + 3ab + b^3", answer, [[2, 3], [3, 12]], rtol=1e-5, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    # f(w) = sum a w^4 + sum c w^3 + w'Qw + scale exp(b'w)
    none = np.zeros(2)
    cases = {
        "a^2 + 3ab + b^3 at (1, 2)": {
            "w": np.array([1.0, 2.0]),
            "quartic": none,
            "cubic": np.array([0.0, 1.0]),
            "matrix": np.array([[1.0, 3.0], [0.0, 0.0]]),
            "scale": 0.0,
            "b": none,
        }
    }
    for size in (1, 4):
        cases[f"a random function, D = {size}"] = {
            "w": rng.normal(size=size),
            "quartic": rng.uniform(0.5, 1.5, size),
            "cubic": rng.normal(size=size),
            "matrix": rng.normal(size=(size, size)),
            "scale": float(rng.uniform(0.5, 2.0)),
            "b": rng.uniform(-0.7, 0.7, size),
        }
    return cases


def ask(hessian_autograd, inputs):
    got = {}
    for name, case in inputs.items():
        w, quartic, cubic, matrix, b = (
            torch.tensor(case[k], device=device) for k in ("w", "quartic", "cubic", "matrix", "b")
        )

        def f(v, quartic=quartic, cubic=cubic, matrix=matrix, b=b, scale=case["scale"]):
            return (quartic * v**4).sum() + (cubic * v**3).sum() + v @ matrix @ v + scale * torch.exp(b @ v)

        got[name] = hessian_autograd(f, w)
    return got


def shapes(inputs):
    return {name: (len(case["w"]), len(case["w"])) for name, case in inputs.items()}


def judge(inputs, got):
    for name, case in inputs.items():
        w, b = case["w"], case["b"]
        want = np.diag(12 * case["quartic"] * w**2 + 6 * case["cubic"] * w) + case["matrix"] + case["matrix"].T
        want = want + case["scale"] * np.outer(b, b) * np.exp(b @ w)
        size = 1e-5 * (1 + np.abs(want).max())
        hint = "Row i is the gradient of the i-th entry of the gradient."
        if wrong := differs(f"the Hessian of {name}", got[name], want, rtol=1e-5, atol=size, hint=hint):
            return wrong


### END HIDDEN TESTS

# %% tags=["demo"]
by_hand = torch.as_tensor(hessian(w_map, x_blobs, PRIOR_STD)).cpu()
by_machine = hessian_autograd(lambda w: neg_log_joint(w, x_blobs, y_blobs, PRIOR_STD), w_map.clone())
ready_made = bayes.fit_laplace(map_model, x_blobs, y_blobs, prior_precision=PRIOR_STD**-2).precision.cpu()
print("posterior precision by hand\n", by_hand.numpy().round(5))
print(f"autograd differs from it by {float((torch.as_tensor(by_machine).cpu() - by_hand).abs().max()):.1e},", end=" ")
print(f"coursekit by {float((ready_made - by_hand).abs().max()):.1e}")

# %% [markdown]
# ### Question 1.6: find the fault, Laplace on the mean loss (1 point)
#
# The same published lab trains with the *mean* loss and a penalty of its own,
#
# $$L(w) = -\frac1N \sum_{n=1}^N \log p(y_n \mid x_n, w) + \lambda \|w\|^2 ,$$
#
# and then takes `torch.linalg.inv(H)`, with $H = \nabla^2 L(w_{\mathrm{MAP}})$, for the covariance of the posterior. But $L$ is not
# minus a log posterior: a posterior does not average its data, it multiplies them.
#
# The minimum of $L$ *is* a MAP solution, for a certain prior $\mathcal N(0, s_0^2 I)$ that nobody wrote down. Return the right covariance of
# Laplace's Gaussian under that prior, and the prior's $s_0$, from what the faulty code has at hand.
#
# **Shapes.** `h_mean` (D, D), the Hessian of $L$; `n` the number of data; `penalty` $\lambda$ → covariance (D, D), standard deviation $s_0$.
#
# <details><summary>Hint</summary>
#
# Multiply $L$ by the number that turns its first term into a sum, and compare with $E$ of question 1.1, term by term.
#
# </details>


# %% q1_6 answer
def repair_laplace(h_mean, n, penalty):
    """Covariance (D, D) of the posterior, and the prior's standard deviation, from the Hessian of the mean loss."""
    ### BEGIN SOLUTION
    return torch.linalg.inv(n * h_mean), 1 / math.sqrt(2 * n * penalty)
    ### END SOLUTION


# %% q1_6_test test 1
answer = repair_laplace(torch.tensor([[2.0, 0.0], [0.0, 4.0]], device=device), 50, 0.0025)
assert isinstance(answer, tuple | list) and len(answer) == 2, (
    f"end with `return covariance, prior_std`: the answer is one {type(answer).__name__}"
)
hint = "Fifty data say fifty times as much as their mean: which Hessian is that of E?"
assert matches("covariance for H = diag(2, 4), N = 50", answer[0], [[0.01, 0], [0, 0.005]], hint=hint)
hint = "Compare N lambda |w|^2 with |w|^2 / (2 s0^2); a standard deviation is asked for."
assert matches("prior_std for lambda = 0.0025, N = 50", answer[1], 2.0, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    cases = {"H = diag(2, 4), N = 50, penalty = 0.0025": (np.diag([2.0, 4.0]), 50, 0.0025)}
    for size in (1, 3):
        root, n, penalty = rng.normal(size=(size, size)), int(rng.integers(10, 500)), float(rng.uniform(0.001, 0.1))
        cases[f"random H, D = {size}, N = {n}, penalty = {penalty:.4f}"] = (root @ root.T + np.eye(size), n, penalty)
    return cases


def ask(repair_laplace, inputs):
    return {k: repair_laplace(torch.tensor(h, device=device), n, penalty) for k, (h, n, penalty) in inputs.items()}


def shapes(inputs):
    return {name: [h.shape, ()] for name, (h, _, _) in inputs.items()}


def judge(inputs, got):
    for name, (h, n, penalty) in inputs.items():
        covariance, prior_std = got[name]
        want = np.linalg.inv(h) / n
        hint = "The Hessian of E is N times that of the mean loss."
        size = 1e-4 * np.abs(want).max()
        if wrong := differs(f"the covariance, {name}", covariance, want, rtol=1e-4, atol=size, hint=hint):
            return wrong
        hint = "N lambda |w|^2 is |w|^2 / (2 s0^2)."
        if wrong := differs(f"prior_std, {name}", prior_std, (2 * n * penalty) ** -0.5, rtol=1e-5, hint=hint):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# A corollary worth remembering: a weight decay that stays the same while the data grow is a prior that *narrows* as the data grow.
#
# ### Question 1.7: the predictive by sampling (1 point)
#
# Draw $S$ weight vectors from $\mathcal N(m, \Sigma)$. **Each draw is one classifier: use it at all inputs.** Return the
# probability of class 1 that each of them gives at each input; their average over the draws is the predictive.
#
# **Shapes.** `x` (N, D); `mean` (D,); `covariance` (D, D); `samples` S → (S, N).
#
# <details><summary>Hint</summary>
#
# With $\Sigma = L L^\top$ (`torch.linalg.cholesky`) and $\varepsilon \sim \mathcal N(0, I)$, the vector $m + L\varepsilon$ has covariance
# $\Sigma$. If your draws are the rows of a matrix, mind on which side $L$ stands, and whether it is transposed.
#
# </details>


# %% q1_7 answer
def predict_mc(x, mean, covariance, samples):
    """Probability of class 1 (S, N) at x (N, D) under each of S draws of the weights from N(mean, covariance)."""
    ### BEGIN SOLUTION
    noise = torch.randn(samples, len(mean), dtype=mean.dtype, device=mean.device)
    weights = mean + noise @ torch.linalg.cholesky(covariance).T
    return torch.sigmoid(weights @ x.T)
    ### END SOLUTION


# %% q1_7_test test 1
given = torch.tensor([1.0, -1.0], device=device), torch.tensor([[1.0, 1.6], [1.6, 4.0]], device=device)
answer = predict_mc(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]], device=device), *given, 20_000)
assert answer is not None, "predict_mc returned None: does it end with `return`?"
answer = torch.as_tensor(answer)
assert answer.shape == (20_000, 3), f"predict_mc must return one row a draw, (20000, 3) here, not {tuple(answer.shape)}"
assert ((answer >= 0) & (answer <= 1)).all(), (
    "predict_mc must return probabilities, between 0 and 1: is the sigmoid there?"
)
logits = torch.logit(answer.cpu())
# tolerances: 6 standard errors, so a right answer fails once in some ten million runs
hint = "The inputs (1, 0), (0, 1), (1, -1) read off w1, w2 and w1 - w2: means 1, -1 and 2."
assert matches("means of the logits", logits.mean(0), [1, -1, 2], atol=0.09, hint=hint)
hint = (
    "w1 has variance 1, w2 has 4. 3.56 and 1.44? L is transposed. 3.56 and 18.56? The covariance is in the place of L."
)
assert matches("variances of the first two", logits[:, :2].var(0), [1, 4], rtol=0.06, hint=hint)
hint = "1 - 2 * 1.6 + 4. Is it 5? Then the correlation is ignored, or each input got weights of its own."
assert matches("variance of w1 - w2", logits[:, 2].var(), 1.8, rtol=0.06, hint=hint)
hint = "cov(w1, w2) = 1.6. Is it 0? Then each input got weights of its own: a draw is one classifier for all inputs."
assert matches("covariance of the first two", torch.cov(logits[:, :2].T)[0, 1], 1.6, atol=0.11, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    # strongly correlated, of unequal scales: no wrong root comes near; the last input is a mixture of the others
    scales, rho = rng.permutation([0.5, 1.0, 1.5]), rng.uniform(0.75, 0.9)
    x = np.eye(3)[rng.permutation(3)]
    x = np.vstack([x, rng.uniform(0.4, 0.8, 3) * [1, -1, 1]])
    fixed = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]])
    one = rng.normal(size=(1, 2))
    return {
        "means 1 and -1, variances 1 and 4, covariance 1.6": {
            "x": fixed,
            "mean": np.array([1.0, -1.0]),
            "covariance": np.array([[1.0, 1.6], [1.6, 4.0]]),
            "samples": 20_000,
        },
        "x = 0": {"x": np.zeros((2, 3)), "mean": np.zeros(3), "covariance": np.eye(3), "samples": 5},
        "one draw at one input": {"x": one, "mean": np.zeros(2), "covariance": np.eye(2), "samples": 1},
        "random mean and covariance": {
            "x": x,
            "mean": rng.uniform(-1, 1, 3),
            "covariance": np.outer(scales, scales) * (rho + (1 - rho) * np.eye(3)),
            "samples": 20_000,
        },
    }


def ask(predict_mc, inputs):
    got = {}
    for name, case in inputs.items():
        given = (torch.tensor(case[k], device=device) for k in ("x", "mean", "covariance"))
        got[name] = predict_mc(*given, case["samples"])
    return got


def shapes(inputs):
    return {name: (case["samples"], len(case["x"])) for name, case in inputs.items()}


def judge(inputs, got):
    for name, case in inputs.items():
        p, x, mean, samples = got[name], case["x"], case["mean"], case["samples"]
        if not (np.isrealobj(p) and (p > 0).all() and (p < 1).all()):
            return f"{name}: probabilities between 0 and 1 were expected, got {describe(p)}. Is the sigmoid there?"
        half = np.full(p.shape, 0.5)
        if name == "x = 0" and (wrong := differs("the probabilities at x = 0", p, half, atol=1e-6)):
            return wrong
        if samples < 1000:
            continue
        if len(np.unique(p, axis=0)) < 0.99 * samples:
            return f"{name}: of {samples} draws some are equal: each row needs weights of its own."
        logits, c = np.log(p) - np.log1p(-p), x @ case["covariance"] @ x.T
        spread = np.sqrt(np.diag(c))
        # 6 standard errors: a right answer fails once in some ten million runs
        hint = "The mean of the logits is x'm."
        size = 6 * spread.max() / samples**0.5
        if wrong := differs(f"means of the logits, {name}", logits.mean(0), x @ mean, rtol=0, atol=size, hint=hint):
            return wrong
        hint = "The logits at several inputs come from the same draw and have covariance x Sigma x'."
        found = np.cov(logits.T)
        if not (np.abs(found - c) < 6 * np.sqrt((np.outer(spread, spread) ** 2 + c**2) / samples)).all():
            return f"covariance of the logits, {name}: expected {describe(c)}, got {describe(found)}. {hint}"
        # all inputs are mixtures of the first D, and so are their logits, if a draw is one classifier
        near = (np.abs(logits) < 8).all(1)
        dim = len(mean)
        rest = logits @ np.vstack([-(x[dim:] @ np.linalg.inv(x[:dim])).T, np.eye(len(x) - dim)])
        if not np.abs(rest[near]).max(initial=0) < 5e-3:
            return f"{name}: a draw gives at one input logits that do not fit those at the others. {hint}"
        noise = np.linalg.solve(
            np.linalg.cholesky(x[:dim] @ case["covariance"] @ x[:dim].T), (logits[:, :dim] - x[:dim] @ mean).T
        )
        # the fourth moment of 40 000 and more normal numbers: 8 standard errors
        if not abs((noise**4).mean() - 3) < 0.4:
            return (
                f"{name}: the logits are not normally distributed: fourth moment {(noise**4).mean():.3g}, expected 3."
            )


### END HIDDEN TESTS

# %% [markdown]
# ### Question 1.8: the predictive by a formula (1 point)
#
# Under $w \sim \mathcal N(m, \Sigma)$ the logit at $x$ is Gaussian, of mean $a = x^\top m$ and variance $v = x^\top \Sigma x$. The average of
# $\sigma$ over it has no closed form, but MacKay's **probit approximation** is within 0.02 of it:
#
# $$\int \sigma(z)\, \mathcal N(z \mid a, v)\, dz \approx \sigma\!\left(\frac{a}{\sqrt{1 + \pi v/8}}\right).$$
#
# **Shapes.** `x` (N, D); `mean` (D,); `covariance` (D, D) → probability of class 1 (N,).


# %% q1_8 answer
def predict_probit(x, mean, covariance):
    """Probability of class 1 (N,) at x (N, D) under weights N(mean, covariance), by MacKay's formula."""
    ### BEGIN SOLUTION
    variance = ((x @ covariance) * x).sum(1)
    return torch.sigmoid((x @ mean) / torch.sqrt(1 + math.pi / 8 * variance))
    ### END SOLUTION


# %% q1_8_test test 1
given = torch.tensor([2.0, -1.0], device=device), torch.tensor([[24.0, 0.0], [0.0, 8.0]], device=device) / math.pi
answer = predict_probit(torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.0, 0.0]], device=device), *given)
expected = [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-1 / math.sqrt(2))), 0.5]
hint = "pi v / 8 is 3, 1 and 0 here: the logits 2, 1, 0 shrink to 1, 1/sqrt(2), 0. The variance is x' Sigma x."
assert matches("probabilities of class 1", answer, expected, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    fixed = np.array([[1.0, 0.0], [0.0, -1.0], [0.0, 0.0]])
    cases = {"three inputs": (fixed, np.array([2.0, -1.0]), np.diag([24.0, 8.0]) / np.pi)}
    for size in (1, 6):
        root = rng.normal(size=(3, 3))
        cases[f"random data, N = {size}, D = 3"] = (2 * rng.normal(size=(size, 3)), rng.normal(size=3), root @ root.T)
    # correlated on purpose: without the correlation the variance is 10, with it 1
    cases["a strongly correlated pair"] = (
        np.array([[1.0, -1.0]]),
        np.array([3.0, 1.0]),
        np.array([[5, 4.5], [4.5, 5]]),
    )
    return cases


def ask(predict_probit, inputs):
    return {k: predict_probit(*(torch.tensor(v, device=device) for v in case)) for k, case in inputs.items()}


def shapes(inputs):
    return {name: (len(x),) for name, (x, _, _) in inputs.items()}


def judge(inputs, got):
    for name, (x, mean, covariance) in inputs.items():
        shrunk = (x @ mean) / np.sqrt(1 + np.pi * np.einsum("ni,ij,nj->n", x, covariance, x) / 8)
        what, hint = f"probabilities of class 1, {name}", "a = x'm, v = x' Sigma x, row by row."
        want = 0.5 * (1 + np.tanh(shrunk / 2))
        if wrong := differs(what, got[name], want, rtol=1e-4, atol=1e-5, hint=hint):
            return wrong


### END HIDDEN TESTS

# %% tags=["demo"]
nodes, node_weights = (torch.tensor(v) for v in np.polynomial.hermite_e.hermegauss(200))
logits = torch.linspace(-6, 6, 49)
for std in (0.5, 2.0, 5.0):
    exact = (torch.sigmoid(logits[:, None] + std * nodes) * node_weights).sum(1) / node_weights.sum()
    inputs = torch.stack([logits, torch.ones_like(logits)], 1).to(device)  # logit a * 1 + 1 * w2 with w2 ~ N(0, std^2)
    law = torch.tensor([1.0, 0.0], device=device), torch.diag(torch.tensor([0.0, std**2], device=device))
    formula = torch.as_tensor(predict_probit(inputs, *law)).cpu()
    print(f"logit of standard deviation {std}: largest error of the formula {float((formula - exact).abs().max()):.4f}")

# %% [markdown]
# ### Question 1.9: infinitely far away (1 point)
#
# On the ray $t\,d$, mean and standard deviation of the logit both grow like $t$. So the confidence
# $\max(\bar p, 1 - \bar p)$ of the exact average $\bar p = \mathbb E\,\sigma(t\,d^\top w)$, $w \sim \mathcal N(m, \Sigma)$, does not go to 1: it has a limit. Find it, in
# closed form. It is the limit of the true average, not of the probit approximation.
#
# **Shapes.** `directions` (K, D), not normalised; `mean` (D,); `covariance` (D, D) → (K,), between ½ and 1.
#
# <details><summary>Hint</summary>
#
# What does $\sigma(t z)$ become as $t \to \infty$, for $z > 0$ and for $z < 0$? So the limit is the probability of an event about the
# Gaussian variable $d^\top w$. `torch.special.ndtr` is the normal distribution function $\Phi$.
#
# </details>


# %% q1_9 answer
def far_confidence(directions, mean, covariance):
    """Limit (K,) of the confidence at t d as t grows, for directions d (K, D) and weights N(mean, covariance)."""
    ### BEGIN SOLUTION
    std = ((directions @ covariance) * directions).sum(1).sqrt()
    return torch.special.ndtr((directions @ mean).abs() / std)
    ### END SOLUTION


# %% q1_9_test test 1
given = torch.tensor([2.0, 0.0], device=device), torch.eye(2, device=device)
answer = far_confidence(torch.tensor([[0.0, 1.0], [1.0, 0.0], [-3.0, 4.0]], device=device), *given)
hint = "d'w has mean 0, 2, -6 and standard deviation 1, 1, 5: a confidence is at least 1/2, whatever the sign, and the"
hint += " length of d does not matter. Close but not equal? Then you took the limit of the approximation of 1.8."
assert matches("far_confidence", answer, [0.5, 0.977250, 0.884930], rtol=1e-5, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    fixed = np.array([[0.0, 1.0], [1.0, 0.0], [-3.0, 4.0]])
    cases = {"m = (2, 0), Sigma = I": (fixed, np.array([2.0, 0.0]), np.eye(2))}
    cases["a correlated pair"] = (np.array([[1.0, -1.0]]), np.array([1.0, 0.2]), np.array([[1.0, 0.8], [0.8, 1.0]]))
    for size in (1, 6):
        root = rng.normal(size=(3, 3))
        covariance = root @ root.T + 0.2 * np.eye(3)
        cases[f"random law, {size} directions"] = (rng.normal(size=(size, 3)), rng.normal(size=3), covariance)
    return cases


def ask(far_confidence, inputs):
    return {k: far_confidence(*(torch.tensor(v, device=device) for v in case)) for k, case in inputs.items()}


def shapes(inputs):
    return {name: (len(directions),) for name, (directions, _, _) in inputs.items()}


def judge(inputs, got):
    from scipy.special import ndtr

    for name, (directions, mean, covariance) in inputs.items():
        std = np.sqrt(np.einsum("ki,ij,kj->k", directions, covariance, directions))
        want = ndtr(np.abs(directions @ mean) / std)
        what, hint = f"the limits, {name}", "The limit is the probability that d'w has the sign of its mean."
        if wrong := differs(what, got[name], want, rtol=1e-5, atol=1e-5, hint=hint):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# Now look at it. The figure uses your functions. On the right, the dashed lines are your limits.

# %% tags=["demo"]
laplace = bayes.fit_laplace(map_model, x_blobs, y_blobs, prior_precision=PRIOR_STD**-2)
w_mean, w_covariance = laplace.mean, laplace.covariance

figure, (left, middle, right) = plt.subplots(1, 3, figsize=style.figsize(1.8, 3.6))
show_confidence(lambda points: two_classes(torch.sigmoid(points @ w_map)[None]), "MAP", left)
show_confidence(
    lambda points: two_classes(predict_mc(points, w_mean, w_covariance, 400)), "Laplace, 400 samples", middle
)
for (name, direction), color in zip(RAYS.items(), ("blue", "orange"), strict=True):
    d = torch.tensor([direction], device=device)
    p = torch.as_tensor(predict_probit(distances[:, None] * d, w_mean, w_covariance)).cpu()
    limit = float(torch.as_tensor(far_confidence(d, w_mean, w_covariance))[0])
    right.plot(distances.cpu(), torch.maximum(p, 1 - p), color=style.COLORS[color], label=name)
    right.axhline(limit, ls="--", lw=1, color=style.COLORS[color])
right.set(xlabel="distance t along the ray t d", ylabel="confidence of Laplace", ylim=(0.48, 1.02), title="probit")
right.legend(loc="center right", bbox_to_anchor=(1.0, 0.4))
plt.show()

# %% [markdown]
# And what the fault of question 1.6 does. "Right" is the posterior precision as a sum; "mean loss" takes $\lambda = 1/(2 N s_0^2)$, so
# that the MAP solution is the same, and forgets the factor $N$; "mean loss, $\lambda = 1$" is what was published. Confidence
# infinitely far away:

# %% tags=["demo"]
print(f"{'':26}" + "".join(f"{name:>28}" for name in RAYS))
d = torch.tensor(list(RAYS.values()), device=device)
for n in (20, 400):
    x, y = blobs(n)
    model = find_map(x, y, PRIOR_STD)
    precision = bayes.fit_laplace(model, x, y, prior_precision=PRIOR_STD**-2).precision
    sharp = find_map(x, y, (2 * n) ** -0.5)  # lambda = 1 on the mean loss
    rows = {
        "right": (model.weight[0], precision),
        "mean loss": (model.weight[0], precision / n),
        "mean loss, lambda = 1": (
            sharp.weight[0],
            bayes.fit_laplace(sharp, x, y, prior_precision=2.0 * n).precision / n,
        ),
    }
    for name, (weight, matrix) in rows.items():
        limits = torch.as_tensor(far_confidence(d, weight.detach(), torch.linalg.inv(matrix)))
        print(f"N = {n:3}, {name:22}" + "".join(f"{value:25.3f}   " for value in limits.tolist()))

# %% [markdown]
# With more data the right posterior becomes surer. The published one hardly moves: its hidden prior narrows as fast as the data
# come in. At $N = 20$ its two faults (this prior, and a covariance $N$ times too wide) nearly cancel, which is why nobody noticed.
#
# In JupyterLab, move the prior:


# %% tags=["demo"]
def with_prior(prior_std):
    model = find_map(x_blobs, y_blobs, prior_std)
    posterior = bayes.fit_laplace(model, x_blobs, y_blobs, prior_precision=prior_std**-2)
    figure, (left, right) = plt.subplots(1, 2, figsize=style.figsize(1.2, 3.4))
    show_confidence(lambda points: two_classes(torch.sigmoid(points @ posterior.mean)[None]), "MAP", left)
    show_confidence(
        lambda points: two_classes(predict_probit(points, posterior.mean, posterior.covariance)[None]), "Laplace", right
    )
    plt.show()


stds = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0]
slider = ipywidgets.SelectionSlider(options=stds, value=10.0, description="prior std", continuous_update=False)
display(ipywidgets.interactive(with_prior, prior_std=slider))

# %% [markdown]
# ## 2. Variational inference
#
# *This part needs the given cells above, not your answers to part 1.*
#
# Laplace looks at one point of the posterior. **Variational inference** looks for the best member of a whole family. Ours is the
# mean-field Gaussian: every weight is independent, with its own mean $m_j$ and standard deviation $s_j$,
#
# $$q(w) = \prod_j \mathcal N(w_j \mid m_j, s_j^2), \qquad s_j = \log(1 + e^{\rho_j}),$$
#
# so that every $\rho_j \in \mathbb R$ is allowed. It maximises the **evidence lower bound**
#
# $$\begin{aligned}
# \mathrm{ELBO}(q) &= \mathbb E_q \Big[\sum_{n=1}^N \log p(y_n \mid x_n, w)\Big] - \mathrm{KL}(q \,\|\, p) \\
# &= \log p(\mathcal D) - \mathrm{KL}\big(q \,\|\, p(w \mid \mathcal D)\big).
# \end{aligned}$$
#
# ### Question 2.1: a draw that can be differentiated (1 point)
#
# Write a draw from $q$ as a function of $m$, $\rho$ and noise that depends on neither (*reparameterisation*). Each entry has
# noise of its own, fresh at each call, and gradients must flow to `mean` and to `rho`.
#
# **Shapes.** `mean`, `rho` of any one shape → a draw of this shape.
#
# <details><summary>Hint</summary>
#
# $w = m + s \varepsilon$ with $\varepsilon \sim \mathcal N(0, 1)$. `F.softplus` is $\log(1 + e^\rho)$; `torch.randn_like` gives
# the noise. `torch.normal(mean, std)` draws from the right law and has no gradient.
#
# </details>


# %% q2_1 answer
def draw(mean, rho):
    """One draw from N(mean, s^2), s = log(1 + exp(rho)), entry by entry, with gradients to mean and rho."""
    ### BEGIN SOLUTION
    return mean + F.softplus(rho) * torch.randn_like(mean)
    ### END SOLUTION


# %% q2_1_test test 1
mean = torch.full((2, 20_000), 3.0, device=device, requires_grad=True)
rho = torch.tensor([[-1.0], [2.0]], device=device).repeat(1, 20_000).requires_grad_()
answer = draw(mean, rho)
assert isinstance(answer, torch.Tensor) and answer.shape == mean.shape, "draw must return a tensor of the shape of mean"
# tolerances: 6 standard errors, so a right answer fails once in some ten million runs
assert matches(
    "mean of the draws",
    answer.mean(1),
    [3, 3],
    atol=0.1,
    hint="Is the noise standard normal, one number for each entry of mean?",
)
hint = "s = log(1 + exp(rho)) is 0.3133 and 2.1269: the standard deviation itself, neither exp(rho) nor a variance."
assert matches("standard deviation of the draws", answer.std(1), [0.313262, 2.126928], rtol=0.03, hint=hint)
assert answer.requires_grad, "the draw has no gradient: write it as mean + std * noise, the noise alone being random"
answer.sum().backward()
assert mean.grad is not None and rho.grad is not None, "the gradient must reach both mean and rho"
assert matches("gradient in mean", mean.grad[:, 0], [1, 1], hint="Moving the mean moves the draw by as much.")


### BEGIN HIDDEN TESTS
def draw(rng):
    return {
        "two numbers": {"mean": rng.normal(size=(2, 1)), "rho": rng.uniform(-1, 2, (2, 1)), "columns": 1},
        "a matrix": {"mean": rng.normal(size=(3, 2)), "rho": rng.uniform(-1, 2, (3, 2)), "columns": 1},
        "20000 columns": {
            "mean": np.array([[3.0], [3.0], *rng.normal(size=(2, 1)).tolist()]),
            "rho": np.array([[-1.0], [2.0], *rng.uniform(-3, 3, (2, 1)).tolist()]),
            "columns": 20_000,
        },
    }


def ask(draw, inputs):
    got = {}
    for name, case in inputs.items():
        given = (torch.tensor(case[k], device=device).repeat(1, case["columns"]) for k in ("mean", "rho"))
        mean, rho = (v.requires_grad_() for v in given)
        first, second = draw(mean, rho), draw(mean, rho)
        gradients = [None, None]
        if getattr(first, "requires_grad", None):
            gradients = torch.autograd.grad(first.sum(), [mean, rho], allow_unused=True)
        got[name] = {"first call": first, "second call": second}
        got[name] |= {"gradient in mean": gradients[0], "gradient in rho": gradients[1]}
    return got


def shapes(inputs):
    forms = {}
    for name, case in inputs.items():
        shape = (len(case["mean"]), case["mean"].shape[1] * case["columns"])
        forms[name] = {"first call": shape, "second call": shape}
        forms[name] |= {"gradient in mean": maybe(shape), "gradient in rho": maybe(shape)}
    return forms


def judge(inputs, got):
    for name, case in inputs.items():
        mean, rho = (np.tile(case[k], (1, case["columns"])) for k in ("mean", "rho"))
        s, answer = np.logaddexp(0, rho), got[name]
        calls = [answer["first call"], answer["second call"]]
        for key in ("gradient in mean", "gradient in rho"):
            if answer[key] is None:
                return f"{name}: the draw has no {key}: write it as mean + std * noise, the noise alone being random."
        if not all(np.isrealobj(call) and np.isfinite(call).all() for call in calls):
            return f"{name}: the draws are not finite real numbers: {describe(calls[0])}."
        noise = [(call - mean) / s for call in calls]
        if not (calls[0] == calls[1]).mean() < 0.01:  # in single precision a few of many are equal by chance
            return f"{name}: two calls gave the same numbers: each call draws afresh."
        want = np.ones(mean.shape)
        if wrong := differs(f"the gradient in mean, {name}", answer["gradient in mean"], want, atol=1e-5):
            return wrong
        want = noise[0] / (1 + np.exp(-rho))
        hint = "The draw is mean + s noise: its derivative in rho is noise / (1 + exp(-rho))."
        size = 1e-4 * (1 + np.abs(want).max())
        if wrong := differs(f"the gradient in rho, {name}", answer["gradient in rho"], want, atol=size, hint=hint):
            return wrong
        if case["columns"] < 1000:
            continue
        # 6 standard errors and more on 20 000 draws: a right answer fails once in some ten million runs
        for e in noise:
            for k, row in enumerate(e):
                about = f"rows with mean {mean[k, 0]:.3g} and rho {rho[k, 0]:.3g}"
                if not abs(row.mean()) < 0.0425:
                    return f"{about}: the draws have mean {(mean[k, 0] + s[k, 0] * row.mean()):.4g}."
                if not abs((row**2).mean() - 1) < 0.06:
                    found = s[k, 0] * (row**2).mean() ** 0.5
                    return f"{about}: the draws have standard deviation {found:.4g}, expected {s[k, 0]:.4g}."
            if not abs((e**4).mean() - 3) < 0.4:
                return f"{name}: the noise is not normal: its fourth moment is {(e**4).mean():.3g}, expected 3."
            if not (np.abs(np.corrcoef(e) - np.eye(len(e))) < 0.0425).all():
                return f"{name}: the entries of different rows are correlated: each entry has noise of its own."
        if not abs((noise[0] * noise[1]).mean()) < 0.0425:
            return f"{name}: two calls are correlated: each call draws afresh."


### END HIDDEN TESTS

# %% [markdown]
# ### Question 2.2: find the fault, a KL that does nothing (1 point)
#
# For the prior $\mathcal N(0, s_0^2)$ on each weight the KL is a formula:
#
# $$\mathrm{KL}(q \,\|\, p) = \sum_j \left( \log\frac{s_0}{s_j} + \frac{s_j^2 + m_j^2}{2 s_0^2} - \frac12 \right).$$
#
# This is how two editions of the published lab computed it:
#
# ```python
# def kl_to_prior(mean, rho, prior_std):
#     total = np.zeros(1)
#     std = F.softplus(rho)
#     total[0] += (torch.log(prior_std / std) + (std**2 + mean**2) / (2 * prior_std**2) - 0.5).mean()
#     return total[0]
# ```
#
# There are two faults in it. With the first, the KL has no influence whatever on the training; with the second, it is a
# hundred times too weak for a layer of a hundred weights. Write the function as it should be.
#
# **Shapes.** `mean`, `rho` of any one shape → one number, differentiable in both.


# %% q2_2 answer
def kl_to_prior(mean, rho, prior_std):
    """KL from q = N(mean, s^2), s = log(1 + exp(rho)), to N(0, prior_std^2), in nats, for all weights together."""
    ### BEGIN SOLUTION
    std = F.softplus(rho)
    return (torch.log(prior_std / std) + (std**2 + mean**2) / (2 * prior_std**2) - 0.5).sum()
    ### END SOLUTION


# %% q2_2_test test 1
mean = torch.zeros(2, 3, device=device, requires_grad=True)
rho = torch.full((2, 3), math.log(math.expm1(2.0)), device=device, requires_grad=True)  # s = 2
assert matches(
    "KL at the prior",
    kl_to_prior(mean, rho, 2.0),
    0.0,
    hint="q = p here, so the KL is 0: one number, the sum over all weights.",
)
answer = kl_to_prior(mean + 2, rho, 2.0)
hint = "Six weights, each m^2 / (2 s0^2) = 1/2 away: 3 nats in all. Is it 0.5? Then the weights were averaged."
assert matches("KL with all means at 2, s = s0 = 2", answer, 3.0, hint=hint)
assert isinstance(answer, torch.Tensor) and answer.requires_grad, (
    f"the KL came back as {type(answer).__name__} without a gradient: keep it a torch tensor from beginning to end"
)
gradient = torch.autograd.grad(answer, mean, allow_unused=True)[0]
assert gradient is not None, "the KL has no gradient in mean"
assert matches("its gradient in mean, m / s0^2", gradient, torch.full((2, 3), 0.5))


### BEGIN HIDDEN TESTS
def draw(rng):
    at = np.full((2, 3), np.log(np.expm1(2.0)))  # s = 2
    cases = {
        "one weight": (np.array([1.0]), np.array([0.5]), 1.5),
        "q = p, six weights": (np.zeros((2, 3)), at, 2.0),
        "all means at 2, s = s0 = 2": (np.full((2, 3), 2.0), at, 2.0),
    }
    for shape in ((1,), (3, 4)):
        name = f"random, shape {shape}"
        cases[name] = (rng.normal(size=shape), rng.uniform(-3, 3, shape), float(rng.uniform(0.3, 4.0)))
    return cases


def ask(kl_to_prior, inputs):
    got = {}
    for name, (mean, rho, prior_std) in inputs.items():
        mean, rho = (torch.tensor(v, device=device).requires_grad_() for v in (mean, rho))
        value, gradients = kl_to_prior(mean, rho, prior_std), [None, None]
        if getattr(value, "requires_grad", None):
            gradients = torch.autograd.grad(value.sum(), [mean, rho], allow_unused=True)
        got[name] = {"KL": value, "gradient in mean": gradients[0], "gradient in rho": gradients[1]}
    return got


def shapes(inputs):
    forms = {}
    for name, (mean, _, _) in inputs.items():
        forms[name] = {"KL": (), "gradient in mean": maybe(mean.shape), "gradient in rho": maybe(mean.shape)}
    return forms


def judge(inputs, got):
    for name, (mean, rho, prior_std) in inputs.items():
        s = np.logaddexp(0, rho)
        ratio = (s / prior_std) ** 2
        want = {
            "KL": 0.5 * (ratio - 1 - np.log(ratio) + (mean / prior_std) ** 2).sum(),
            "gradient in mean": mean / prior_std**2,
            "gradient in rho": (s / prior_std**2 - 1 / s) / (1 + np.exp(-rho)),
        }
        for key, value in want.items():
            if got[name][key] is None:
                return f"{name}: the KL has no {key}: keep it a torch tensor from beginning to end."
            size = 1e-5 * (1 + np.abs(value).max())
            hint = "A sum over all weights." if key == "KL" else ""
            if wrong := differs(f"the {key}, {name}", got[name][key], value, rtol=1e-5, atol=size, hint=hint):
                return wrong


### END HIDDEN TESTS

# %% [markdown]
# ### Question 2.3: a linear layer with random weights (1 point)
#
# Complete the layer. Its weight matrix $W$ (out, in) and its bias $b$ (out,) are both random, each entry with its own $m$ and $\rho$.
# One call of `forward` draws $W$ and $b$ **once** and returns $W x + b$ for all the rows of `x`: a call is one function. It
# does so in training and in evaluation mode alike; this layer *is* a distribution. With `bias=False` there is no $b$, and
# `bias_mean`, `bias_rho` are `None`.
#
# So that this question does not hang on question 2.1, you may draw with `torch.distributions.Normal(mean, std).rsample()`.
#
# **Shapes.** `x` (N, in_features) → (N, out_features).
#
# <details><summary>Hint</summary>
#
# `F.linear(x, weight, bias)` takes a weight of shape (out, in), and `bias=None`.
#
# </details>


# %% q2_3 answer
class LinearVariational(nn.Module):
    """A linear layer with a mean-field Gaussian over its weights and biases, and the prior N(0, prior_std^2)."""

    def __init__(self, in_features, out_features, *, prior_std=1.0, bias=True, initial_std=0.05):
        super().__init__()
        self.prior_std = prior_std
        rho = math.log(math.expm1(initial_std))  # log(1 + exp(rho)) = initial_std
        self.weight_mean = nn.Parameter(torch.randn(out_features, in_features) / math.sqrt(in_features))
        self.weight_rho = nn.Parameter(torch.full((out_features, in_features), rho))
        self.bias_mean = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.bias_rho = nn.Parameter(torch.full((out_features,), rho)) if bias else None

    def kl(self):
        """KL to the prior, summed over weights and biases (the formula of question 2.2, ready-made)."""
        total = bayes.kl_normal(self.weight_mean, F.softplus(self.weight_rho), self.prior_std)
        if self.bias_mean is not None:
            total = total + bayes.kl_normal(self.bias_mean, F.softplus(self.bias_rho), self.prior_std)
        return total

    def forward(self, x):
        """Outputs (N, out_features) at x (N, in_features) for one fresh draw of the weights and biases."""
        ### BEGIN SOLUTION
        weight = self.weight_mean + F.softplus(self.weight_rho) * torch.randn_like(self.weight_mean)
        if self.bias_mean is None:
            return F.linear(x, weight)
        return F.linear(x, weight, self.bias_mean + F.softplus(self.bias_rho) * torch.randn_like(self.bias_mean))
        ### END SOLUTION


# %% q2_3_test test 1
layer = LinearVariational(2, 20_000).to(device)  # 20 000 outputs of the same law: 20 000 draws in one call
with torch.no_grad():
    layer.weight_mean[:], layer.bias_mean[:] = torch.tensor([1.0, 2.0], device=device), 0.5
    layer.weight_rho[:], layer.bias_rho[:] = torch.tensor([0.0, 1.0], device=device), -1.0
x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, -1.0]], device=device)
answer = layer(x)
assert answer is not None, "forward returned None: does it end with `return`?"
assert answer.shape == (3, 20_000), (
    f"3 inputs, 20000 outputs: forward must return (3, 20000), not {tuple(answer.shape)}"
)
hint = "Rows 0 and 1 of x are equal, so one draw of the weights gives equal outputs: W is drawn once a call, not a row."
assert matches("difference between two equal inputs", (answer[0] - answer[1]).abs().max(), 0.0, hint=hint)
# tolerances: 6 standard errors, so a right answer fails once in some ten million runs
hint = "W x + b with means (1, 2) and 0.5 at (1, 0) and (1, -1)."
assert matches("means of the outputs", answer[::2].mean(1), [1.5, -0.5], atol=0.08, hint=hint)
hint = "Variances add: s^2 = log(1 + e^rho)^2 is 0.480 and 1.725 for the weights, and 0.098 for the bias."
assert matches("variances of the outputs", answer[::2].var(1), [0.578586, 2.303244], rtol=0.06, hint=hint)
assert not torch.equal(layer.eval()(x), layer(x)), "each call must draw new weights, in evaluation mode, too"
assert LinearVariational(2, 3, bias=False).to(device)(x).shape == (3, 3), "it must work with bias=False"
answer.sum().backward()
assert all(p.grad is not None for p in layer.parameters()), "the gradient must reach all four parameters"


### BEGIN HIDDEN TESTS
def draw(rng):
    def case(dim, units, bias, training):
        # the origin, one input along each axis and one more: the outputs determine the drawn weights, and one too many
        x = np.vstack([np.zeros(dim), np.diag(rng.uniform(0.5, 2.0, dim)), rng.uniform(0.3, 1, dim)])
        return {
            "x": x[rng.permutation(dim + 2)],
            "units": units,
            "bias": bias,
            "training": training,
            "weights": rng.uniform(0.5, 1.5, (dim + 2, units)),
            "weight_mean": rng.normal(size=(units, dim)),
            "weight_rho": np.tile(rng.uniform(-2, 1, dim), (units, 1)),
            "bias_mean": rng.normal(size=units),
            "bias_rho": np.full(units, rng.uniform(-2, 1)),
        }

    return {
        "one output, with bias": case(1, 1, True, True),
        "three outputs, without bias": case(2, 3, False, True),
        "3000 outputs, training mode": case(3, 3000, True, True),
        "3000 outputs, evaluation mode": case(3, 3000, True, False),
        "3000 outputs, without bias": case(3, 3000, False, bool(rng.integers(2))),
    }


def ask(LinearVariational, inputs):
    got = {}
    for name, case in inputs.items():
        layer = LinearVariational(case["x"].shape[1], case["units"], bias=case["bias"]).to(device)
        layer.train(case["training"])
        names = ["weight_mean", "weight_rho", *["bias_mean", "bias_rho"] * case["bias"]]
        parameters = [getattr(layer, k) for k in names]
        with torch.no_grad():
            for k, parameter in zip(names, parameters, strict=True):
                parameter.copy_(torch.tensor(case[k], device=device))
        x = torch.tensor(case["x"], device=device)
        first, second = layer(x), layer(x)
        gradients = [None] * len(names)
        if getattr(first, "requires_grad", None):
            total = (torch.tensor(case["weights"], device=device) * first).sum()
            gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        got[name] = {"first call": first, "second call": second}
        got[name] |= {f"gradient in {k}": gradient for k, gradient in zip(names, gradients, strict=True)}
    return got


def parameters(case):
    return ["weight_mean", "weight_rho"] + ["bias_mean", "bias_rho"] * case["bias"]


def shapes(inputs):
    forms = {}
    for name, case in inputs.items():
        shape = (len(case["x"]), case["units"])
        forms[name] = {"first call": shape, "second call": shape}
        forms[name] |= {f"gradient in {k}": maybe(case[k].shape) for k in parameters(case)}
    return forms


def judge(inputs, got):
    for name, case in inputs.items():
        x, answer = case["x"], got[name]
        mean, rho = case["weight_mean"], case["weight_rho"]
        if case["bias"]:
            x = np.column_stack([x, np.ones(len(x))])
            mean, rho = np.column_stack([mean, case["bias_mean"]]), np.column_stack([rho, case["bias_rho"]])
        s, noise = np.logaddexp(0, rho), []
        for call in ("first call", "second call"):
            z = answer[call]
            if not (np.isrealobj(z) and np.isfinite(z).all()):
                return f"{name}: the outputs are not finite real numbers: {describe(z)}."
            drawn = (np.linalg.pinv(x) @ z).T  # (units, inputs): the weights of this call
            if not (np.abs(x @ drawn.T - z) < 1e-4 * (1 + np.abs(z).max())).all():
                return (
                    f"{name}: no weights and bias give these outputs at all {len(x)} rows of x: "
                    "W and b are drawn once a call, and used for every row."
                )
            noise.append((drawn - mean) / s)
        if not (np.abs(noise[0] - noise[1]) < 1e-9).mean() < 0.01:  # in single precision some are equal by chance
            return f"{name}: two calls used equal weights: each call draws W and b afresh, in both modes."
        slope = case["weights"].T @ x
        want = {"mean": slope, "rho": slope * noise[0] / (1 + np.exp(-rho))}
        for k in parameters(case):
            gradient, expected = answer[f"gradient in {k}"], want[k.split("_")[1]]
            if gradient is None:
                return f"{name}: no gradient reaches {k}."
            expected = expected[:, -1] if k.startswith("bias") else expected[:, : case["x"].shape[1]]
            size = 1e-4 * (1 + np.abs(expected).max())
            hint = "W = mean + s noise, s = log(1 + exp(rho)): gradients pass through both."
            if wrong := differs(f"the gradient in {k}, {name}", gradient, expected, rtol=1e-4, atol=size, hint=hint):
                return wrong
        if case["units"] < 1000:
            continue
        # 6 standard errors: a right answer fails once in some ten million runs
        count = case["units"]
        inputs_ = [f"weights of input {k}" for k in range(case["x"].shape[1])] + ["biases"] * case["bias"]
        for e in noise:
            for k, about in enumerate(inputs_):
                if not abs(e[:, k].mean()) < 6 / count**0.5:
                    return f"{name}: the {about} are not centred on their mean."
                if not abs((e[:, k] ** 2).mean() - 1) < 6 * (2 / count) ** 0.5:
                    found = (e[:, k] ** 2).mean() ** 0.5
                    return f"{name}: the spread of the {about} is {found:.3g} times log(1 + exp(rho))."
            if not (np.abs(np.corrcoef(e.T) - np.eye(e.shape[1])) < 6 / count**0.5).all():
                return f"{name}: the weights of different inputs are correlated: each entry has noise of its own."
            if not abs((e**4).mean() - 3) < 1.0:
                return f"{name}: the weights are not normal: fourth moment {(e**4).mean():.3g}, expected 3."
        if not (np.abs((noise[0] * noise[1]).mean(0)) < 6 / count**0.5).all():
            return f"{name}: two calls are correlated: each call draws W and b afresh."


### END HIDDEN TESTS

# %% [markdown]
# ### Question 2.4: the evidence lower bound (1 point)
#
# Estimate the ELBO of the **whole** data set ($N$ = `data_size`) from a minibatch of $B$ of its points and $S$ draws of the weights:
#
# $$\widehat{\mathrm{ELBO}} = \frac NB \sum_{b=1}^B \frac1S \sum_{s=1}^S \log p(y_b \mid x_b, w_s) - \mathrm{KL}(q \,\|\, p).$$
#
# One more published fault to avoid: the *mean* over the data minus the *mean* over the weights. For the logistic model on 400 points
# it weighs the KL 200 times too strongly.
#
# **Arguments.** `model(x)` gives outputs (B, 1) for one fresh draw of the weights; `model.kl()` the KL, in nats, already summed;
# `log_likelihood(outputs, y)` the log-likelihoods (B,) → one number, differentiable, to be maximised.


# %% q2_4 answer
def elbo(model, log_likelihood, x, y, data_size, samples=1):
    """Estimate of the ELBO of all data_size points from the batch x (B, D), y (B,) and this many draws."""
    ### BEGIN SOLUTION
    fit = sum(log_likelihood(model(x), y).mean() for _ in range(samples)) / samples
    return data_size * fit - model.kl()
    ### END SOLUTION


# %% q2_4_test test 1
class Pretender(nn.Module):
    """Stands in for a variational model: call k returns k x theta, and its KL is kl_value theta."""

    def __init__(self, kl_value):
        super().__init__()
        self.theta, self.kl_value, self.calls = nn.Parameter(torch.ones((), device=device)), kl_value, 0

    def forward(self, x):
        self.calls += 1
        return self.calls * self.theta * x[:, :1]

    def kl(self):
        return self.kl_value * self.theta


x, y = torch.tensor([[1.0], [3.0]], device=device), torch.zeros(2, device=device)
pretender = Pretender(5.0)
answer = elbo(pretender, lambda outputs, y: -outputs[:, 0], x, y, 2)
hint = "The batch is all the data: log-likelihoods -1 - 3, minus a KL of 5."
assert matches("ELBO, N = B = 2, S = 1", answer, -9.0, hint=hint)
answer = elbo(Pretender(5.0), lambda outputs, y: -outputs[:, 0], x, y, 20)
assert matches("ELBO, N = 20, B = 2", answer, -45.0, hint="Two points stand for twenty; the KL counts once.")
answer = elbo(Pretender(5.0), lambda outputs, y: -outputs[:, 0], x, y, 2, 3)
hint = "Call the model once a draw: here draw k gives k times -4, their average is -8; the KL counts once."
assert matches("ELBO, three draws", answer, -13.0, hint=hint)
elbo(pretender, lambda outputs, y: -outputs[:, 0], x, y, 2).backward()
hint = "The second call of this model: -2 (1 + 3) from the data and -5 from the KL. Both must keep their gradient."
assert matches("its gradient", pretender.theta.grad, -13.0, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    # the k-th call of the model returns slopes[k] theta sum(x): the value of the answer tells which calls it used
    def case(x, y, slopes, data_size, samples, kl_value, square=0.0, theta=1.0):
        return {
            "x": x,
            "y": y,
            "slopes": [float(v) for v in slopes],
            "data_size": data_size,
            "samples": samples,
            "kl_value": kl_value,
            "square": square,
            "theta": theta,
        }

    x, y = np.array([[1.0], [3.0]]), np.zeros(2)
    cases = {
        "N = B = 2, S = 1": case(x, y, range(1, 9), 2, 1, 5.0),
        "N = 20, B = 2, S = 1": case(x, y, range(1, 9), 20, 1, 5.0),
        "N = 2, B = 2, S = 3": case(x, y, range(1, 9), 2, 3, 5.0),
    }
    for size, samples in ((1, 1), (4, 1), (3, 5)):
        x, y, n = rng.normal(size=(size, 2)), rng.normal(size=size), int(rng.integers(size + 1, 300))
        slopes = rng.permutation(np.linspace(-1.5, 2, samples + 3)) + rng.uniform(-0.05, 0.05, samples + 3)
        numbers = rng.uniform(1, 9), rng.uniform(0.5, 1.5), rng.uniform(0.5, 2)
        name = f"random, N = {n}, B = {size}, S = {samples}"
        cases[name] = case(x, y, slopes, n, samples, *(float(v) for v in numbers))
    return cases


def ask(elbo, inputs):
    from torch import nn

    class Model(nn.Module):
        def __init__(self, slopes, kl_value, theta):
            super().__init__()
            self.theta = nn.Parameter(torch.tensor(theta, device=device))
            self.weight = nn.Parameter(torch.zeros(7, device=device))
            self.slopes, self.kl_value, self.calls = slopes, kl_value, 0

        def forward(self, x):
            slope = self.slopes[self.calls % len(self.slopes)]
            self.calls += 1
            return slope * self.theta * x.sum(1, keepdim=True)

        def kl(self):
            return self.kl_value * self.theta**2

    got = {}
    for name, case in inputs.items():
        model = Model(case["slopes"], case["kl_value"], case["theta"])
        x, y = (torch.tensor(case[k], device=device) for k in ("x", "y"))

        def log_likelihood(outputs, y, square=case["square"]):
            return -outputs[:, 0] - square * (outputs[:, 0] - y) ** 2

        value, gradient = elbo(model, log_likelihood, x, y, case["data_size"], case["samples"]), None
        if getattr(value, "requires_grad", None):
            gradient = torch.autograd.grad(value.sum(), model.theta, allow_unused=True)[0]
        got[name] = {"ELBO": value, "gradient": gradient}
    return got


def shapes(inputs):
    return {name: {"ELBO": (), "gradient": maybe(())} for name in inputs}


def judge(inputs, got):
    for name, case in inputs.items():
        total = case["x"].sum(1)
        outputs = case["theta"] * np.outer(case["slopes"][: case["samples"]], total)
        rest = outputs - case["y"]
        fit = case["data_size"] * (-outputs - case["square"] * rest**2).mean()
        slope = case["data_size"] * ((-1 - 2 * case["square"] * rest) * outputs / case["theta"]).mean()
        want = {"ELBO": fit - case["kl_value"] * case["theta"] ** 2}
        want["gradient"] = slope - 2 * case["kl_value"] * case["theta"]
        hint = "N/B times the sum over the batch, averaged over S calls of the model (one call a draw), minus the KL."
        for key, value in want.items():
            if got[name][key] is None:
                return f"{name}: the ELBO has no gradient: keep it a torch tensor from beginning to end."
            size = 1e-5 * (1 + case["data_size"] * np.abs(rest).max() ** 2 + np.abs(outputs).max())
            if wrong := differs(f"the {key}, {name}", got[name][key], value, rtol=1e-5, atol=size, hint=hint):
                return wrong


### END HIDDEN TESTS

# %% [markdown]
# ### Question 2.5: where it must end (1 point)
#
# Before trusting a stochastic optimiser, find a case where the answer is known. In Bayesian linear regression the posterior is exactly
# $\mathcal N(m_N, \Lambda^{-1})$. Which mean-field Gaussian $q^*$ maximises the ELBO? Minimise $\mathrm{KL}(q \,\|\, p(w \mid \mathcal D))$ over
# the means and the variances of $q$, and return
#
# - the variances of $q^*$ (its means are $m_N$),
# - the **gap** that remains, $\log p(\mathcal D) - \mathrm{ELBO}(q^*) = \mathrm{KL}(q^* \,\|\, p(w \mid \mathcal D))$.
#
# **Shapes.** `precision` $\Lambda$ (D, D) → variances (D,), gap (one number).
#
# <details><summary>Hint</summary>
#
# The divergence $\mathrm{KL}\big(\mathcal N(m, S)\,\|\,\mathcal N(m_N, \Lambda^{-1})\big)$ is
#
# $$\begin{aligned}
# \tfrac12\big( & \operatorname{tr}(\Lambda S) - D - \log\det\Lambda - \log\det S \\
# & {} + (m - m_N)^\top\Lambda(m - m_N)\big) .
# \end{aligned}$$
#
# With $S$ diagonal, which entries of $\Lambda$ remain in the trace?
#
# </details>


# %% q2_5 answer
def mean_field_optimum(precision):
    """Variances (D,) of the best mean-field Gaussian for a Gaussian posterior, and the KL that remains."""
    ### BEGIN SOLUTION
    diagonal = precision.diagonal()
    return 1 / diagonal, 0.5 * (diagonal.log().sum() - torch.logdet(precision))
    ### END SOLUTION


# %% q2_5_test test 1
answer = mean_field_optimum(torch.tensor([[2.0, 1.0], [1.0, 2.0]], device=device))
assert isinstance(answer, tuple | list) and len(answer) == 2, (
    f"end with `return variances, gap`: the answer is one {type(answer).__name__}"
)
hint = "Minimise Lambda_jj s_j^2 - log s_j^2. The marginal variances would be 2/3: mean-field is narrower than that."
assert matches("variances for precision [[2, 1], [1, 2]]", answer[0], [0.5, 0.5], hint=hint)
hint = (
    "Put the optimum back into the KL: the trace and D cancel, and half the difference of two log determinants stays."
)
assert matches("gap", answer[1], 0.5 * math.log(4 / 3), hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    cases = {"precision [[2, 1], [1, 2]]": np.array([[2.0, 1.0], [1.0, 2.0]])}
    cases["precision [[4]]"] = np.array([[4.0]])
    for size in (2, 4):
        root = rng.normal(size=(size, size))
        cases[f"a random precision, D = {size}"] = root @ root.T + 0.5 * np.eye(size)
    return cases


def ask(mean_field_optimum, inputs):
    return {k: mean_field_optimum(torch.tensor(v, device=device)) for k, v in inputs.items()}


def shapes(inputs):
    return {name: [(len(precision),), ()] for name, precision in inputs.items()}


def judge(inputs, got):
    for name, precision in inputs.items():
        variances, gap = got[name]
        hint = "The best variances are 1 / Lambda_jj."
        if wrong := differs(f"the variances, {name}", variances, 1 / np.diag(precision), rtol=1e-5, hint=hint):
            return wrong
        # the gap is minus half the log determinant of the precision scaled to a unit diagonal
        scale = 1 / np.sqrt(np.diag(precision))
        want = -0.5 * np.linalg.slogdet(precision * np.outer(scale, scale))[1]
        hint = "Half the difference of the log determinants of diag(Lambda) and of Lambda."
        if wrong := differs(f"the gap, {name}", gap, want, rtol=1e-4, atol=1e-4, hint=hint):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# Does your layer arrive there? The line of lab 1, 25 points with noise of known precision, trained with your layer and your ELBO.
# The last row shows yet another published habit: Adam with `weight_decay`, on top of the KL. It pulls every parameter to 0, the
# $\rho_j$ too, and $\rho = 0$ is a standard deviation of $\log 2 = 0.69$.


# %%
def fit_elbo(model, log_likelihood, x, y, *, steps, lr, samples=1, weight_decay=0.0):
    """Maximise your elbo by Adam on all data, with a falling step size; returns the ELBO of each step."""
    optimiser = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    history = []
    for _ in tqdm(range(steps), desc="variational inference", leave=False):
        optimiser.zero_grad()
        value = elbo(model, log_likelihood, x, y, len(x), samples)
        (-value / len(x)).backward()
        optimiser.step()
        schedule.step()
        history.append(value.detach())
    return torch.stack(history).cpu()


def bernoulli(outputs, y):
    """Log-likelihoods (B,) of labels 0 and 1 given logits (B, 1)."""
    return -F.binary_cross_entropy_with_logits(outputs[:, 0], y, reduction="none")


# %% tags=["demo"]
NOISE_STD, ALPHA = 0.2, 2.0
x_line, t_line = (v.to(device) for v in toy.line(25, generator=devices.generator(0)))
phi_line = features.linear()(x_line)
exact = bayes.fit_linear(features.linear(), x_line, t_line, alpha=ALPHA, beta=NOISE_STD**-2)
variances, gap = (torch.as_tensor(v).cpu() for v in mean_field_optimum(exact.precision))


def gaussian(outputs, t):
    return torch.distributions.Normal(outputs[:, 0], NOISE_STD).log_prob(t)


def row(name, mean, std):
    print(f"{name:28}" + "".join(f"{float(v):10.4f}" for v in (*mean, *std)))


print(f"{'':28}{'mean 0':>10}{'mean 1':>10}{'std 0':>10}{'std 1':>10}")
row("exact posterior", exact.mean, exact.covariance.diagonal().sqrt())
row("mean-field optimum", exact.mean, variances.sqrt())
for decay, name in ((0.0, "your layer, trained"), (0.05, "the same with weight decay")):
    torch.manual_seed(0)
    layer = LinearVariational(2, 1, prior_std=ALPHA**-0.5, bias=False).to(device)
    fit_elbo(layer, gaussian, phi_line, t_line, steps=1500, lr=0.02, samples=8, weight_decay=decay)
    row(name, layer.weight_mean[0].detach(), F.softplus(layer.weight_rho)[0].detach())
    if decay == 0:
        with torch.no_grad():
            bound = elbo(layer, gaussian, phi_line, t_line, 25, samples=4000)
difference = float(exact.log_evidence) - float(bound)
print(f"log evidence - ELBO of your layer: {difference:.2f} +- 0.04 (from 4000 draws); the gap: {float(gap):.2f}")

# %% [markdown]
# Now the logistic model of part 1. In two dimensions the exact posterior can be computed on a grid, so we can see what the two
# Gaussians make of it.

# %% tags=["demo"]
torch.manual_seed(0)
logistic = LinearVariational(2, 1, prior_std=PRIOR_STD, bias=False, initial_std=1.0).to(device)
fit_elbo(logistic, bernoulli, x_blobs, y_blobs, steps=1500, lr=0.1, samples=2)
m, s = logistic.weight_mean[0].detach().cpu(), F.softplus(logistic.weight_rho)[0].detach().cpu()
laplace = bayes.fit_laplace(map_model, x_blobs, y_blobs, prior_precision=PRIOR_STD**-2)

axis = torch.linspace(-18, 30, 241)
grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)  # (241, 241, 2) weights
log_density = -F.softplus(-(grid @ x_blobs.T.cpu()) * (2 * y_blobs.cpu() - 1)).sum(-1)
log_density = log_density - grid.square().sum(-1) / (2 * PRIOR_STD**2)
density = torch.exp(log_density - log_density.max())


def ellipse(mean, covariance, radius):
    angle = torch.linspace(0, 2 * math.pi, 100)
    circle = radius * torch.stack([angle.cos(), angle.sin()])
    return mean[:, None] + torch.linalg.cholesky(covariance) @ circle


plt.figure(figsize=style.figsize(0.75, 4.6))
plt.contourf(axis, axis, density, levels=[0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0], cmap="Greys")
for name, mean, covariance, color in (
    ("Laplace", laplace.mean.cpu(), laplace.covariance.cpu(), "orange"),
    ("mean-field", m, torch.diag(s**2), "blue"),
):
    for radius in (1, 2):
        label = f"{name}, 1 and 2 std" if radius == 1 else None
        plt.plot(*ellipse(mean, covariance, radius), color=style.COLORS[color], label=label)
    plt.plot(*mean, "x", color=style.COLORS[color])
plt.gca().set(xlabel="$w_1$", ylabel="$w_2$", aspect="equal", title="posterior of the two weights (grey: exact)")
plt.legend(loc="lower left")
plt.show()

# %% tags=["demo"]
figure, axes = plt.subplots(1, 3, figsize=style.figsize(1.8, 3.4))
weights = density.flatten() / density.sum()
some = grid.reshape(-1, 2)[torch.multinomial(weights, 400, generator=devices.generator(0), replacement=True)]


def logistic_draws(points):
    with torch.no_grad():
        return torch.stack([torch.sigmoid(logistic(points)[:, 0]) for _ in range(400)])


show_confidence(lambda points: two_classes(torch.sigmoid(some.to(device) @ points.T)), "exact posterior", axes[0])
show_confidence(lambda points: laplace.predict(points, link="mc", samples=400), "Laplace", axes[1])
show_confidence(lambda points: two_classes(logistic_draws(points)), "mean-field variational", axes[2])
plt.show()

# %% [markdown]
# And a network: 2-50-1 on the two moons, 200 points. It is nothing but two of your layers.

# %%
MOONS_PRIOR_STD = 3.0
x_moons, y_moons = toy.moons(200, noise_std=0.1, generator=devices.generator(0))
x_moons, y_moons = x_moons.to(device), y_moons.to(device, torch.float64)


class VariationalMLP(nn.Sequential):
    """Layers in a row; the KL of independent layers is the sum of theirs."""

    def kl(self):
        return sum(layer.kl() for layer in self if hasattr(layer, "kl"))


# %% tags=["demo"]
torch.manual_seed(0)
variational_mlp = VariationalMLP(
    LinearVariational(2, 50, prior_std=MOONS_PRIOR_STD),
    nn.ReLU(),
    LinearVariational(50, 1, prior_std=MOONS_PRIOR_STD),
).to(device)
history = fit_elbo(variational_mlp, bernoulli, x_moons, y_moons, steps=3000, lr=0.02)


def mlp_draws(points, samples=100):
    with torch.no_grad():
        return torch.stack([torch.sigmoid(variational_mlp(points)[:, 0]) for _ in range(samples)])


figure, (left, right) = plt.subplots(1, 2, figsize=style.figsize(1.3, 3.4))
left.plot(history, lw=0.5, color=style.COLORS["sky"])
left.plot(history.unfold(0, 100, 100).mean(1).repeat_interleave(100), color=style.COLORS["blue"])
left.set(xlabel="step", ylabel="ELBO (nats)", ylim=(-400, 0), title="ELBO, one draw a step, and its mean over 100")
classification.decision_surface(
    lambda points: two_classes(mlp_draws(points)), x_moons, y_moons, show="entropy", margin=2.0, steps=80, ax=right
)
right.set(title="predictive entropy, 100 draws")
plt.show()
accuracy = ((mlp_draws(x_moons).mean(0) > 0.5) == (y_moons > 0.5)).double().mean()
print(f"accuracy {float(accuracy):.3f}, KL {float(variational_mlp.kl().detach()):.0f} nats")

# %% [markdown]
# ### Question 2.6: a comment (1 point, read by a person)
#
# Three to five sentences on the figures of the logistic model. Where does Laplace put its Gaussian, where does the variational one go, and
# which property of each method explains it? Which of the two leaves out the correlation of the weights, and what does that do to its
# width?

# %% q2_6 text 1 [markdown]
# <!-- BEGIN SOLUTION -->
# *Model answer.* The posterior of separable data is a cone that is cut off only by the prior: all weights inside it separate the
# 20 points. Laplace sits at the mode, near the tip of the cone, with the curvature found there; it is local, so it knows nothing of the cone and spills over
# to weights that classify the data wrongly (too much doubt across the data). Variational inference minimises $\mathrm{KL}(q\,\|\,p)$, which
# punishes $q$ for any mass where $p$ has none: it moves into the cone, away from the mode, and stays inside it (too little doubt rather than too much).
# Its factors are independent, so its ellipse has no tilt; for a correlated posterior its variances are those of the
# *conditionals*, $1/\Lambda_{jj}$, never larger than the marginal ones: it is too narrow, and the more so the stronger the correlation.
#
# *Rubric.* ½ point: Laplace = mode and local curvature, variational = inside the mass of the posterior because of the direction
# of the KL. ½ point: mean-field ignores the correlation and is therefore too narrow ($1/\Lambda_{jj}$ against $(\Lambda^{-1})_{jj}$).
# <!-- END SOLUTION -->

# %% [markdown]
# ## 3. Dropout, and a comparison
#
# *This part needs the given cells above, not your answers to parts 1 and 2.*
#
# Dropout sets each hidden unit to zero with probability $p$ and divides the others by $1 - p$. **MC Dropout** leaves it on at
# prediction: each pass through the network is a draw, from a distribution that the training has shaped.

# %% tags=["demo"]
torch.manual_seed(0)
dropout_mlp = MLP(2, 1, width=50, depth=1, dropout=0.2).to(device)
train(dropout_mlp, supervised(logistic_loss), x_moons, y_moons, epochs=1500, learning_rate=1e-2)
dropout_mlp.eval()
print(dropout_mlp)

# %% [markdown]
# ### Question 3.1: find the fault, draws that are all the same (1 point)
#
# This is how a published lab predicts with MC Dropout:
#
# ```python
# def mc_dropout(model, x, samples):
#     model.eval()
#     model.training = True  # dropout is on again ... is it?
#     with torch.no_grad():
#         return torch.stack([torch.sigmoid(model(x)[:, 0]) for _ in range(samples)])
# ```
#
# Its rows are all equal: not one unit is dropped. (Which module asks which flag?) Write the function as it should be:
#
# - every `nn.Dropout` of the model is on, however deep it lies;
# - everything else is in evaluation mode: a BatchNorm layer in training mode would mix the inputs of a batch, and learn from them;
# - afterwards each module is in the mode in which it came.
#
# **Shapes.** `model(x)` gives logits (N, 1) → probabilities of class 1, (samples, N), one row a pass.
#
# <details><summary>Hint</summary>
#
# `model.modules()` lists the model and all its parts, at every depth; `isinstance(module, nn.Dropout)` finds the right ones;
# `module.train(True)` sets the flag of a module and of all that is inside it, `module.training = True` that of the module alone.
#
# </details>


# %% q3_1 answer
def mc_dropout(model, x, samples):
    """Probabilities of class 1 (samples, N) at x (N, D), each row a pass with dropout on; the model keeps its modes."""
    ### BEGIN SOLUTION
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = isinstance(module, nn.Dropout)
        with torch.no_grad():
            return torch.stack([torch.sigmoid(model(x)[:, 0]) for _ in range(samples)])
    finally:
        for module, training in modes:
            module.training = training
    ### END SOLUTION


# %% q3_1_test test 1
inner = nn.Sequential(nn.BatchNorm1d(4), nn.Sequential(nn.Dropout(0.5)))
model = nn.Sequential(inner, nn.Linear(4, 1, bias=False)).to(device).eval()
nn.init.ones_(model[1].weight)
inner[0].train()  # BatchNorm comes in training mode, all the rest in evaluation mode
before = [module.training for module in model.modules()]
x = torch.ones(5000, 4, device=device)
answer = mc_dropout(model, x, 4)
assert answer is not None, "mc_dropout returned None: does it end with `return`?"
answer = torch.as_tensor(answer)
assert answer.shape == (4, 5000), f"one row a pass: mc_dropout must return (4, 5000) here, not {tuple(answer.shape)}"
assert ((answer >= 0) & (answer <= 1)).all(), (
    "mc_dropout must return probabilities, between 0 and 1: is the sigmoid there?"
)
logits = torch.logit(answer.cpu())
# four units of 1, each 0 or 2 with probability 1/2: mean 4, variance 4; tolerances of 6 standard errors
hint = "Is it 0? Then BatchNorm was not in evaluation mode: in training mode it subtracts the mean of the batch."
assert matches("mean of the logits", logits.mean(), 4.0, rtol=1e-4, atol=0.09, hint=hint)
assert logits.std() > 0, "all passes are equal: the flag that counts is the one of each nn.Dropout module"
assert matches("variance of the logits", logits.var(), 4.0, rtol=0.06, hint="p/(1-p) times the sum of squares is 4.")
after = [module.training for module in model.modules()]
assert after == before, (
    "each module must leave in the mode in which it came: note `module.training` of all before you change it"
)
assert float(model[0][0].running_mean.abs().max()) == 0, "BatchNorm has learned from the test data"


### BEGIN HIDDEN TESTS
def draw(rng):
    def case(p, weight, x, rows, flags, mean, variance):
        return {
            "p": p,
            "weight": weight,
            "x": x,
            "rows": rows,
            "samples": 4,
            "flags": flags,
            "mean": mean,
            "variance": variance,
        }

    ones = np.ones(4)
    # BatchNorm comes in training mode, all the rest in evaluation mode
    some = [bool(v) for v in rng.integers(0, 2, 7)]
    cases = {
        "BatchNorm in training mode": case(0.5, ones, ones, 5000, [False] * 4 + [True] + [False] * 2, 0 * ones, ones)
    }
    for name, flags in (("random flags", some), ("the opposite flags", [not v for v in some])):
        units = int(rng.integers(3, 6))
        parts = rng.uniform(0.3, 0.8, units), rng.uniform(0.4, 1.0, units) * rng.choice([-1, 1], units)
        buffers = rng.uniform(-0.2, 0.2, units), rng.uniform(0.8, 1.5, units)
        cases[name] = case(float(rng.uniform(0.2, 0.5)), *parts, 5000, flags, *buffers)
    cases["one input"] = case(0.5, ones[:3], ones[:3], 1, some, np.zeros(3), ones[:3])
    return cases


def ask(mc_dropout, inputs):
    from torch import nn

    class Block(nn.Module):
        def __init__(self, units, p):
            super().__init__()
            self.parts = nn.ModuleList([nn.Sequential(nn.BatchNorm1d(units), nn.Dropout(p))])

        def forward(self, x):
            return self.parts[0](x)

    got = {}
    for name, case in inputs.items():
        units = len(case["x"])
        model = nn.Sequential(Block(units, case["p"]), nn.Linear(units, 1, bias=False)).to(device)
        norm = model[0].parts[0][0]
        with torch.no_grad():
            model[1].weight[0] = torch.tensor(case["weight"], device=device)
            norm.running_mean[:] = torch.tensor(case["mean"], device=device)
            norm.running_var[:] = torch.tensor(case["variance"], device=device)
        for module, flag in zip(model.modules(), case["flags"], strict=True):
            module.training = flag
        x = torch.tensor(case["x"], device=device).repeat(case["rows"], 1)
        got[name] = {
            "probabilities": mc_dropout(model, x, case["samples"]),
            "modes of the modules afterwards": [module.training for module in model.modules()],
            "running mean of BatchNorm": norm.running_mean,
            "running variance of BatchNorm": norm.running_var,
            "inputs afterwards": x[:1],
        }
    return got


def shapes(inputs):
    forms = {}
    for name, case in inputs.items():
        units = (len(case["x"]),)
        forms[name] = {
            "probabilities": (case["samples"], case["rows"]),
            "modes of the modules afterwards": [()] * len(case["flags"]),
            "running mean of BatchNorm": units,
            "running variance of BatchNorm": units,
            "inputs afterwards": (1, *units),
        }
    return forms


def judge(inputs, got):
    from itertools import product

    for name, case in inputs.items():
        answer, p = got[name], case["p"]
        given = {"running mean of BatchNorm": "mean", "running variance of BatchNorm": "variance"}
        probs = answer["probabilities"]
        if not (np.isrealobj(probs) and (probs > 0).all() and (probs < 1).all()):
            return f"{name}: probabilities between 0 and 1 were expected, got {describe(probs)}. Is the sigmoid there?"
        logits = np.log(probs) - np.log1p(-probs)
        parts = case["weight"] * (case["x"] - case["mean"]) / np.sqrt(case["variance"] + 1e-5)  # the eps of BatchNorm
        # every unit is 0 or 1/(1 - p) times itself, so a logit is one of 2^D numbers
        sums = np.array(
            [
                sum(part * on for part, on in zip(parts, mask, strict=True))
                for mask in product((0, 1), repeat=len(parts))
            ]
        )
        off = np.abs(logits[..., None] - sums / (1 - p)).min(-1)
        if not (off < 5e-3).all():
            return (
                f"{name}: a logit is {logits.flat[int(off.argmax())]:.4g}, which no choice of dropped units gives: dropout with "
                f"p = {p:.3g} is the only thing that is on (BatchNorm is in evaluation mode)."
            )
        if case["rows"] > 1000:
            variance = p / (1 - p) * (parts**2).sum()
            # 6 standard errors (4th moment of a sum of two-point variables at most 3 var^2 + sum of their own)
            fourth = (parts**4).sum() * p * (1 - 3 * p + 3 * p * p) / (1 - p) ** 3 + 3 * variance**2
            if not abs(logits.mean() - parts.sum()) < 6 * (variance / logits.size) ** 0.5:
                return f"{name}: the logits have mean {logits.mean():.4g}, expected {parts.sum():.4g}."
            if not abs(logits.var() - variance) < 6 * (fourth / logits.size) ** 0.5:
                return (
                    f"{name}: the logits have variance {logits.var():.4g}, expected {variance:.4g}: "
                    "every nn.Dropout must be on, and once."
                )
            if not (np.abs(np.corrcoef(logits) - np.eye(len(logits))) < 6 / case["rows"] ** 0.5).all():
                return f"{name}: the rows are correlated: each pass has masks of its own."
        if [bool(v) for v in answer["modes of the modules afterwards"]] != case["flags"]:
            return f"{name}: each module must leave in the mode in which it came."
        for key, source in given.items():
            if wrong := differs(f"the {key}, {name}", answer[key], case[source], hint="It learned from the test data."):
                return wrong
        if wrong := differs(f"the inputs afterwards, {name}", answer["inputs afterwards"][0], case["x"]):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# ### Question 3.2: which model is dropout? (1 point)
#
# Take a linear model with dropout on its inputs: $\hat y_n = \sum_j w_j\, x_{nj}\, \frac{\mu_{nj}}{1 - p}$, where the masks $\mu_{nj}$ are independent,
# 0 with probability $p$ and 1 otherwise. Training minimises, on average over the masks,
#
# $$\mathbb E \sum_{n=1}^N (y_n - \hat y_n)^2 .$$
#
# Compute this expectation in closed form. You will recognise a regularised regression; and, in its second term, the variance of the
# predictions of MC Dropout.
#
# **Shapes.** `x` (N, D); `y` (N,); `w` (D,); `p` between 0 and 1 → one number.
#
# <details><summary>Hint</summary>
#
# $\mathbb E\,(y - \hat y)^2 = (y - \mathbb E \hat y)^2 + \operatorname{Var}\hat y$. Mean and variance of one $\mu/(1 - p)$ are all you need.
#
# </details>


# %% q3_2 answer
def expected_dropout_loss(x, y, w, p):
    """Expected sum of squares of a linear model w (D,) with dropout of probability p on its inputs x (N, D)."""
    ### BEGIN SOLUTION
    variances = p / (1 - p) * (x**2 @ w**2)
    return ((y - x @ w) ** 2 + variances).sum()
    ### END SOLUTION


# %% q3_2_test test 1
x, y, w = (torch.tensor(v, device=device) for v in ([[1.0, 2.0], [1.0, 0.0]], [3.0, 3.0], [2.0, 1.0]))
hint = "No dropout, no penalty: the residuals are -1 and 1."
assert matches("p = 0", expected_dropout_loss(x, y, w, 0.0), 2.0, hint=hint)
hint = "2 from the residuals; the masks divided by 1 - p have variance p/(1 - p) = 1, so 4 + 4 and 4 are added."
assert matches("p = 1/2", expected_dropout_loss(x, y, w, 0.5), 14.0, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    x, y, w = np.array([[1.0, 2.0], [1.0, 0.0]]), np.array([3.0, 3.0]), np.array([2.0, 1.0])
    cases = {"two points, p = 0": (x, y, w, 0.0), "two points, p = 1/2": (x, y, w, 0.5)}
    cases["one point, p = 1/2"] = (np.array([[2.0]]), np.array([1.0]), np.array([1.0]), 0.5)
    for size in (1, 4):
        p, x, y, w = float(rng.uniform(0.1, 0.8)), rng.normal(size=(size, 3)), rng.normal(size=size), rng.normal(size=3)
        cases[f"random data, N = {size}, D = 3, p = {p:.3f}"] = (x, y, w, p)
    return cases


def ask(expected_dropout_loss, inputs):
    got = {}
    for name, (x, y, w, p) in inputs.items():
        got[name] = expected_dropout_loss(*(torch.tensor(v, device=device) for v in (x, y, w)), p)
    return got


def shapes(inputs):
    return dict.fromkeys(inputs, ())


def judge(inputs, got):
    from itertools import product

    for name, (x, y, w, p) in inputs.items():
        want = 0.0
        for mask in product((0, 1), repeat=len(w)):  # all masks
            probability = p ** mask.count(0) * (1 - p) ** mask.count(1)
            want += probability * ((y - (x * mask) @ w / (1 - p)) ** 2).sum()
        hint = "The sum of squares at the mean, plus the variance of each prediction."
        if wrong := differs(f"the expected loss, {name}", got[name], want, rtol=1e-5, atol=1e-5, hint=hint):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# So dropout is ridge regression with a penalty $\frac{p}{1-p}\sum_j w_j^2 \|x_{\cdot j}\|^2$. It is variational inference, too, with weight decay in
# the place of the KL and the family $w_j\mu_j/(1-p)$, whose only free parameter is the mean. The relative spread of such a weight is
# $\sqrt{p/(1-p)}$ whether there are ten data or ten million, because $p$ was chosen beforehand. Keep this in mind for the last question.
#
# ### Question 3.3: two kinds of doubt (1 point)
#
# Given the probabilities of class 1 under each draw, return at each input, in nats,
#
# - the **predictive entropy** $H[\bar p]$ of the average $\bar p = \frac1S\sum_s p_s$: all the doubt there is;
# - the **mutual information** $H[\bar p] - \frac1S\sum_s H[p_s]$ between label and weights: the part that comes from the draws
#   disagreeing, and that more data would remove.
#
# Here $H[p] = -p\log p - (1-p)\log(1-p)$, with $0\log 0 = 0$: probabilities of exactly 0 and 1 do occur.
#
# **Shapes.** `probs` (S, N) → entropy (N,), mutual information (N,).
#
# <details><summary>Hint</summary>
#
# `torch.special.entr(p)` is $-p\log p$, also at 0.
#
# </details>


# %% q3_3 answer
def entropy_and_information(probs):
    """Predictive entropy (N,) and mutual information (N,), in nats, of probabilities of class 1, probs (S, N)."""

    ### BEGIN SOLUTION
    def h(p):
        return torch.special.entr(p) + torch.special.entr(1 - p)

    total = h(probs.mean(0))
    return total, total - h(probs).mean(0)
    ### END SOLUTION


# %% q3_3_test test 1
probs = torch.tensor([[0.5, 0.0, 1.0], [0.5, 1.0, 1.0]], device=device)
answer = entropy_and_information(probs)
pair = len(answer) == 2 if isinstance(answer, tuple | list) else getattr(answer, "shape", None) == (2, 3)
assert pair, f"end with `return entropy, information`: the answer is one {type(answer).__name__}"
hint = "Averages 1/2, 1/2, 1: log 2 twice, then 0. NaN? Then 0 log 0 was computed. 1.0? Then the logarithm is that of base 2."
assert matches("predictive entropy", answer[0], [math.log(2), math.log(2), 0], hint=hint)
hint = "Input 0: both draws say 1/2 and agree, so 0. Input 1: each is certain, of opposite labels, so all of log 2."
assert matches("mutual information", answer[1], [0, math.log(2), 0], hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    cases = {"two draws, three inputs": np.array([[0.5, 0.0, 1.0], [0.5, 1.0, 1.0]])}
    cases["two draws that agree, one input"] = np.array([[0.25], [0.25]])
    for samples, size in ((1, 3), (6, 5)):
        probs = rng.uniform(0.01, 0.99, (samples, size))
        probs[0, 0], probs[-1, 1] = 0.0, 1.0
        cases[f"random, S = {samples}, N = {size}"] = probs
    return cases


def ask(entropy_and_information, inputs):
    return {k: entropy_and_information(torch.tensor(probs, device=device)) for k, probs in inputs.items()}


def shapes(inputs):
    return {name: [(probs.shape[1],), (probs.shape[1],)] for name, probs in inputs.items()}


def judge(inputs, got):
    from scipy.special import rel_entr, xlogy

    for name, probs in inputs.items():
        entropy, information = got[name]
        mean = probs.mean(0)
        want = 0.0 - xlogy(mean, mean) - xlogy(1 - mean, 1 - mean)
        hint = "H of the average over the draws, in nats, with 0 log 0 = 0."
        if wrong := differs(f"the predictive entropy, {name}", entropy, want, atol=1e-5, rtol=1e-5, hint=hint):
            return wrong
        # the mean divergence of the draws from their average
        want = (rel_entr(probs, mean) + rel_entr(1 - probs, 1 - mean)).mean(0)
        hint = "The entropy of the average minus the average of the entropies."
        if wrong := differs(f"the mutual information, {name}", information, want, atol=1e-5, rtol=1e-5, hint=hint):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# ### All five on one figure
#
# The same data, the same network (2-50-1), the same prior where there is one. The methods are those of `coursekit`, which follow the
# formulas that you have written; the entropy and the mutual information are yours. The variational network trains for some ten seconds.

# %% tags=["demo"]
torch.manual_seed(0)
decay = 1 / (len(x_moons) * MOONS_PRIOR_STD**2)
map_mlp = MLP(2, 1, width=50, depth=1).to(device)
train(map_mlp, supervised(logistic_loss), x_moons, y_moons, epochs=1500, learning_rate=1e-2, weight_decay=decay)
laplace_mlp = bayes.fit_laplace(map_mlp, x_moons, y_moons, weights="all", prior_precision=MOONS_PRIOR_STD**-2)

layers = (bayes.LinearVariational(n, m, prior_std=MOONS_PRIOR_STD) for n, m in ((2, 50), (50, 1)))
variational = bayes.VariationalNetwork(nn.Sequential(next(layers), nn.ReLU(), next(layers)).to(device))
objective = variational.negative_elbo(data_size=len(x_moons))
train(variational, objective, x_moons, y_moons, epochs=3000, learning_rate=1e-2)

ensemble = bayes.train_ensemble(
    lambda: MLP(2, 1, width=50, depth=1),
    x_moons,
    y_moons,
    members=5,
    epochs=800,
    batch_size=None,
    learning_rate=1e-2,
    weight_decay=decay,
    generator=devices.generator(0),
)


def fresh():
    return devices.generator(0, device=device)  # each method draws from a generator of its own


methods = {
    "MAP": bayes.Ensemble([map_mlp]).predict,
    "Laplace": lambda points: laplace_mlp.predict(points, link="mc", samples=100, generator=fresh()),
    "variational": lambda points: variational.predict(points, samples=100, generator=fresh()),
    "MC Dropout": lambda points: bayes.MCDropout(dropout_mlp).predict(points, samples=100, generator=fresh()),
    "ensemble of 5": ensemble.predict,
}

# %% tags=["demo"]
axis = torch.linspace(-6, 7, 90), torch.linspace(-5.5, 6, 90)
points = torch.stack(torch.meshgrid(*axis, indexing="xy"), -1).reshape(-1, 2).to(device)
figure, axes = plt.subplots(2, 5, figsize=style.figsize(1.8, 5.4), sharex=True, sharey=True)
colors = [style.COLORS["sky" if y < 0.5 else "orange"] for y in y_moons.tolist()]
for (name, predict), column in zip(methods.items(), axes.T, strict=True):
    maps = entropy_and_information(predict(points).probs[..., 1])
    for ax, values in zip(column, maps, strict=True):
        surface = torch.as_tensor(values).cpu().reshape(90, 90)
        image = ax.pcolormesh(*axis, surface, vmin=0, vmax=math.log(2), shading="gouraud", rasterized=True)
        ax.scatter(*x_moons.T.cpu(), s=3, c=colors)
        ax.grid(False)
    column[0].set(title=name)
axes[0, 0].set(ylabel="predictive entropy")
axes[1, 0].set(ylabel="mutual information")
figure.colorbar(image, ax=axes, label="nats", shrink=0.7)
plt.show()

# %% tags=["demo"]
angle = torch.linspace(0, 2 * math.pi, 361, device=device)[:-1]
centre = x_moons.mean(0)
print(f"{'':16}{'accuracy':>10}   mean confidence at distance r from the middle of the data, all directions")
print(f"{'':16}{'':>10}" + "".join(f"{f'r = {r}':>10}" for r in (2, 5, 20, 100)) + f"{'MI, r = 100':>14}")
for name, predict in methods.items():
    accuracy = (predict(x_moons).labels == y_moons).double().mean()
    rings = [predict(centre + r * torch.stack([angle.cos(), angle.sin()], 1)) for r in (2, 5, 20, 100)]
    cells = "".join(f"{float(ring.confidence.mean()):10.3f}" for ring in rings)
    print(f"{name:16}{float(accuracy):10.3f}{cells}{float(rings[-1].mutual_information.mean()):14.3f}")

# %% [markdown]
# ### Question 3.4: a comparison (2 points, read by a person)
#
# Eight to ten sentences, with the figure and the table as evidence.
#
# 1. What does each of the five say far from the data, and why? Where do entropy and mutual information tell the same story, where not?
# 2. Which of them would know that it does not know, on an input from far away, and in which directions would even these be wrong?
# 3. What would change with ten times as many data, for MC Dropout and for the others?

# %% q3_4 text 2 [markdown]
# <!-- BEGIN SOLUTION -->
# *Model answer.* MAP doubts only along its decision boundary: a ReLU network is linear on each ray far out, so its logit grows and its
# confidence tends to 1 almost everywhere. It is one function, so its mutual information is zero: what entropy it has is between the classes only.
# Laplace and variational inference average functions whose boundaries leave the data in different directions: the line opens into a
# fan, the entropy in it comes almost entirely from mutual information, and the confidence on the ring stays below 1 as the distance grows,
# as in the far-field limit of question 1.9. Laplace is the widest (it sits at one mode, with its local curvature and all correlations), mean-field is narrower.
# The five members of the ensemble agree closely here: same data, same prior, nearly the same boundary; MC Dropout gives a noisy
# band around one boundary and is sure elsewhere. Near the data, in the gap between the moons, all five have some entropy and little mutual information.
#
# Laplace and variational inference would raise an alarm in the fans; but outside them, for instance beyond either moon, even they are
# almost certain although no point was seen there either: the doubt is about where the boundary runs, not about whether the input is
# familiar. So none of the five detects every foreign input. With ten times as many data the posteriors of Laplace and variational inference contract (roughly like
# $1/\sqrt N$) and the fans close; the members of the ensemble come still closer together. The relative spread of dropout, $\sqrt{p/(1-p)}$ a unit, is fixed by $p$, which no amount of
# data changes: it is no measure of how much has been learned, unless $p$ itself is tuned.
#
# *Rubric.* ½ point: MAP tends to confidence 1 far away and has zero mutual information. ½ point: Laplace and variational inference
# open fans and keep a confidence below 1, and this is mutual information (draws disagree); dropout and ensemble stay close to one boundary.
# ½ point: the limits of even the good ones (certain outside the fan; doubt about the boundary is no detector of foreign inputs). ½ point: the effect of
# more data, and that the spread of dropout is set by $p$ and not by $N$. Observations that contradict the model answer but fit the
# student's own figure earn the points.
# <!-- END SOLUTION -->

# %% [markdown]
# ## What to take away
#
# - A single weight vector extrapolates with certainty. Averaging over a posterior is what bounds the confidence far away.
# - Posterior precision is a *sum* over the data, and the KL a *sum* over the weights. Most published faults here are a mean in the place of
#   a sum, or a gradient that got lost; a case with an exact answer finds both in minutes.
# - Laplace is local, mean-field is too narrow, dropout has a width that nobody fitted. Each is an approximation, and each errs in a way
#   that you can now name.
# - Entropy is all the doubt; mutual information is the part that more data would remove.
#
# The derivations are in session 6 of the book; lab 3 takes these tools to images.
