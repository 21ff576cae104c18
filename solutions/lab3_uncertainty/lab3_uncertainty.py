# ---
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
# # Lab 3 · Uncertainty in practice
#
# **Goal.** A network reads digits, and is right 98 times in 100. Which two are wrong? What does it say when it is shown
# a letter? You write the measures that answer these questions, find the faults of published code that answered them
# wrongly, and end with a rule that accepts an image, hands it to a person, or rejects it.
#
# **Time.** About three hours. The notebook itself runs in about a minute on one core of a laptop, without network, and
# unchanged on a GPU.
#
# ![Three panels. Left: the twelve test digits on which a network is least certain, the misread ones framed; most are
# hard for people, too. Middle: precision against recall of finding the misread digits by five scores; the curves cross
# each other and their order is not clear. Right: distance to the nearest class against the largest mean probability, for
# 500 digits and 125 letters, in three colours for accept, hand over and reject: nearly all accepted images are sure
# digits, most letters are rejected, and what is handed over lies between, with overlap.](result.png)
#
# *What you will have at the end: the digits your network doubts, five ways to find its errors, and a rule that knows
# when to ask.*
#
# **How it is graded.** 20 points. Below each question there is a check that you can run as often as you like: it says
# what was expected, what came, and where to look. When you hand in, the same checks run again together with others on
# random inputs (16 points), and someone reads the four texts you write: one proof and three comments (4 points).
#
# - Write in the place of `raise NotImplementedError(...)`. Add cells wherever you like; the check cells are locked.
# - Each question is graded on its own: a wrong answer costs that question and no other. Each of the four parts starts
#   from what the given cells of section 0 made: run these, and begin with any part. (*Run All* stops at the first answer
#   that is missing.)
# - You write the measures with `torch` (or NumPy); training and figures are given. `coursekit` has every measure
#   ready-made: use it to compare, not to answer.
# - Before you hand in: *Kernel → Restart Kernel and Run All Cells*.

# %%
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
from torch.nn import functional as F

from coursekit import data
from coursekit import device as devices
from coursekit.bayes.dropout import MCDropout
from coursekit.checks import matches
from coursekit.nets import MLP, LeNet
from coursekit.plots import calibration as draw_calibration
from coursekit.plots import detection as draw
from coursekit.plots import images, style
from coursekit.train import supervised, train
from coursekit.uncertainty import calibration, detection, failure, ood

device = devices.setup(seed=0)  # the GPU if there is one
style.use()
print(f"torch {torch.__version__} on {device}")

# %% [markdown]
# ## 0. A network that reads digits (given)
#
# The images are a part of MNIST that ships with the course: 10,000 to learn from, 5,000 for the test, 28 × 28 pixels,
# shifted and scaled by the usual $(x - 0.1307)/0.3081$. The last 15 % of the 10,000 are **held out**: the network never
# trains on them, and whatever has to be chosen afterwards (a temperature, a threshold) is chosen there.
# *The test set chooses nothing.*

# %%
# True: all 70,000 images, downloaded once (11 MB), and 20 epochs: about seven minutes on one core. Hand in with False: the
# grader has no network, and would fall back to the subset.
FULL = False
FOREIGN = "letters"  # "kmnist": Japanese characters instead of letters in part III, downloaded once

try:
    x_all, y_all = data.mnist("train", full=FULL, normalize=True, device=device)
    x_test, y_test = data.mnist("test", full=FULL, normalize=True, device=device)
except ConnectionError as error:
    print(f"The bundled subset it is, for the full set did not come:\n{error}")
    x_all, y_all = data.mnist("train", normalize=True, device=device)
    x_test, y_test = data.mnist("test", normalize=True, device=device)
cut = round(0.85 * len(x_all))
x_train, y_train, x_held, y_held = x_all[:cut], y_all[:cut], x_all[cut:], y_all[cut:]
print(f"{len(x_train)} images to train on, {len(x_held)} held out, {len(x_test)} for the test")

# %% [markdown]
# The network is a LeNet: two convolutions, and two linear layers with **dropout** of 1/2 and 1/4 before them. It is
# trained by Adam in two stages, the second with a quarter of the learning rate. Each takes some seconds.

# %%
net = LeNet().to(device)
shuffle = devices.generator(0)
first, second = (14, 6) if FULL else (4, 3)  # epochs
objective = supervised(F.cross_entropy)
options = {"batch_size": 100, "generator": shuffle}
history = train(net, objective, x_train, y_train, epochs=first, learning_rate=2e-3, **options)

# %%
history = train(net, objective, x_train, y_train, epochs=second, learning_rate=5e-4, **options)
net.eval()  # from here on the network is used, not trained: dropout off


def run(x):
    """Logits (N, 10) of images (N, 1, 28, 28), dropout off."""
    with torch.no_grad():
        return torch.cat([net(batch) for batch in x.split(500)])


logits_test, logits_held = run(x_test), run(x_held)
correct = logits_test.argmax(dim=1) == y_test
print(f"{100 * correct.double().mean():.2f} % of the test digits are read rightly, {int((~correct).sum())} are not")

# %% [markdown]
# **MC Dropout** keeps the dropout on and runs the network many times; question 1.1 says how. Here are 50 passes over
# the test digits, `mc_test.probs` of shape (50, N, 10). (The convolutions, which no dropout touches, are computed only
# once.)

# %% tags=["demo"]
mc_test = MCDropout(net).predict(x_test, samples=50, generator=devices.generator(1, device=device))

# %% [markdown]
# The last of the given cells prepares part IV, and nothing before it: the **evidence** that a system sees of an image
# before it decides. 500 of the held-out digits are mixed with 125 letters, for a rehearsal; the others are `known`. The
# 500 are spread evenly: in MNIST neighbours are alike, so the first 500 would be a poor sample of the rest.


# %%
class Evidence(NamedTuple):
    """What a system sees of N images before it decides."""

    probs: torch.Tensor  # (N, 10) mean probabilities of MC Dropout
    mutual_information: torch.Tensor  # (N,) in nats
    energy: torch.Tensor  # (N,) log-sum-exp of the logits: larger for digits
    distance: torch.Tensor  # (N,) squared Mahalanobis distance to the nearest class: smaller for digits


nearest = ood.fit_mahalanobis(net, x_train, y_train)


def gather(x, seed=0):
    """The evidence of images (N, 1, 28, 28)."""
    mc = MCDropout(net).predict(x, samples=30, generator=devices.generator(seed, device=device))
    return Evidence(mc.mean, mc.mutual_information, run(x).logsumexp(dim=1), -nearest(x))


drill = torch.arange(len(x_held), device=device) % (len(x_held) // 500) == 0  # 500 of them
known = gather(x_held[~drill])
rehearsal = gather(torch.cat([x_held[drill], data.glyphs(125, normalize=True, device=device)[0]]))  # in this order

# %% [markdown]
# ## Part I. How sure is it?
#
# ### Question 1.1: find the fault, Monte Carlo dropout (1 point)
#
# Dropout that stays on when the network is used makes each pass a draw from an approximate posterior: **MC Dropout**. A
# published notebook of this experiment contains, in essence,
#
# ```python
# def mc_probabilities(model, x, samples):
#     model.eval()
#     model.training = True  # dropout on
#     with torch.no_grad():
#         return torch.stack([model(x).softmax(dim=1) for _ in range(samples)])
# ```
#
# and every pass of it gives the same answer. Why? Write it without the fault. The **dropout modules**
# (`torch.nn.Dropout`) are on, everything else (batch normalisation, say) works as in evaluation mode, and each module
# of the model is afterwards in the mode in which it came.
#
# **Shapes.** `x` (N, ...), `samples` = S → probabilities (S, N, C).
#
# <details><summary>Hint</summary>
#
# `training` is a flag of each module by itself: `model.training = True` sets it for the outermost one and tells no
# child. `model.modules()` walks over all of them. Note down the flags first, and put them back at the end.
#
# </details>


# %% q1_1 answer
def mc_probabilities(model, x, samples):
    """Class probabilities (S, N, C) of S passes with dropout on and all else in evaluation mode."""
    ### BEGIN SOLUTION
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.train()
    with torch.no_grad():
        probs = torch.stack([model(x).softmax(dim=1) for _ in range(samples)])
    for module, mode in modes:
        module.training = mode
    return probs
    ### END SOLUTION


# %% q1_1_test test 1
coin = torch.nn.Sequential(torch.nn.BatchNorm1d(1), torch.nn.Dropout(0.5), torch.nn.Linear(1, 2, bias=False))
coin = coin.to(device).eval()
with torch.no_grad():
    coin[2].weight.copy_(torch.tensor([[1.0], [0.0]]))  # logits (2, 0) if the input is kept, (0, 0) if it is dropped
answer = mc_probabilities(coin, torch.ones(20, 1, device=device), 200)
assert answer is not None and tuple(answer.shape) == (200, 20, 2), (
    "mc_probabilities must return (S, N, C) = (200, 20, 2)"
)
hint = "Logits or exponentials do not sum to 1: is the softmax there, over the classes (dim=1)?"
assert matches("sum over the classes", answer[0].sum(1)[:3], [1, 1, 1], rtol=1e-4, hint=hint)
hint = "Half of the passes keep the input. If you got 0.88, dropout was off; if 0.5, batch normalisation was not in"
hint += " evaluation mode: `model.train()` switches every module, and the normalisation then subtracts the mean of x."
expected = (torch.sigmoid(torch.tensor(2.0)) + 0.5) / 2
assert matches("mean probability of a coin", answer[..., 0].mean(), expected, atol=0.02, hint=hint)
assert not any(m.training for m in coin.modules()), "the model came in evaluation mode: it must leave in that mode"


### BEGIN HIDDEN TESTS
def draw(rng):
    cases = []
    for flags in (
        [False] * 4,
        [True] * 4,
        [False, True, False, True],
    ):  # of the model, the normalisation, the dropout, the layer
        case = {"flags": flags, "keep": float(rng.uniform(0.4, 0.7)), "shift": rng.normal(size=3)}
        case["scale"] = rng.uniform(0.5, 2.0, 3)
        while True:
            case |= {"weight": rng.normal(size=(4, 3)), "x": case["shift"] + case["scale"] * rng.normal(size=(12, 3))}
            possible, _ = _possible(case)
            gaps = np.abs(possible[:, None] - possible).max(-1)[~np.eye(8, dtype=bool)]
            if gaps.min() > 2e-3:  # so that each answer tells which units were dropped
                break
        cases.append(case)
    return cases


def ask(mc_probabilities, inputs):
    answers = []
    for case in inputs:
        norm, linear = torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 4, bias=False)
        model = torch.nn.Sequential(norm, torch.nn.Dropout(1 - case["keep"]), linear).double().to(device)
        norm.running_mean.copy_(torch.tensor(case["shift"]))
        norm.running_var.copy_(torch.tensor(case["scale"] ** 2 - norm.eps))
        linear.weight.data.copy_(torch.tensor(case["weight"]))
        for module, flag in zip(model.modules(), case["flags"], strict=True):
            module.training = flag
        x = torch.tensor(case["x"], device=device)
        answer = {"probabilities (S = 200, N = 12, C = 4)": mc_probabilities(model, x, 200)}
        answer["modes afterwards"] = [int(module.training) for module in model.modules()]
        answer["running mean of the normalisation afterwards"] = norm.running_mean
        answer["inputs afterwards"] = x
        answers.append(answer)
    return answers


def shapes(inputs):
    one = {"probabilities (S = 200, N = 12, C = 4)": (200, 12, 4), "modes afterwards": (4,)}
    one |= {"running mean of the normalisation afterwards": (3,), "inputs afterwards": (12, 3)}
    return [one] * len(inputs)


def judge(inputs, got):
    for case, answer in zip(inputs, got, strict=True):
        probs, modes, mean, x = answer.values()
        came = "mixed modes" if len(set(case["flags"])) > 1 else ("evaluation mode", "training mode")[case["flags"][0]]
        where = f"a model that came in {came}"
        if not np.isfinite(probs).all():
            return f"{where}: the probabilities hold NaN or infinity."
        if np.abs(probs.sum(2) - 1).max() > 1e-3:
            total = probs.sum(2).ravel()[0]
            return f"{where}: the C = 4 probabilities of an input sum to {total:.4g}. Is the softmax there, over dim=1?"
        possible, shares = _possible(case)
        distance = np.abs(probs[:, None] - possible).max(-1)  # (200, 8, 12)
        if distance.min(1).max() > 1e-4:
            return f"{where}: these are not probabilities that dropout on and all else in evaluation mode can give."
        mask = distance.argmin(1)
        for k, share in enumerate(shares):
            seen, error = (mask == k).mean(), np.sqrt(share * (1 - share) / mask.size)
            if abs(seen - share) > 6 * error + 1e-9:
                kept = describe(_MASKS[k])
                return f"{where}: of 2400 passes, {seen:.3f} keep exactly the units {kept}, expected {share:.3f} (dropout off?)."
        if (mask == mask[:, :1]).all(1).mean() > 0.5:
            return f"{where}: all inputs of a pass share one dropout mask."
        if len({tuple(row) for row in mask.tolist()}) < 190:
            return f"{where}: many of the 200 passes repeat each other: each must draw its own dropout masks."
        if not np.array_equal(modes, case["flags"]):
            return f"{where}: modes of its modules before: {case['flags']}, afterwards: {describe(modes.astype(bool))} (True: training)."
        hint = "Batch normalisation must work in evaluation mode."
        wrong = differs(f"{where}: the running mean of its normalisation", mean, case["shift"], hint=hint)
        if wrong := wrong or differs(f"{where}: the caller's inputs afterwards", x, case["x"]):
            return wrong


_MASKS = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])


def _possible(case):
    """Probabilities (8, N, C) for each mask of the three units, and how often each mask is drawn."""
    keep, x = case["keep"], (case["x"] - case["shift"]) / case["scale"]
    logits = (_MASKS[:, None] * x / keep) @ case["weight"].T
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True), keep ** _MASKS.sum(1) * (1 - keep) ** (3 - _MASKS.sum(1))


### END HIDDEN TESTS

# %% [markdown]
# ### Question 1.2: variation ratio (1 point)
#
# Each pass votes for the class it finds most probable. The **variation ratio** of an input is the share of the passes
# that do *not* vote for the class with the most votes: 0 if all agree.
#
# **Shapes.** `probs` (S, N, C) → (N,).
#
# <details><summary>Hint</summary>
#
# `probs.argmax(dim=2)` has the votes, shape (S, N). `F.one_hot(votes, C).sum(dim=0)` counts them.
#
# </details>


# %% q1_2 answer
def variation_ratio(probs):
    """Share (N,) of the S passes that do not vote for the most voted class, from probabilities (S, N, C)."""
    ### BEGIN SOLUTION
    votes = F.one_hot(probs.argmax(dim=2), probs.shape[2]).sum(dim=0)
    return 1 - votes.amax(dim=1) / len(probs)
    ### END SOLUTION


# %% q1_2_test test 1
probs = torch.tensor(
    [[[0.9, 0.1], [0.6, 0.4]], [[0.9, 0.1], [0.6, 0.4]], [[0.8, 0.2], [0.6, 0.4]], [[0.8, 0.2], [0.0, 1.0]]],
    device=device,
)
hint = "Votes for class 0: four of four on the first input, three of four on the second: 0 and 1/4."
assert matches("variation_ratio(probs)", variation_ratio(probs), [0, 0.25], hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    first = [[[0.9, 0.1], [0.6, 0.4]], [[0.9, 0.1], [0.6, 0.4]], [[0.8, 0.2], [0.6, 0.4]], [[0.8, 0.2], [0.0, 1.0]]]
    cases = [np.array(first)]
    for samples, size, classes in ((7, 200, 4), (1, 50, 3), (20, 200, 10), (5, 1, 3)):
        probs = rng.dirichlet(np.full(classes, 0.6), (samples, size))
        probs += 0.01 * (probs == probs.max(2, keepdims=True))  # no votes that rounding could change
        cases.append(probs / probs.sum(2, keepdims=True))
    return cases


def ask(variation_ratio, inputs):
    return [variation_ratio(torch.tensor(probs, device=device)) for probs in inputs]


def shapes(inputs):
    return [(probs.shape[1],) for probs in inputs]


def judge(inputs, got):
    for probs, ratio in zip(inputs, got, strict=True):
        want = [1 - np.bincount(votes).max() / len(votes) for votes in probs.argmax(2).T]
        what = f"the variation ratio for probabilities of shape (S, N, C) = {probs.shape}"
        if wrong := differs(what, ratio, want, rtol=0, atol=1e-4):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# ### Question 1.3: entropy and mutual information (1 point)
#
# With $\bar p = \frac1S\sum_s p_s$, the mean over the passes, and $H[p] = -\sum_c p_c \log p_c$ (natural logarithm,
# $0\log 0 = 0$):
#
# $$\begin{aligned}
# \underbrace{H[\bar p]}_{\text{entropy: all uncertainty}} \;=\; {} &
# \underbrace{\tfrac1S\textstyle\sum_s H[p_s]}_{\text{what each pass doubts by itself}} \\
# & {} \;+\; \underbrace{I}_{\text{what the passes disagree about}} .
# \end{aligned}$$
#
# The first term on the right is called *aleatoric*, the second, the **mutual information** of label and weights,
# *epistemic*. Return the entropy and the mutual information.
#
# **Shapes.** `probs` (S, N, C), some entries may be 0 → entropy (N,), mutual information (N,), in nats.
#
# <details><summary>Hint</summary>
#
# `0 * torch.log(0)` is NaN. `torch.special.entr(p)` is $-p\log p$ with the right value at 0.
#
# </details>


# %% q1_3 answer
def entropy_and_information(probs):
    """Entropy (N,) of the mean prediction and mutual information (N,), in nats, from probabilities (S, N, C)."""
    ### BEGIN SOLUTION
    entropy = torch.special.entr(probs.mean(dim=0)).sum(dim=1)
    expected_entropy = torch.special.entr(probs).sum(dim=2).mean(dim=0)
    return entropy, entropy - expected_entropy
    ### END SOLUTION


# %% q1_3_test test 1
probs = torch.tensor([[[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]], [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]], device=device)
answer = entropy_and_information(probs)
pair = len(answer) == 2 if isinstance(answer, tuple | list) else getattr(answer, "shape", None) == (2, 3)
assert pair, "return two things: entropy, mutual information"
hint = "The entropy of the mean. Inputs 1 and 2: mean (1/2, 1/2), so log 2 = 0.693; input 3: no doubt, so 0."
assert matches("entropy", answer[0], [0.693147, 0.693147, 0], atol=1e-5, hint=hint)
hint = "Input 1: each pass is sure, and they disagree: log 2. Input 2: each pass doubts, and they agree: 0."
assert matches("mutual information", answer[1], [0.693147, 0, 0], atol=1e-5, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    cases = [np.array([[[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]], [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]])]
    for samples, size, classes in ((6, 50, 5), (1, 20, 3), (4, 1, 3)):
        probs = rng.dirichlet(np.full(classes, 0.5), (samples, size))
        probs[0, 0] = np.eye(classes)[0]
        cases.append(probs)
    return cases


def ask(entropy_and_information, inputs):
    return {
        f"answer {i} (S, N, C = {probs.shape}) as entropy, information": entropy_and_information(
            torch.tensor(probs, device=device)
        )
        for i, probs in enumerate(inputs)
    }


def shapes(inputs):
    return {
        f"answer {i} (S, N, C = {probs.shape}) as entropy, information": [(probs.shape[1],)] * 2
        for i, probs in enumerate(inputs)
    }


def judge(inputs, got):
    import scipy.special

    for probs, (entropy, information) in zip(inputs, got.values(), strict=True):
        mean, where = probs.mean(0), f"for probabilities of shape (S, N, C) = {probs.shape}"
        # the mutual information is the mean divergence of the passes from their mean
        divergence = scipy.special.rel_entr(probs, mean).sum(2).mean(0)
        surprise = -scipy.special.xlogy(mean, mean).sum(1)
        wrong = differs(f"the entropy {where}", entropy, surprise, rtol=1e-4, atol=1e-5)
        if wrong := wrong or differs(f"the mutual information {where}", information, divergence, rtol=1e-4, atol=1e-5):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# Your three measures of the test digits, and the digits at both ends of your entropy. Orange frames: misread. Under
# each image: label → prediction, and the entropy.

# %% tags=["demo"]
ratio = torch.as_tensor(variation_ratio(mc_test.probs))
entropy, information = (torch.as_tensor(v) for v in entropy_and_information(mc_test.probs))
order = entropy.argsort(descending=True)
figure, axes = plt.subplots(2, 1, figsize=style.figsize(1.2, 5.2), height_ratios=(3, 1.15))
for ax, chosen, title in zip(axes, (order[:24], order[-8:]), ("least certain", "most certain"), strict=True):
    captions = [f"{int(y_test[n])} → {int(mc_test.labels[n])}" for n in chosen]
    wrong = mc_test.labels[chosen] != y_test[chosen]
    images.image_grid(x_test[chosen], captions=captions, scores=entropy[chosen], wrong=wrong, ax=ax)
    ax.set_title(title)
plt.show()

# %% tags=["demo"]
wrong = (mc_test.labels != y_test).cpu()
figure, (left, right) = plt.subplots(1, 2, figsize=style.figsize(1.2, 3.4))
for ax, score, name in ((left, information, "mutual information (nats)"), (right, ratio, "variation ratio")):
    ax.plot(entropy.cpu()[~wrong], score.cpu()[~wrong], ".", ms=3, alpha=0.5, label="read rightly")
    ax.plot(entropy.cpu()[wrong], score.cpu()[wrong], ".", ms=5, color=style.COLORS["orange"], label="misread")
    ax.set(xlabel="entropy (nats)", ylabel=name)
left.legend()
plt.show()

# %% [markdown]
# ### Question 1.4: a comment (1 point, read by a person)
#
# Look at the least certain digits and at the two clouds. What makes these digits uncertain: would a person hesitate,
# too? Which kind of uncertainty should *more training data* reduce, and which should it not? What does a misread digit
# at the left end of the clouds mean? Four or five sentences.

# %% q1_4 text 1 [markdown]
# <!-- BEGIN SOLUTION -->
# *Model answer.* The least certain digits are badly written or stand between two classes (4 and 9, 3 and 5, 1 and 7,
# broken or slanted strokes); on many a person would hesitate as well, on some (an unusual but clear way to write a 7)
# only the network does. The first kind is mostly aleatoric: every pass doubts, entropy is high while the mutual
# information is a small part of it, and more data will not make an ambiguous image unambiguous. The second kind is
# mostly epistemic: the passes disagree, the mutual information is a larger part of the entropy, and more examples of
# that shape would help. A misread digit with almost no entropy is a confident error: no threshold on this score finds
# it, whether because the label is doubtful or because all passes share the same blind spot (they are one trained
# network, after all).
#
# *Rubric.* ½ point: says what the images have in common and tells aleatoric (ambiguous, data do not help) from
# epistemic (unusual, data help). ½ point: sees that a confident error cannot be found by any threshold on the score.
# <!-- END SOLUTION -->

# %% [markdown]
# ### Question 1.5: calibration (1 point)
#
# A forecaster who says "90 %" should be right in nine cases of ten. Sort the predictions into $B$ bins of equal width
# by their confidence, the bins $(\frac{b-1}{B}, \frac bB]$ closed on the right, and compare in each bin the share of
# right predictions with the mean confidence. The **expected calibration error** is
#
# $$\mathrm{ECE} = \sum_b \frac{n_b}{N}\,\bigl|\,\mathrm{accuracy}_b - \mathrm{confidence}_b\,\bigr| ,$$
#
# where $n_b$ predictions of $N$ are in bin $b$; an empty bin counts nothing.
#
# **Shapes.** `confidence` (N,), numbers in (0, 1]; `correct` (N,), booleans; `bins` = B → one number.
#
# <details><summary>Hint</summary>
#
# Many confidences of a network are exactly 1: they belong to the last bin. A loop over the bins with a mask is fine. A
# tensor of booleans becomes numbers by `.to(confidence.dtype)`.
#
# </details>


# %% q1_5 answer
def calibration_error(confidence, correct, bins):
    """Expected calibration error of predictions with this confidence (N,) that are correct (N,) or not."""
    ### BEGIN SOLUTION
    slot = (confidence * bins).ceil().long()  # bin b holds ((b-1)/B, b/B]
    excess = correct.to(confidence.dtype) - confidence
    sums = torch.zeros(bins + 1, dtype=confidence.dtype, device=confidence.device).index_add(0, slot, excess)
    return float(sums.abs().sum() / len(confidence))
    ### END SOLUTION


# %% q1_5_test test 1
confidence = torch.tensor([0.95, 0.95, 0.95, 0.15], device=device)
answer = calibration_error(confidence, torch.tensor([True, True, False, True], device=device), 10)
hint = "Two bins: |2/3 - 0.95| with weight 3/4 and |1 - 0.15| with weight 1/4. NaN is the mean of an empty bin, which"
hint += " counts nothing; 0: gaps of different sign must not cancel; 0.567 or 0.113: the weights n_b / N are missing."
assert matches("two bins of three and one", answer, 0.425, rtol=1e-5, hint=hint)
answer = calibration_error(torch.tensor([1.0, 1.0], device=device), torch.tensor([True, False], device=device), 10)
assert matches("sure twice, right once", answer, 0.5, hint="Confidence 1 belongs to the last bin, (0.9, 1].")


### BEGIN HIDDEN TESTS
def draw(rng):
    cases = [
        {"confidence": np.array([0.95, 0.95, 0.95, 0.15]), "correct": np.array([True, True, False, True]), "bins": 10},
        {"confidence": np.array([1.0, 1.0]), "correct": np.array([True, False]), "bins": 10},
    ]
    for size, bins in ((300, 15), (40, 7), (1, 5)):
        confidence = rng.uniform(0.05, 1.0, size) ** 0.5
        # away from the edges of the bins, so that rounding cannot move one across; and some that are exactly 1
        places = np.floor(confidence * bins) + np.clip(confidence * bins % 1, 0.01, 0.99)
        confidence = places / bins
        confidence[: size // 10] = 1.0
        cases.append({"confidence": confidence, "correct": rng.uniform(size=size) < confidence**2, "bins": bins})
    return cases


def ask(calibration_error, inputs):
    answers = []
    for case in inputs:
        confidence, correct = (torch.tensor(case[name], device=device) for name in ("confidence", "correct"))
        answers.append(calibration_error(confidence, correct, case["bins"]))
    return answers


def shapes(inputs):
    return [()] * len(inputs)


def judge(inputs, got):
    for case, value in zip(inputs, got, strict=True):
        confidence, correct, bins = case["confidence"], case["correct"], case["bins"]
        slots = np.ceil(confidence * bins - 1e-6).astype(int)
        parts = [np.sum(correct[slots == b] - confidence[slots == b]) for b in range(bins + 1)]
        what = f"the calibration error of {len(confidence)} predictions in {bins} bins"
        if wrong := differs(what, value, np.abs(parts).sum() / len(confidence), rtol=1e-4, atol=1e-5):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# ### Question 1.6: temperature scaling (1 point)
#
# Dividing all logits by one number $T$ changes no prediction, only how sure it sounds. **Temperature scaling** takes
# the $T$ that makes the labels most likely, that is, minimises the mean cross-entropy of $\mathrm{softmax}(z/T)$. Find
# it, to within one percent, for logits and labels *that were held out*.
#
# **Shapes.** `logits` (N, C), `labels` (N,) → $T > 0$, one number.
#
# <details><summary>Hint</summary>
#
# One unknown, and the loss is convex in $\beta = 1/T$ (its derivative is mean$(\mathrm E_p[z] - z_y)$). Bisection
# works, a fine grid of $T$ between 0.05 and 20 does too (even steps of $\log T$), and so does an optimiser, if it runs
# until nothing changes. `F.cross_entropy` wants logits, not probabilities.
#
# </details>


# %% q1_6 answer
def fit_temperature(logits, labels):
    """The temperature T for which softmax(logits / T) gives the labels (N,) the largest likelihood."""
    ### BEGIN SOLUTION
    low, high = 0.01, 100.0  # of beta = 1/T: the slope of the loss is negative at the first and positive at the second
    true = logits.gather(1, labels[:, None]).squeeze(1)
    for _ in range(60):
        beta = (low * high) ** 0.5
        expected = ((beta * logits).softmax(dim=1) * logits).sum(dim=1)
        if float((expected - true).mean()) < 0:
            low = beta
        else:
            high = beta
    return 1 / beta
    ### END SOLUTION


# %% q1_6_test test 1
logits = torch.tensor([[0.0, 5.0]], device=device).expand(4, 2)
answer = fit_temperature(logits, torch.tensor([1, 1, 1, 0], device=device))
hint = "Three of four labels are class 1, so p = 3/4 is best: 5/T = log 3, T = 4.55. If you got 0.22, that is 1/T."
assert matches("temperature of four labels", answer, 5 / 1.0986123, rtol=1e-2, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    cases = [{"logits": np.tile([0.0, 5.0], (4, 1)), "labels": np.array([1, 1, 1, 0])}]
    for temperature in (float(rng.uniform(0.4, 0.8)), float(rng.uniform(1.5, 4.0))):
        logits = rng.normal(size=(600, 5)) * 2
        gumbel = -np.log(-np.log(rng.uniform(size=logits.shape)))
        labels = (logits / temperature + gumbel).argmax(1)  # a draw from softmax(logits / T)
        cases.append({"logits": logits, "labels": labels})
    return cases


def ask(fit_temperature, inputs):
    answers = []
    for case in inputs:
        logits, labels = (torch.tensor(case[name], device=device) for name in ("logits", "labels"))
        answers.append(fit_temperature(logits, labels))
    return answers


def shapes(inputs):
    return [()] * len(inputs)


def judge(inputs, got):
    from scipy.optimize import brentq

    for case, value in zip(inputs, got, strict=True):
        logits, labels = case["logits"], case["labels"]
        true = logits[np.arange(len(labels)), labels].mean()

        def slope(beta, logits=logits, true=true):
            p = np.exp(beta * (logits - logits.max(1, keepdims=True)))
            return ((p * logits).sum(1) / p.sum(1)).mean() - true

        want = 1 / brentq(slope, 1e-2, 1e2)
        what = f"the temperature for {len(labels)} labels of {logits.shape[1]} classes"
        if wrong := differs(what, value, want, rtol=0.015, hint="It must make the labels most likely, to 1 %."):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# Three diagrams. Orange is overconfident, blue underconfident. MC Dropout averages many doubtful passes: its mean can
# be *under*confident. It has no logits, but the logarithms of its probabilities serve as well. A reminder beside each
# ECE: what a *perfectly calibrated* model with the same confidences would show on so few images. It is not zero.

# %% tags=["demo"]
mc_held = MCDropout(net).predict(x_held, samples=50, generator=devices.generator(2, device=device))
t_net, t_mc = fit_temperature(logits_held, y_held), fit_temperature(mc_held.mean.log(), y_held)
diagrams = {
    "network": logits_test.softmax(dim=1),
    "MC Dropout": mc_test.mean,
    f"MC Dropout, T = {float(t_mc):.2f}": (mc_test.mean.log() / t_mc).softmax(dim=1),
}
figure, axes = plt.subplots(1, 3, figsize=style.figsize(1.6, 3.6))
for ax, (name, probs) in zip(axes, diagrams.items(), strict=True):
    draw_calibration.reliability_diagram(calibration.reliability(probs, y_test), ax=ax)
    ax.set_title(name)
    yours = calibration_error(probs.amax(dim=1), probs.argmax(dim=1) == y_test, 15)
    print(f"{name:24} ECE {yours:.4f}   (perfectly calibrated: about {calibration.calibrated_ece(probs):.4f})")
plt.show()
print(
    f"your temperature of the network itself: {float(t_net):.2f} (above 1: it was overconfident, below: underconfident)"
)

# %% [markdown]
# ## Part II. Will this answer be wrong?
#
# *Nothing of part I is needed here: `net`, `logits_test`, `correct` and `mc_test` come from section 0.*
#
# A system that reads a million digits cannot have all of them read again by a person. It can have the doubtful ones
# read again, if it knows which these are. **Failure prediction**: a score of confidence for each prediction, small
# where it is wrong. The largest probability (**MCP**) is the obvious one. Its defect: a misread digit gets the largest
# probability of a *wrong* class, and that is often large. Better would be the **true class probability** $\mathrm{TCP}
# = p(y \mid x)$, the probability of the *label*.
#
# ### Question 2.1: what TCP guarantees (1 + 1 points)
#
# Return the TCP of each input, and a verdict: $+1$ if TCP $> \frac12$ (the prediction, the class of the largest
# probability, is certainly right), $-1$ if TCP $< \frac1C$ (certainly wrong), else $0$.
#
# **Shapes.** `probs` (N, C), `labels` (N,) → TCP (N,), verdict (N,) of whole numbers.


# %% q2_1 answer
def true_class_probability(probs, labels):
    """TCP (N,) and verdict (N,): +1 surely right, -1 surely wrong, 0 undecided by TCP alone."""
    ### BEGIN SOLUTION
    tcp = probs.gather(1, labels[:, None]).squeeze(1)
    return tcp, (tcp > 1 / 2).long() - (tcp < 1 / probs.shape[1]).long()
    ### END SOLUTION


# %% q2_1_test test 1
probs = torch.tensor(
    [[0.75, 0.25, 0, 0], [0.75, 0.25, 0, 0], [0.5, 0.5, 0, 0], [0.625, 0.125, 0.125, 0.125]], device=device
)
answer = true_class_probability(probs, torch.tensor([0, 1, 0, 2], device=device))
pair = len(answer) == 2 if isinstance(answer, tuple | list) else getattr(answer, "shape", None) == (2, 4)
assert pair, "return two things: TCP, verdict"
hint = "The probability of the label, not the largest one: probs[n, labels[n]]."
assert matches("TCP", answer[0], [0.75, 0.25, 0.5, 0.125], hint=hint)
hint = "C = 4: above 1/2 surely right, below 1/4 surely wrong; 1/4 and 1/2 themselves decide nothing."
assert matches("verdict", answer[1], [1, 0, 0, -1], hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    probs = np.array([[0.75, 0.25, 0, 0], [0.75, 0.25, 0, 0], [0.5, 0.5, 0, 0], [0.625, 0.125, 0.125, 0.125]])
    cases = [{"probs": probs, "labels": np.array([0, 1, 0, 2])}]
    for size, classes in ((400, 7), (400, 2), (1, 3), (400, 3)):
        probs, labels = rng.dirichlet(np.full(classes, 0.7), size), rng.integers(classes, size=size)
        tcp = probs[np.arange(size), labels]
        close = np.minimum(np.abs(tcp - 1 / 2), np.abs(tcp - 1 / classes)) < 1e-4  # rounding would decide
        probs[close] = np.eye(classes)[labels[close]]
        cases.append({"probs": probs, "labels": labels})
    return cases


def ask(true_class_probability, inputs):
    answers = {}
    for i, case in enumerate(inputs):
        probs, labels = (torch.tensor(case[name], device=device) for name in ("probs", "labels"))
        key = f"answer {i} (N, C = {case['probs'].shape}) as TCP, verdict"
        answers[key] = true_class_probability(probs, labels)
    return answers


def shapes(inputs):
    sizes = [case["probs"].shape for case in inputs]
    return {f"answer {i} (N, C = {size}) as TCP, verdict": [(size[0],)] * 2 for i, size in enumerate(sizes)}


def judge(inputs, got):
    for case, (tcp, verdict) in zip(inputs, got.values(), strict=True):
        size, classes = case["probs"].shape
        want = case["probs"][np.arange(size), case["labels"]]
        where = f"for N = {size}, C = {classes}"
        wrong = differs(f"TCP {where}", tcp, want, rtol=1e-4, atol=1e-6)
        signs = np.where(want > 1 / 2, 1, np.where(want < 1 / classes, -1, 0))
        hint = "Above 1/2 surely right, below 1/C surely wrong, else 0."
        if wrong := wrong or differs(f"the verdict {where}", verdict, signs, rtol=0, atol=1e-6, hint=hint):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# **Your proof** of both guarantees, and for $C = 3$ one right and one wrong prediction of the *same* TCP between
# $\frac13$ and $\frac12$.

# %% q2_1_proof text 1 [markdown]
# <!-- BEGIN SOLUTION -->
# *Model answer.* Let $y$ be the label, $p_y$ the TCP and $\hat y$ the class of the largest probability. (i) If $p_y >
# \frac12$, every other class has $p_c \le 1 - p_y < \frac12 < p_y$, so $\hat y = y$. (ii) If the prediction is right,
# $p_y = \max_c p_c \ge \frac1C\sum_c p_c = \frac1C$, for the largest of $C$ numbers is at least their mean. So $p_y <
# \frac1C$ implies $\hat y \neq y$. $\square$ In between both happen: with $p = (0.4, 0.3, 0.3)$ and $y = 1$ the
# prediction is right, with $p = (0.4, 0.6, 0)$ and $y = 1$ it is wrong, and TCP is $0.4 \in (\frac13, \frac12)$ both
# times.
#
# *Rubric.* ½ point: both guarantees proved (the second needs "the maximum is at least the mean", directly or by
# contraposition). ½ point: a right and a wrong example with one TCP strictly between 1/3 and 1/2, rows that sum to 1.
# <!-- END SOLUTION -->

# %% [markdown]
# ### Question 2.2: find the faults, what ConfidNet learns from (1 point)
#
# TCP needs the label, which nobody has when it counts. **ConfidNet** (Corbière et al. 2019) *learns* it: the classifier
# is frozen, and a second, small network estimates TCP from the features before the last layer. A first attempt,
# with faults that have been published, prepares its data like this:
#
# ```python
# def confidnet_data(model, x, y):
#     model.train()  # we are training, are we not?
#     features = model.features(x)
#     target = model(x).softmax(dim=1).amax(dim=1)
#     return features, target
# ```
#
# There are at least three faults: a wrong target; something in the frozen classifier that is not frozen; and gradients
# that would flow back into it (the model's mode changes, too). Put it right: the model works in evaluation mode and is
# left in the mode of its modules before, and what comes back carries no gradient.
#
# **Shapes.** `x` (N, ...), `y` (N,) → features (N, M), target (N,). The model has `model.features(x)`, the input of its
# last layer, and `model(x)`, its logits.


# %% q2_2 answer
def confidnet_data(model, x, y):
    """Features (N, M) of the frozen classifier and the true class probability (N,) that ConfidNet is to learn."""
    ### BEGIN SOLUTION
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        features = model.features(x)
        target = model(x).softmax(dim=1).gather(1, y[:, None]).squeeze(1)
    for module, mode in modes:
        module.training = mode
    return features, target
    ### END SOLUTION


# %% q2_2_test test 1
small = MLP(2, 2, width=2, depth=1, dropout=0.5, bias=False).to(device)
with torch.no_grad():
    for weight in small.parameters():
        weight.copy_(torch.eye(2))  # features: the positive part of x; logits: the same
small.train()
answer = confidnet_data(
    small, torch.tensor([[2.0, 0.0], [2.0, -1.0]], device=device), torch.tensor([0, 1], device=device)
)
assert isinstance(answer, tuple | list) and len(answer) == 2, "return two things: features, target"
assert not any(v.requires_grad for v in answer), "features and target carry a gradient: the classifier is not frozen"
hint = "Zeros or 4 in the place of 2? Then dropout is on."
assert matches("features", answer[0], [[2, 0], [2, 0]], hint=hint)
hint = "softmax of (2, 0) is (0.881, 0.119); the labels are 0 and 1. The largest probability would be 0.881 twice."
assert matches("target", answer[1], [0.880797, 0.119203], rtol=1e-4, hint=hint)
assert all(m.training for m in small.modules()), "the model came in training mode: it must leave in that mode"


### BEGIN HIDDEN TESTS
def draw(rng):
    cases = []
    for size, flags in ((2, [True]), (40, [False]), (40, [True, False, True]), (1, [False, True])):
        case = {"inner": rng.normal(size=(6, 4)), "outer": rng.normal(size=(3, 6)), "flags": flags}
        cases.append(case | {"x": rng.normal(size=(size, 4)), "y": rng.integers(3, size=size)})
    return cases


def ask(confidnet_data, inputs):
    import itertools

    from coursekit.nets import MLP

    answers = []
    for case in inputs:
        model = MLP(4, 3, width=6, depth=1, dropout=0.5, bias=False).double().to(device)
        for weight, name in zip(model.parameters(), ("inner", "outer"), strict=True):
            weight.data.copy_(torch.tensor(case[name]))
        for module, flag in zip(model.modules(), itertools.cycle(case["flags"]), strict=False):
            module.training = flag
        x, y = (torch.tensor(case[name], device=device) for name in ("x", "y"))
        features, target = confidnet_data(model, x, y)
        answer = {"features": features, "target": target}
        answer["gradients asked for by features and target"] = [
            int(getattr(part, "requires_grad", 0)) for part in (features, target)
        ]
        answer["modes afterwards"] = [int(module.training) for module in model.modules()]
        answer["weights afterwards"] = list(model.parameters())
        answer["gradients of the weights"] = [weight.grad for weight in model.parameters()]
        answers.append(answer)
    return answers


def shapes(inputs):
    return [
        {
            "features": (len(case["x"]), 6),
            "target": (len(case["x"]),),
            "gradients asked for by features and target": (2,),
            "modes afterwards": (None,),
            "weights afterwards": [(6, 4), (3, 6)],
            "gradients of the weights": [maybe((6, 4)), maybe((3, 6))],
        }
        for case in inputs
    ]


def judge(inputs, got):
    for case, answer in zip(inputs, got, strict=True):
        features, target, asked, modes, weights, gradients = answer.values()
        size, flags = len(case["x"]), case["flags"]
        where = f"for N = {size} and a model whose modules came in the modes {flags}, repeated (True: training)"
        want = np.maximum(case["x"] @ case["inner"].T, 0)
        logits = want @ case["outer"].T
        tcp = 1 / np.exp(logits - logits[np.arange(size), case["y"]][:, None]).sum(1)
        hint = "Is dropout on? Everything works in evaluation mode."
        wrong = differs(f"the features {where}", features, want, rtol=1e-4, atol=1e-6, hint=hint)
        hint = "It is the softmax probability of the label."
        wrong = wrong or differs(f"the target {where}", target, tcp, rtol=1e-4, atol=1e-6, hint=hint)
        if wrong:
            return wrong
        if asked.any():
            return f"{where}: features or target ask for a gradient: the classifier is not frozen."
        if any(gradient is not None for gradient in gradients):
            return f"{where}: a weight of the frozen classifier got a gradient."
        if not np.array_equal(modes, [flags[i % len(flags)] for i in range(len(modes))]):
            return f"{where}: the modes of the modules are afterwards {describe(modes.astype(bool))}."
        for name, weight in zip(("inner", "outer"), weights, strict=True):
            if wrong := differs(f"{where}: a weight of the classifier afterwards", weight, case[name]):
                return wrong


### END HIDDEN TESTS

# %% [markdown]
# ### Question 2.3: its loss, and the epoch to keep (½ + ½ point)
#
# ConfidNet ends in one number $u$ and estimates TCP by $\sigma(u) = 1/(1 + e^{-u})$; its loss is the mean of
# $(\sigma(u) - \mathrm{TCP})^2$. Write the loss.
#
# **Shapes.** `u`, `tcp` (N,) → one number.


# %% q2_3 answer
def confidence_loss(u, tcp):
    """Mean squared error between sigmoid(u) and TCP, both (N,)."""
    ### BEGIN SOLUTION
    return F.mse_loss(u.sigmoid(), tcp)
    ### END SOLUTION


# %% q2_3_test test 0.5
answer = confidence_loss(torch.tensor([0.0, 0.0], device=device), torch.tensor([1.0, 0.0], device=device))
hint = "sigmoid(0) = 1/2 is half off twice; take the mean."
assert matches("confidence_loss([0, 0], [1, 0])", answer, 0.25, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    cases = [{"u": np.zeros(2), "tcp": np.array([1.0, 0.0])}]
    return cases + [{"u": 3 * rng.normal(size=size), "tcp": rng.uniform(size=size)} for size in (30, 1)]


def ask(confidence_loss, inputs):
    def loss(case):
        u, tcp = (torch.tensor(case[name], device=device) for name in ("u", "tcp"))
        return confidence_loss(u, tcp)

    return [loss(case) for case in inputs]


def shapes(inputs):
    return [()] * len(inputs)


def judge(inputs, got):
    for case, loss in zip(inputs, got, strict=True):
        want = np.mean(((1 + np.tanh(case["u"] / 2)) / 2 - case["tcp"]) ** 2)
        what = f"the loss of N = {len(case['u'])}: u = {describe(case['u'])}, TCP = {describe(case['tcp'])}"
        if wrong := differs(what, loss, want, rtol=1e-4, atol=1e-6, hint="The mean, of squares, of the sigmoid."):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# After each epoch the network is stored, together with what is in `history`, a dictionary of lists with one entry an
# epoch:
#
# - `"train AUPR"` and `"test AUPR"`: how well the misread images of that set are found (more is better),
# - `"train loss"` and `"held-out loss"`: the loss above on that set.
#
# Published runs have kept the epoch of the best train AUPR, and one that of the best *test* AUPR. Return the index
# (from 0) of the epoch to keep if the number that is reported for the test set shall be an honest one, and overfitting
# shall be noticed.


# %% q2_3_epoch answer
def epoch_to_keep(history):
    """Index, from 0, of the epoch whose network is kept."""
    ### BEGIN SOLUTION
    return min(range(len(history["held-out loss"])), key=history["held-out loss"].__getitem__)
    ### END SOLUTION


# %% q2_3_epoch_test test 0.5
history = {"train AUPR": [0.3, 0.5], "test AUPR": [0.4, 0.4], "train loss": [0.2, 0.1], "held-out loss": [0.2, 0.15]}
kept = epoch_to_keep(history)
assert kept is not None and int(kept) == 1, f"epoch_to_keep gave {kept}; of these two epochs keep the second, index 1"


### BEGIN HIDDEN TESTS
def draw(rng):
    names = ("train AUPR", "test AUPR", "train loss", "held-out loss")
    small = [[0.3, 0.5], [0.4, 0.4], [0.2, 0.1], [0.2, 0.15]]
    other = [[0.3, 0.4, 0.4, 0.8, 0.5], [0.3, 0.4, 0.8, 0.4, 0.5], [0.5, 0.4, 0.3, 0.2, 0.1], [0.5, 0.2, 0.3, 0.4, 0.6]]
    cases = [dict(zip(names, lists, strict=True)) for lists in (small, other)]
    for _ in range(5):
        best = rng.permutation(19)[:4]  # each list prefers another epoch, and none the last
        history = {name: rng.uniform(0.2, 0.8, 20) for name in names}
        for name, epoch in zip(names, best, strict=True):
            history[name][epoch] = 0.9 if "AUPR" in name else 0.1
        cases.append({name: values.tolist() for name, values in history.items()})
    return cases


def ask(epoch_to_keep, inputs):
    return [epoch_to_keep(history) for history in inputs]


def shapes(inputs):
    return [()] * len(inputs)


def judge(inputs, got):
    for history, epoch in zip(inputs, got, strict=True):
        want, count = int(np.argmin(history["held-out loss"])), len(history["held-out loss"])
        hint = "The honest choice is judged on digits held out: neither trained on nor reported."
        if wrong := differs(f"the epoch to keep of {count}", epoch, want, rtol=0, atol=1e-6, hint=hint):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# ### Question 2.4: AUPR, errors positive (1 point)
#
# Errors are rare: a score can have a splendid ROC curve and find few of them among many false alarms. Precision and
# recall *of the errors* show this. Call an input an alarm if its confidence is **at most** the threshold $\tau$. With
# $R$ errors in all, and $e(\tau)$ errors among $a(\tau)$ alarms,
#
# $$\mathrm{AUPR} = \sum_{\tau} \frac{e(\tau) - e(\tau^-)}{R}\cdot\frac{e(\tau)}{a(\tau)} ,$$
#
# where $\tau$ runs over the different values of the confidence from the smallest up and $\tau^-$ is the one before ($e
# = 0$ before the first): the recall that a step gains, times the precision at its *end* (average precision). Inputs of
# equal confidence are alarms together, whatever their order.
#
# **Shapes.** `confidence` (N,), `correct` (N,), booleans → one number in (0, 1].
#
# <details><summary>Hint</summary>
#
# `torch.unique(confidence)` gives the different values, increasing. A loop over them will do. The variation ratio has
# few different values: ties are the rule, not the exception.
#
# </details>


# %% q2_4 answer
def aupr_error(confidence, correct):
    """Average precision of finding the errors by small confidence; both arguments (N,)."""
    ### BEGIN SOLUTION
    values, place = torch.unique(confidence, return_inverse=True)
    wrong = torch.bincount(place[~correct.bool()], minlength=len(values)).double()
    alarms = torch.bincount(place, minlength=len(values)).double().cumsum(0)
    return float((wrong * wrong.cumsum(0) / alarms).sum() / wrong.sum())
    ### END SOLUTION


# %% q2_4_test test 1
correct_4 = torch.tensor([False, True, False, True], device=device)
answer = aupr_error(torch.tensor([0.1, 0.2, 0.3, 0.4], device=device), correct_4)
hint = "Alarms in this order: error (precision 1), right, error (precision 2/3), right. The errors are the positives."
assert matches("AUPR of two errors", answer, (1 + 2 / 3) / 2, hint=hint)
answer = aupr_error(torch.full((4,), 0.5, device=device), correct_4)
assert matches(
    "AUPR of a constant score", answer, 0.5, hint="All four are alarms at once: precision 2/4 for both errors."
)


### BEGIN HIDDEN TESTS
def draw(rng):
    correct = np.array([False, True, False, True])
    cases = [{"confidence": np.array([0.1, 0.2, 0.3, 0.4]), "correct": correct}]
    cases.append({"confidence": np.full(4, 0.5), "correct": correct})
    for size, digits in ((30, 1), (200, 1), (200, 5), (3, 5)):
        correct = rng.uniform(size=size) < 0.8
        correct[:3] = [False, True, False]
        cases.append({"confidence": np.round(rng.normal(size=size) + correct, digits), "correct": correct})
    return cases


def ask(aupr_error, inputs):
    def aupr(case):
        confidence, correct = (torch.tensor(case[name], device=device) for name in ("confidence", "correct"))
        return aupr_error(confidence, correct)

    return [aupr(case) for case in inputs]


def shapes(inputs):
    return [()] * len(inputs)


def judge(inputs, got):
    for case, value in zip(inputs, got, strict=True):
        confidence, correct = case["confidence"], case["correct"]
        # each error counts with the precision among all that are at most as sure as it is
        want = np.mean([(~correct[confidence <= c]).mean() for c in confidence[~correct]])
        ties = len(confidence) - len(np.unique(confidence))
        what = f"the AUPR of {(~correct).sum()} errors among {len(correct)}, {ties} of equal confidence"
        if wrong := differs(what, value, want, rtol=1e-5, atol=1e-6):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# ### Question 2.5: the chance level, which is not R/N (1 point)
#
# What would a score reach that knows nothing? Put $R$ errors among $N$ inputs in random order. Folklore says $R/N$.
# Return the exact expectation of the AUPR.
#
# <details><summary>Hint</summary>
#
# Without ties,
#
# $$\begin{aligned}
# \mathrm{AUPR} = \frac1R \sum_{k=1}^N \; & [\text{rank } k \text{ is an error}] \\
# & \cdot\,\frac1k\,\#\{\text{errors among the first } k\} .
# \end{aligned}$$
#
# Rank $k$ is an error with probability $R/N$. *Given that*, how many errors are to be expected among the $k - 1$ ranks
# before it, if $R - 1$ errors are spread over $N - 1$ ranks? Leave the sum as a sum, or simplify it with
# $H_N = \sum_{k=1}^N \frac1k$.
#
# </details>


# %% q2_5 answer
def chance_aupr(errors, total):
    """Expected AUPR of a random ranking of `errors` errors (at least 1) among `total` inputs (at least 2)."""
    ### BEGIN SOLUTION
    harmonic = sum(1 / k for k in range(1, total + 1))
    return (errors - 1) / (total - 1) + (total - errors) / (total * (total - 1)) * harmonic
    ### END SOLUTION


# %% q2_5_test test 1
hint = "Two orders, equally likely: the error first (AUPR 1) or last (AUPR 1/2)."
assert matches("chance_aupr(1, 2)", chance_aupr(1, 2), 0.75, hint=hint)
assert matches("chance_aupr(3, 3)", chance_aupr(3, 3), 1.0, hint="All are errors: every order has precision 1.")


### BEGIN HIDDEN TESTS
def draw(rng):
    pairs = [[1, 2], [3, 3], [2, 4]]
    for _ in range(3):
        total = int(rng.integers(5, 30))
        pairs.append([int(rng.integers(1, total)), total])
    return [*pairs, [int(rng.integers(10, 80)), int(rng.integers(2000, 4000))]]


def ask(chance_aupr, inputs):
    return [chance_aupr(errors, total) for errors, total in inputs]


def shapes(inputs):
    return [()] * len(inputs)


def judge(inputs, got):
    for (errors, total), value in zip(inputs, got, strict=True):
        # the precision at the rank of an error, averaged over where its place may be and who is before it
        ranks = np.arange(1, total + 1)
        want = ((1 + (ranks - 1) * (errors - 1) / (total - 1)) / ranks).mean()
        if wrong := differs(f"the chance level of {errors} errors among {total}", value, want, rtol=1e-5):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# Now the race. All scores judge the predictions of the same network on the same test digits. ConfidNet is fitted as in
# 2.2 and 2.3, to the training digits (the held-out part of them chooses the epoch); it takes some seconds.

# %% tags=["demo"]
confidnet = failure.fit_confidnet(net, x_all, y_all, epochs=50 if FULL else 12, generator=devices.generator(0))
confidences = {"MCP": logits_test.softmax(dim=1).amax(dim=1), "ConfidNet": confidnet(x_test)}
for name, score in failure.confidence_scores(mc_test).items():
    confidences[f"MC Dropout, {name}"] = score

figure, ax = plt.subplots(figsize=style.figsize(1, 4.2))
for name, score in confidences.items():
    draw.precision_recall(failure.failure_metrics(score, correct).detection, negatives=True, label=name, ax=ax)
    print(f"{name:32} AUPR {100 * aupr_error(score, correct):5.1f} %")
errors = int((~correct).sum())
print(
    f"{'chance':32} AUPR {100 * chance_aupr(errors, len(correct)):5.2f} %   (R/N: {100 * errors / len(correct):.2f} %)"
)
ax.set_title(f"finding {errors} misread digits among {len(correct)}")
plt.show()

# %% [markdown]
# ### Question 2.6: is the winner a winner? (1 point)
#
# Each of the $R$ errors carries about $1/R$ of the AUPR: with a hundred errors, **one image that changes its place
# moves the AUPR by up to a point**. How far would the *difference* of two scores move on another test set? The **paired
# bootstrap** draws test sets from this one, with replacement, and compares *both* scores on *each* of them. Row $b$ of
# `indices` says which inputs are in test set $b$. Return for each the AUPR of score $a$ minus that of score $b$. Use
# `failure.failure_metrics(confidence, correct).aupr_error`, which is question 2.4.
#
# **Shapes.** `confidence_a`, `confidence_b`, `correct` (N,); `indices` (B, K) → (B,).


# %% q2_6 answer
def resampled_differences(confidence_a, confidence_b, correct, indices):
    """AUPR of a minus AUPR of b on each resampled test set: (B,) for indices (B, K)."""

    ### BEGIN SOLUTION
    def aupr(confidence, chosen):
        return failure.failure_metrics(confidence[chosen], correct[chosen]).aupr_error

    return torch.tensor([aupr(confidence_a, chosen) - aupr(confidence_b, chosen) for chosen in indices])
    ### END SOLUTION


# %% q2_6_test test 1
a, b = torch.tensor([0.1, 0.2, 0.3, 0.4], device=device), torch.tensor([0.4, 0.3, 0.2, 0.1], device=device)
indices = torch.tensor([[0, 1, 2, 3], [0, 1, 1, 1], [2, 2, 3, 3]], device=device)
answer = resampled_differences(a, b, torch.tensor([False, True, False, True], device=device), indices)
hint = "Row [0, 1, 1, 1] holds one error: a finds it first (AUPR 1), b last (1/4). Both scores on the same images."
assert matches("three differences", answer, [1 / 3, 0.75, 0.5], rtol=1e-5, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    four = {"a": np.array([0.1, 0.2, 0.3, 0.4]), "b": np.array([0.4, 0.3, 0.2, 0.1])}
    four["correct"] = np.array([False, True, False, True])
    cases = [four | {"indices": np.array([[0, 1, 2, 3], [0, 1, 1, 1], [2, 2, 3, 3]])}]
    for sets in (5, 1):
        correct = rng.uniform(size=60) < 0.7
        correct[:2] = [True, False]
        a, b = (np.round(rng.normal(size=60) + shift * correct, 5) for shift in (1, 2))
        # errors and right ones in each test set
        indices = np.column_stack([np.tile([0, 1], (sets, 1)), rng.integers(60, size=(sets, 50))])
        cases.append({"a": a, "b": b, "correct": correct, "indices": indices})
    return cases


def ask(resampled_differences, inputs):
    answers = []
    for case in inputs:
        given = [torch.tensor(case[name], device=device) for name in ("a", "b", "correct", "indices")]
        answers.append(resampled_differences(*given))
    return answers


def shapes(inputs):
    return [(len(case["indices"]),) for case in inputs]


def judge(inputs, got):
    def aupr(score, correct):
        return np.mean([(~correct[score <= s]).mean() for s in score[~correct]])

    for case, differences in zip(inputs, got, strict=True):
        want = [
            aupr(case["a"][rows], case["correct"][rows]) - aupr(case["b"][rows], case["correct"][rows])
            for rows in case["indices"]
        ]
        what = f"the differences on {len(want)} test sets of {case['indices'].shape[1]} from N = {len(case['a'])}"
        if wrong := differs(what, differences, want, rtol=1e-4, atol=1e-5, hint="Both scores on the same images."):
            return wrong


### END HIDDEN TESTS

# %% tags=["demo"]
draws = torch.randint(len(correct), (200, len(correct)), generator=devices.generator(3)).to(device)
rivals = {name: score for name, score in confidences.items() if name != "MCP"}
figure, ax = plt.subplots(figsize=style.figsize(1, 3))
for row, (name, score) in enumerate(rivals.items()):
    differences = 100 * torch.as_tensor(resampled_differences(score, confidences["MCP"], correct, draws)).cpu().double()
    low, high = differences.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    ax.plot([low, high], [row, row], lw=4, solid_capstyle="round", color=style.COLORS["blue"])
    ax.plot(float(differences.mean()), row, "o", color=style.COLORS["orange"])
    print(f"{name:32} beats MCP in {100 * (differences > 0).double().mean():3.0f} % of the resampled test sets")
ax.axvline(0, ls="--", color=style.COLORS["black"], lw=1)
ax.set(
    yticks=range(len(rivals)),
    yticklabels=list(rivals),
    xlabel="AUPR minus that of MCP, points (95 % of the resampled sets)",
)
ax.invert_yaxis()
plt.show()

full = aupr_error(confidences["MCP"], correct)
without_one = []
for n in (~correct).nonzero().flatten().tolist():
    kept = torch.arange(len(correct), device=device) != n
    without_one.append(100 * (failure.failure_metrics(confidences["MCP"][kept], correct[kept]).aupr_error - full))
print(
    f"without one of the {errors} errors the AUPR of MCP moves by {min(without_one):+.2f} to {max(without_one):+.2f} points"
)

# %% [markdown]
# ## Part III. Is it a digit at all?
#
# *Nothing of parts I and II is needed here; only the comment, 3.4, looks back at part II.*
#
# A network that knows ten classes answers one of ten, whatever it is shown. Here it is shown letters, drawn from fonts
# in the size and the ink of the digits; D, I, O, S and Z, which look like digits, are left out. **Out-of-distribution
# detection**: a score that is larger for digits than for anything else.

# %% tags=["demo"]
x_foreign, foreign = None, "letters"
if FOREIGN == "kmnist":
    try:
        x_foreign, foreign = data.kmnist("test", normalize=True, device=device)[0][: len(x_test)], "Japanese characters"
    except ConnectionError as error:
        print(f"Letters it is, for KMNIST did not come:\n{error}")
if x_foreign is None:
    x_foreign, _ = data.glyphs(len(x_test), normalize=True, device=device)
logits_foreign = run(x_foreign)

# %% tags=["demo"]
some = torch.arange(16)
captions = [f"{int(k)}, {100 * float(p):.0f} %" for p, k in zip(*logits_foreign[some].softmax(1).max(1), strict=True)]
images.image_grid(x_foreign[some], captions=captions)
plt.title("what the network reads, and how sure it is")
plt.show()

# %% [markdown]
# ### Question 3.1: find the faults, ODIN step by step (2 points)
#
# **ODIN** (Liang et al. 2018) does two things to the softmax: it divides the logits by a large temperature $T$, and it
# first moves the input a small step towards *more* confidence, which helps digits more than strangers, or so one hopes:
#
# $$\begin{gathered}
# S(x) = \max_c\, \mathrm{softmax}\bigl(z(x)/T\bigr)_c, \\
# \tilde x = x + \epsilon\,\mathrm{sign}\bigl(\nabla_x \log S(x)\bigr), \\
# \text{score} = S(\tilde x) .
# \end{gathered}$$
#
# A published notebook moves the input like this:
#
# ```python
# def odin_input(model, x, temperature, epsilon):
#     x.requires_grad_()
#     logits = model(x)
#     loss = F.cross_entropy(logits, logits.argmax(dim=1))
#     loss.backward()
#     moved = x - epsilon * x.grad.sign()
#     moved.clip(0, 1)
#     return moved
# ```
#
# One check asks for the right step (1 point), another for good manners (1 point). In steps:
#
# 1. work on a copy of `x` that asks for a gradient; the caller's `x` stays as it is;
# 2. the model in evaluation mode (afterwards each module in the mode in which it came);
# 3. $\log S$ with the temperature **inside**: it changes the direction of the gradient as soon as there are three
#    classes;
# 4. the gradient with respect to the input *alone*: no parameter of the model gets a `.grad`;
# 5. the step, towards larger $S$, and by its sign only;
# 6. cut the result to what a pixel can be, between `low` and `high` (for normalised images this is not 0 to 1), and
#    *keep* what the cut returns;
# 7. return it without gradient.
#
# **Shapes.** `x` (N, ...) → (N, ...).
#
# <details><summary>Hint</summary>
#
# `torch.autograd.grad(total, copy)` returns a tuple with the gradient of a number and leaves no trace anywhere. Inputs
# of a batch do not mix in evaluation mode, so the gradient of the *sum* over the batch has each input's own gradient in
# its place. $\log S$ is `(logits / temperature).log_softmax(dim=1).amax(dim=1)`.
#
# </details>


# %% q3_1 answer
def odin_input(model, x, temperature, epsilon, low, high):
    """The inputs (N, ...) moved by epsilon towards more confidence at this temperature, cut to [low, high]."""
    ### BEGIN SOLUTION
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    copy = x.detach().clone().requires_grad_()
    log_score = (model(copy) / temperature).log_softmax(dim=1).amax(dim=1)
    (gradient,) = torch.autograd.grad(log_score.sum(), copy)
    for module, mode in modes:
        module.training = mode
    return (copy.detach() + epsilon * gradient.sign()).clamp(low, high)
    ### END SOLUTION


# %% q3_1_test test 1
plane = torch.nn.Linear(2, 3, bias=False).to(device)
with torch.no_grad():
    plane.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-4.0, -3.0]]))
x = torch.tensor([[3.0, 2.9]], device=device)  # logits (3, 2.9, -20.7)
hint = "+0.1 in the first pixel makes class 0 larger. If you got 2.9, the step goes towards less confidence."
assert matches("first pixel", odin_input(plane, x, 1.0, 0.1, -9.0, 9.0)[0, 0], 3.1, rtol=1e-4, hint=hint)
hint = "At T = 1 only classes 0 and 1 count: more of class 1 in the second pixel would make class 0 less sure."
assert matches("T = 1", odin_input(plane, x, 1.0, 0.1, -9.0, 9.0), [[3.1, 2.8]], rtol=1e-4, hint=hint)
hint = "At T = 1000 class 2 counts as much as class 1; a larger second pixel makes it smaller. Is T in the gradient?"
assert matches("T = 1000", odin_input(plane, x, 1000.0, 0.1, -9.0, 9.0), [[3.1, 3.0]], rtol=1e-4, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    weight = np.array([[1.0, 0.0], [0.0, 1.0], [-4.0, -3.0]])
    cases = [{"weight": weight, "x": np.array([[3.0, 2.9]]), "temperatures": [1.0, 1000.0], "epsilon": 0.1}]
    for size in (8, 1):
        case = {
            "weight": rng.normal(size=(5, 40)),
            "x": rng.normal(size=(size, 40)),
            "temperatures": [1.0, 50.0, 1000.0],
        }
        cases.append(case | {"epsilon": float(rng.uniform(0.01, 0.1))})
    return cases


def ask(odin_input, inputs):
    answers = []
    for case in inputs:
        classes, size = case["weight"].shape
        model = torch.nn.Linear(size, classes, bias=False).double().to(device).eval()
        model.weight.data.copy_(torch.tensor(case["weight"]))
        x = torch.tensor(case["x"], device=device)
        answers.append([odin_input(model, x, t, case["epsilon"], -99.0, 99.0) for t in case["temperatures"]])
    return answers


def shapes(inputs):
    return [[case["x"].shape] * len(case["temperatures"]) for case in inputs]


def judge(inputs, got):
    for case, answers in zip(inputs, got, strict=True):
        weight, x, epsilon = case["weight"], case["x"], case["epsilon"]
        for temperature, moved in zip(case["temperatures"], answers, strict=True):
            logits = x @ weight.T / temperature
            p = np.exp(logits - logits.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            gradient = weight[logits.argmax(1)] - p @ weight  # of log S, times T
            clear = np.abs(gradient) > 1e-4  # elsewhere rounding decides the sign
            want = np.where(clear, x + epsilon * np.sign(gradient), moved)
            what = f"the moved inputs for C = {len(weight)}, {len(x)} x {x.shape[1]} pixels, T = {temperature:g}"
            hint = (
                f"epsilon is {epsilon:.3g}; the step follows the sign of the gradient of log S, with T inside, from x."
            )
            if wrong := differs(what, moved, want, rtol=1e-5, atol=1e-5, hint=hint):
                return wrong


### END HIDDEN TESTS

# %% q3_1_manners_test test 1
small = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(6, 3)).to(device).train()
x = torch.full((4, 6), -0.5, device=device)
answer = odin_input(small, x, 10.0, 0.1, -0.5, 2.0)
assert answer is not None and tuple(answer.shape) == (4, 6), "odin_input must return as many numbers as x has: (4, 6)"
assert not answer.requires_grad and not x.requires_grad, "neither the result nor the caller's x may ask for a gradient"
assert float(answer.min()) >= -0.5, "a pixel fell below `low`: clamp returns a new tensor, keep it"
assert all(w.grad is None for w in small.parameters()), "a parameter got a gradient: torch.autograd.grad leaves none"
assert all(m.training for m in small.modules()), "the model came in training mode: it must leave in that mode"
assert torch.equal(answer, odin_input(small, x, 10.0, 0.1, -0.5, 2.0)), "twice the same, two results: dropout is on"


### BEGIN HIDDEN TESTS
def draw(rng):
    cases = []
    for flags in ([True] * 3, [False] * 3, [False, True, False]):
        low, high = float(rng.uniform(-3, -1)), float(rng.uniform(2, 4))
        case = {
            "weight": rng.normal(size=(4, 50)),
            "bias": rng.normal(size=4),
            "flags": flags,
            "low": low,
            "high": high,
        }
        cases.append(case | {"x": rng.choice([low, high, 0.3], (6, 50))})
    return cases


def ask(odin_input, inputs):
    answers = []
    for case in inputs:
        linear = torch.nn.Linear(50, 4)
        model = torch.nn.Sequential(torch.nn.Dropout(0.5), linear).double().to(device)
        linear.weight.data.copy_(torch.tensor(case["weight"]))
        linear.bias.data.copy_(torch.tensor(case["bias"]))
        for module, flag in zip(model.modules(), case["flags"], strict=True):
            module.training = flag
        x = torch.tensor(case["x"], device=device)
        moved, again = (odin_input(model, x, 5.0, 0.2, case["low"], case["high"]) for _ in range(2))
        answer = {"moved inputs": moved, "moved inputs, asked again": again, "the caller's inputs afterwards": x}
        answer["gradients asked for by the result and the caller's inputs"] = [
            int(getattr(part, "requires_grad", 0)) for part in (moved, x)
        ]
        answer["modes afterwards"] = [int(module.training) for module in model.modules()]
        answer["gradients of the weights"] = [linear.weight.grad, linear.bias.grad]
        answers.append(answer)
    return answers


def shapes(inputs):
    one = {"moved inputs": (6, 50), "moved inputs, asked again": (6, 50), "the caller's inputs afterwards": (6, 50)}
    one |= {"gradients asked for by the result and the caller's inputs": (2,), "modes afterwards": (3,)}
    return [one | {"gradients of the weights": [maybe((4, 50)), maybe((4,))]}] * len(inputs)


def judge(inputs, got):
    for case, answer in zip(inputs, got, strict=True):
        moved, again, after, asked, modes, gradients = answer.values()
        x, low, high = case["x"], case["low"], case["high"]
        where = f"a model whose modules came in the modes {case['flags']} (True: training), low = {low:.3g}, high = {high:.3g}"
        if not np.isfinite(moved).all():
            return f"{where}: the moved inputs hold NaN or infinity."
        if moved.min() < low - 1e-5 or moved.max() > high + 1e-5:
            return f"{where}: the moved inputs lie between {moved.min():.4g} and {moved.max():.4g}: is the cut kept?"
        step = np.abs(moved - x)
        if step.max() > 0.2 + 1e-5:
            return f"{where}, epsilon = 0.2: a pixel moved by {step.max():.4g}: it was cut to another range."
        logits = (x @ case["weight"].T + case["bias"]) / 5
        p = np.exp(logits - logits.max(1, keepdims=True))
        slope = case["weight"][logits.argmax(1)] - p @ case["weight"] / p.sum(1, keepdims=True)
        inside = step[(x == 0.3) & (np.abs(slope) > 1e-4)]
        if inside.min() < 0.2 - 1e-5:
            return f"{where}, epsilon = 0.2: a pixel of 0.3, inside the range, moved by {inside.min():.4g} alone."
        wrong = differs(f"{where}: the result of a second call", again, moved, atol=1e-6, hint="Is dropout on?")
        if wrong := wrong or differs(f"{where}: the caller's inputs afterwards", after, x):
            return wrong
        if asked.any():
            return f"{where}: the result or the caller's inputs ask for a gradient afterwards."
        if any(gradient is not None for gradient in gradients):
            return f"{where}: a parameter of the model got a gradient."
        if not np.array_equal(modes, case["flags"]):
            return f"{where}: the modes of the modules are afterwards {describe(modes.astype(bool))}."


### END HIDDEN TESTS

# %% [markdown]
# ### Question 3.2: what a large temperature does (1 point)
#
# As $T \to \infty$ the softmax tends to $\frac1C$ for everybody. But the *order* of the inputs does not vanish with it:
#
# $$C\,T\,\Bigl(\max_c\, \mathrm{softmax}(z/T)_c - \frac1C\Bigr) \;\longrightarrow\; g(z) .$$
#
# Find $g$, and write it. (Expand $e^{z/T}$ to first order in $1/T$; the error of the limit shrinks like $1/T$.)
#
# **Shapes.** `logits` (N, C) → (N,).


# %% q3_2 answer
def hot_limit(logits):
    """The score (N,) by which ODIN orders inputs with these logits (N, C) when T is very large."""
    ### BEGIN SOLUTION
    return logits.amax(dim=1) - logits.mean(dim=1)
    ### END SOLUTION


# %% q3_2_test test 1
z = torch.tensor([[3.0, 0.0, 0.0], [5.0, 2.0, -1.0]], dtype=torch.float64, device=device)
T = 1e6
limit = 3 * T * ((z / T).softmax(dim=1).amax(dim=1) - 1 / 3)
hint = "Softmax does not change when the same number is added to all logits: neither may its limit. Each value C = 3"
hint += " times too small? The limit is that of C T (max softmax - 1/C), with the factor C."
assert matches("the limit for two inputs", hot_limit(z), limit, rtol=1e-4, hint=hint)


### BEGIN HIDDEN TESTS
def draw(rng):
    cases = [np.array([[3.0, 0.0, 0.0], [5.0, 2.0, -1.0]])]
    for size, classes in ((30, 5), (30, 10), (1, 3), (30, 2)):
        cases.append(4 * rng.normal(size=(size, classes)) + rng.normal(size=(size, 1)))
    return cases


def ask(hot_limit, inputs):
    return [hot_limit(torch.tensor(logits, device=device)) for logits in inputs]


def shapes(inputs):
    return [(len(logits),) for logits in inputs]


def judge(inputs, got):
    for logits, limit in zip(inputs, got, strict=True):
        want = (logits.max(1, keepdims=True) - logits).mean(1)
        what = f"the limit for logits of shape (N, C) = {logits.shape}, the first {describe(logits[0])}"
        if wrong := differs(what, limit, want, rtol=1e-4, atol=1e-4):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# ### Question 3.3: distance to what it knows (1 point)
#
# All scores so far look at the logits, which know ten directions. The 100 features before the last layer know more.
# Describe the features $\phi$ of the training images by one normal law a class with its mean $\mu_c$ and *one*
# covariance for all, $\Sigma = \frac1N\sum_n (\phi_n - \mu_{y_n})(\phi_n - \mu_{y_n})^\top + \rho I$ (the small $\rho$
# is there for units that never vary). The score of a new image is minus the squared **Mahalanobis distance** to the
# nearest mean,
#
# $$-\min_c\;(\phi - \mu_c)^\top \Sigma^{-1} (\phi - \mu_c) .$$
#
# **Shapes.** `features` (N, M), `labels` (N,), classes 0 to C-1, each at least once; `new` (K, M); `ridge` = $\rho$ →
# (K,).
#
# <details><summary>Hint</summary>
#
# `means[labels]` has shape (N, M): to each training image the mean of its class. Differences of all new features to all
# means have shape (K, C, M) with `new[:, None] - means`.
#
# </details>


# %% q3_3 answer
def mahalanobis_scores(features, labels, new, ridge):
    """Minus the squared distance (K,) of new features (K, M) to the nearest class mean, in units of the covariance."""
    ### BEGIN SOLUTION
    means = torch.stack([features[labels == c].mean(dim=0) for c in range(int(labels.max()) + 1)])
    centred = features - means[labels]
    identity = torch.eye(features.shape[1], dtype=features.dtype, device=features.device)
    precision = torch.linalg.inv(centred.T @ centred / len(features) + ridge * identity)
    gaps = new[:, None] - means
    return -((gaps @ precision) * gaps).sum(dim=2).amin(dim=1)
    ### END SOLUTION


# %% q3_3_test test 1
features = torch.tensor([[-4.0, 0.5], [-2.0, -0.5], [2.0, 0.5], [4.0, -0.5]], dtype=torch.float64, device=device)
labels = torch.tensor([0, 0, 1, 1], device=device)
new = torch.tensor([[3.0, 0.0], [3.0, 1.0], [0.0, 0.0]], dtype=torch.float64, device=device)
answer = mahalanobis_scores(features, labels, new[:1], 1.0)
assert matches("score on a mean", answer, [0], atol=1e-6, hint="The distance to the nearest mean, (3, 0), is 0.")
hint = (
    "Covariance about the means (1, -0.5; -0.5, 0.25) plus the identity. About one common mean it would be (10, ...)."
)
assert matches(
    "score of three inputs", mahalanobis_scores(features, labels, new, 1.0), [0, -8 / 9, -5], rtol=1e-4, hint=hint
)


### BEGIN HIDDEN TESTS
def draw(rng):
    features = np.array([[-4.0, 0.5], [-2.0, -0.5], [2.0, 0.5], [4.0, -0.5]])
    new = np.array([[3.0, 0.0], [3.0, 1.0], [0.0, 0.0]])
    cases = [{"features": features, "labels": np.array([0, 0, 1, 1]), "new": new, "ridge": 1.0}]
    for size, classes, columns, asked in ((60, 3, 4, 9), (40, 2, 5, 9), (30, 4, 3, 1)):
        labels = np.concatenate([np.arange(classes), rng.integers(classes, size=size - classes)])
        spread = rng.normal(size=(size, columns)) @ rng.normal(size=(columns, columns))
        features = spread + 3 * rng.normal(size=(classes, columns))[labels]
        case = {"features": features, "labels": labels, "new": 3 * rng.normal(size=(asked, columns))}
        cases.append(case | {"ridge": float(rng.uniform(0.1, 1.0))})
    return cases


def ask(mahalanobis_scores, inputs):
    answers = []
    for case in inputs:
        given = [torch.tensor(case[name], device=device) for name in ("features", "labels", "new")]
        answers.append(mahalanobis_scores(*given, case["ridge"]))
    return answers


def shapes(inputs):
    return [(len(case["new"]),) for case in inputs]


def judge(inputs, got):
    for case, scores in zip(inputs, got, strict=True):
        features, labels, new = case["features"], case["labels"], case["new"]
        one_hot = np.eye(labels.max() + 1)[labels]
        means = np.linalg.lstsq(one_hot, features, rcond=None)[0]  # least squares on the classes gives their means
        values, vectors = np.linalg.eigh(np.cov((features - one_hot @ means).T, bias=True))
        white = vectors / np.sqrt(values + case["ridge"])
        want = -((((new[:, None] - means) @ white) ** 2).sum(2)).min(1)
        what = (
            f"the scores of {len(new)} new inputs, N = {len(features)}, {len(means)} classes, M = {features.shape[1]}"
        )
        if wrong := differs(f"{what}, ridge = {case['ridge']:.3g}", scores, want, rtol=1e-4, atol=1e-4):
            return wrong


### END HIDDEN TESTS

# %% [markdown]
# The second race. The **energy** $\log\sum_c e^{z_c}$ is the soft version of the largest logit. ODIN gets the settings
# of the original experiment, $T = 5$ and a step of 0.0014 (in normalised units, divided by 0.3081). Foreign images are
# the positives of the AUPR, and half of the images: chance is 50 %.

# %% tags=["demo"]
epsilon, (low, high) = 0.0014 / data.STD, data.NORMALIZED_RANGE


def odin_score(x, temperature):
    moved = [torch.as_tensor(odin_input(net, part, temperature, epsilon, low, high)) for part in x.split(500)]
    return (run(torch.cat(moved)) / temperature).softmax(dim=1).amax(dim=1)


def features_of(x):
    with torch.no_grad():
        return torch.cat([net.features(part) for part in x.split(500)]).double()


phi_train = features_of(x_train)
ridge = 1e-6 * float(phi_train.var(dim=0).mean())
mc_foreign = MCDropout(net).predict(x_foreign, samples=50, generator=devices.generator(4, device=device))
sides = []  # the scores of the digits, then those of the foreign images
for x, logits, mc in ((x_test, logits_test, mc_test), (x_foreign, logits_foreign, mc_foreign)):
    scores = {"MCP": logits.softmax(dim=1).amax(dim=1)}
    scores["MC Dropout, variation ratio"] = -mc.variation_ratio
    scores["MC Dropout, mutual information"] = -mc.mutual_information
    scores["ODIN, T = 5"] = odin_score(x, 5.0)
    scores["max - mean logit (ODIN, T → ∞)"] = torch.as_tensor(hot_limit(logits))
    scores["energy"] = logits.logsumexp(dim=1)
    scores["Mahalanobis"] = torch.as_tensor(mahalanobis_scores(phi_train, y_train, features_of(x), ridge))
    sides.append(scores)
is_foreign = torch.arange(len(x_test) + len(x_foreign), device=device) >= len(x_test)
for name, of_digits in sides[0].items():
    metrics = detection.detection_metrics(-torch.cat([of_digits, sides[1][name]]), is_foreign)
    print(f"{name:32} AUPR {100 * metrics.aupr:5.1f} %   AUROC {100 * metrics.auroc:5.1f} %")

# %% tags=["demo"]
figure, axes = plt.subplots(1, 3, figsize=style.figsize(1.6, 3.2))
for ax, name in zip(axes, ("MCP", "MC Dropout, mutual information", "Mahalanobis"), strict=True):
    pair = {"digits": sides[0][name], foreign: sides[1][name]}
    if name == "Mahalanobis":
        pair = {who: -(-scores).clamp_min(1).log10() for who, scores in pair.items()}
        name = "minus log10 of the squared distance"
    draw.score_histograms(pair, xlabel=name, ax=ax)
plt.show()

# %% [markdown]
# ### Question 3.4: a comment (1 point, read by a person)
#
# Two races, two tables. Which differences between the scores would you believe on another test set and another trained
# network, and which are noise (use 2.6)? Which score is among the better in one race and not in the other, and why can
# that be? ConfidNet won in the paper that proposed it; what could it lack here? Five or six sentences.

# %% q3_4 text 1 [markdown]
# <!-- BEGIN SOLUTION -->
# *Model answer.* With 90 errors most 95 % intervals of 2.6 are ten points wide and more and hold zero: the order of
# MCP, the largest MC Dropout probability and the variation ratio is noise, and flips with the test set and the seed.
# (Over 13 trained networks the variation ratio beat MCP 8 times.) The entropy of MC Dropout stays behind MCP in nearly
# all resampled sets: that one is believable. The second race has thousands of positives, so differences of several
# points are no accident of the test images; whether they survive another network or other letters only more runs can
# tell. (Mutual information beat MCP on letters in 13 networks of 13; MCP, energy and ODIN lie close together and change
# places.) Mutual information is far ahead of MCP on letters and behind it in failure prediction: a misread digit lies
# *between* classes, near the training data, where each pass by itself is undecided and all agree on that; a letter lies
# *off* the data, where the passes have learned nothing in common and disagree. The same holds for Mahalanobis, which
# measures the distance to the data. ConfidNet learns from errors, and a network that reads 99 % of its training digits
# rightly shows it only about a hundred of them: too few to learn what a misread digit looks like.
#
# *Rubric.* ½ point: uses the intervals of 2.6 (or the number of errors) to tell noise from difference, and names at
# least one of each. ½ point: an explanation why the two tasks reward different scores (between the classes against off
# the data), *or* a sound one for ConfidNet (too few errors to learn from). Do not insist on a certain winner: it
# depends on the run.
# <!-- END SOLUTION -->

# %% [markdown]
# ## Part IV. Accept, hand over, reject
#
# *Nothing of parts I to III is needed here.*
#
# Everything meets in one open question. A letter box full of forms: most fields hold a digit, one in five a letter. For
# each image the system sees its `Evidence` (section 0),
#
# | field | shape | what it is |
# |---|---|---|
# | `.probs` | (N, 10) | mean probabilities of MC Dropout, 30 passes |
# | `.mutual_information` | (N,) | on what the passes disagree, in nats |
# | `.energy` | (N,) | log-sum-exp of the logits, larger for digits |
# | `.distance` | (N,) | squared Mahalanobis distance to the nearest class, smaller for digits |
#
# and may
#
# - **accept** (0): the predicted digit goes into the books;
# - **hand over** (1): a person reads it;
# - **reject** (2): "this is no digit", and the form goes back.

# %% [markdown]
# ### Question 4.1: your rule (1 point)
#
# Write the rule. It gets the evidence of a stream of `new` images, and that of `known` digits, which are no part of the
# stream; nobody hands it a letter to learn from. The visible check is a rehearsal with held-out digits and your network;
# the one that counts shows your rule the evidence of another network, trained in the same way, about 2,000 test digits and
# 500 letters, in random order. On both the rule must
#
# - accept at least 80 % of the digits (*coverage*),
# - with a *risk* of at most 7 %: the share, among all that it accepts, of digits misread and letters taken for digits,
# - reject at most 8 % of the digits,
# - and reject at least 40 % of the letters, and more of them than a *baseline*: "the largest probability is below a
#   threshold", which the check sets so that the baseline rejects as many digits as your rule.
#
# **Shapes.** two `Evidence`, of N and of K images → (N,) whole numbers 0, 1 or 2.
#
# <details><summary>Hint</summary>
#
# "So far from all classes that only 2 % of the known digits are as far" is a threshold which needs no letter:
# `known.distance.quantile(0.98)`. Two such thresholds, on two kinds of evidence, reject at most 2 % + 2 % of the known
# digits, and more of the letters than one threshold that spends the 4 %. (Or add up how extreme an image is by each.)
# What is near, but not sure, is for a person. Leave room: the shares on new digits are not those on the known ones, for
# the known ones are a sample, and other people wrote the test digits. Thresholds from the stream itself are a trap: who
# knows how many letters it holds?
#
# </details>


# %% q4_1 answer
def decide(new, known):
    """0 accept, 1 hand over, 2 reject, for each of the N images of new; thresholds from the digits in known."""
    ### BEGIN SOLUTION

    def surprise(evidence):
        """Minus the log of the share of the known digits that are as extreme, summed over three kinds of evidence."""
        total = torch.zeros_like(evidence.distance)
        for name, sign in (("distance", 1), ("mutual_information", 1), ("energy", -1)):
            reference = (sign * getattr(known, name)).sort().values
            as_extreme = len(reference) - torch.searchsorted(reference, sign * getattr(evidence, name))
            total -= (as_extreme.clamp_min(1) / len(reference)).log()
        return total

    decision = (new.probs.amax(dim=1) < known.probs.amax(dim=1).quantile(0.12)).long()
    decision[surprise(new) > surprise(known).quantile(0.97)] = 2
    return decision
    ### END SOLUTION


# %% q4_1_test test 1
answer = decide(rehearsal, known)
assert answer is not None, "decide returned None (does it end with `return`?)"
decision = torch.as_tensor(answer).to(device)
assert tuple(decision.shape) == (625,), f"625 images need 625 decisions, not shape {tuple(decision.shape)}"
assert bool(torch.isin(decision, torch.arange(3, device=device)).all()), "a decision is 0, 1 or 2"
good = rehearsal.probs.argmax(dim=1)[:500] == y_held[drill]
accepted = decision == 0
coverage = float(accepted[:500].double().mean())
risk = 1 - float((accepted[:500] & good).sum()) / max(1, int(accepted.sum()))
letters_rejected, digits_rejected = (float((part == 2).double().mean()) for part in (decision[500:], decision[:500]))
sure = rehearsal.probs.amax(dim=1)
threshold = sure[:500].sort().values[min(499, int((decision[:500] == 2).sum()))]  # rejects as many digits as the rule
baseline = float((sure[500:] < threshold).double().mean())
print(f"coverage {100 * coverage:.1f} %, risk {100 * risk:.1f} %, rejected {100 * digits_rejected:.1f} % of the digits")
print(f"rejected {100 * letters_rejected:.1f} % of the letters (the baseline: {100 * baseline:.1f} %)")
assert coverage >= 0.80, f"only {100 * coverage:.1f} % of the digits are accepted, at least 80 % must be"
assert risk <= 0.07, f"the risk among the accepted is {100 * risk:.1f} %, at most 7 % is allowed"
assert digits_rejected <= 0.08, f"{100 * digits_rejected:.1f} % of the digits are rejected, at most 8 % may be"
assert letters_rejected >= 0.40, f"only {100 * letters_rejected:.1f} % of the letters are rejected, 40 % must be"
assert letters_rejected > baseline, (
    f"{100 * letters_rejected:.1f} % of the letters are rejected; with as many digits rejected, the largest "
    f"probability alone rejects {100 * baseline:.1f} %. Which evidence have you not used?"
)


### BEGIN HIDDEN TESTS
def draw(rng):
    pool = load("pool.npz")
    fields = ("probs", "mutual_information", "energy", "distance")
    digits, letters = (
        rng.permutation(len(pool[f"{name} energy"]))[:n] for name, n in (("digits", 2000), ("letters", 500))
    )
    order = rng.permutation(2500)
    new = {f: np.concatenate([pool[f"digits {f}"][digits], pool[f"letters {f}"][letters]])[order] for f in fields}
    truth = np.concatenate([pool["digits label"][digits], np.full(500, -1)])[order]
    return {"new": new, "known": {f: pool[f"known {f}"] for f in fields}, "_truth": truth}


def ask(decide, inputs):
    from collections import namedtuple

    Evidence = namedtuple("Evidence", ("probs", "mutual_information", "energy", "distance"))
    new, known = (
        Evidence(**{field: torch.tensor(values, device=device) for field, values in inputs[name].items()})
        for name in ("new", "known")
    )
    return decide(new, known)


def shapes(inputs):
    return (len(inputs["_truth"]),)


def judge(inputs, got):
    truth, probs = inputs["_truth"], inputs["new"]["probs"]
    where = "on a fresh stream of 2000 test digits and 500 letters, read by another network"
    if not np.isin(got, (0, 1, 2)).all():
        other = got[~np.isin(got, (0, 1, 2))]
        return f"{where}: each decision is 0, 1 or 2; got {describe(other[:3])} among {len(got)}."
    digit, accepted, rejected = truth >= 0, got == 0, got == 2
    coverage = accepted[digit].mean()
    if coverage < 0.80:
        return f"{where}: {coverage:.3f} of the digits are accepted, at least 0.80 must be."
    risk = (probs.argmax(1) != truth)[accepted].mean()
    if risk > 0.07:
        return f"{where}: the risk among the accepted is {risk:.3f}, at most 0.07 is allowed."
    if (lost := rejected[digit].mean()) > 0.08:
        return f"{where}: {lost:.3f} of the digits are rejected, at most 0.08 may be."
    if (found := rejected[~digit].mean()) < 0.40:
        return f"{where}: {found:.3f} of the letters are rejected, at least 0.40 must be."
    sure = probs.max(1)
    baseline = (sure[~digit] < np.sort(sure[digit])[rejected[digit].sum()]).mean()
    if found <= baseline:
        return f"{where}: {found:.3f} of the letters are rejected; the largest probability alone: {baseline:.3f}."


### END HIDDEN TESTS

# %% [markdown]
# Where your rule draws its lines, and the trade-off behind it: the risk as a function of how many images of this stream
# are accepted, if they are ranked by one score alone.

# %% tags=["demo"]
decision = torch.as_tensor(decide(rehearsal, known)).to(device)
accepted, digits = decision == 0, torch.arange(625, device=device) < 500
right = torch.zeros(625, dtype=torch.bool, device=device)
right[:500] = rehearsal.probs.argmax(dim=1)[:500] == y_held[drill]
figure, (left, middle) = plt.subplots(1, 2, figsize=style.figsize(1.4, 3.8))
for value, (name, color) in enumerate({"accept": "blue", "hand over": "amber", "reject": "orange"}.items()):
    for kind, marker in ((digits, "o"), (~digits, "x")):
        here = (decision == value) & kind
        where = rehearsal.probs.amax(dim=1)[here].cpu(), rehearsal.distance[here].cpu()
        left.plot(
            *where,
            marker,
            ms=3 if marker == "o" else 5,
            ls="",
            color=style.COLORS[color],
            label=name if marker == "o" else None,
        )
left.set(
    yscale="log", xlabel="largest mean probability", ylabel="squared Mahalanobis distance", title="o digits, x letters"
)
left.legend(markerscale=2)
for name, score in (("largest probability", rehearsal.probs.amax(dim=1)), ("minus distance", -rehearsal.distance)):
    draw.risk_coverage_curve(detection.risk_coverage(score, right), label=name, ax=middle)
share, total = float(accepted.double().mean()), float((~right[accepted]).double().mean())
middle.plot(share, total, "*", ms=12, color=style.COLORS["orange"], label="your rule")
middle.set(xlabel="share of all images accepted", ylabel="share of errors among them")
middle.legend(loc="upper left", fontsize="small")
plt.show()

# %% [markdown]
# ### Question 4.2: a comment (1 point, read by a person)
#
# Defend your rule, and attack it. Which evidence does it use for which decision, and where do its thresholds come from?
# What happens to its promise if next year the forms are filled in with another pen, or hold something that is neither
# digit nor letter? What would you measure to notice? Four or five sentences.

# %% q4_2 text 1 [markdown]
# <!-- BEGIN SOLUTION -->
# *Model answer.* Rejection uses the distance to the training features, the mutual information and the energy together,
# for a letter is far from all classes, or the passes disagree about it, or all its logits are low;
# handing over uses the confidence, for a misread digit lies between classes. Both thresholds are quantiles over held-out digits, so the shares of digits rejected (3 %) and not accepted
# (at most 15 %) are kept by design, up to sampling, on digits *drawn like those*, whatever the letters are; nothing is promised of the letters, and the share of letters accepted was only
# measured, on these fonts. With another pen the digits themselves shift: distances grow, more digits are rejected,
# coverage falls; worse is a foreign image near the digits in feature space, which is accepted with confidence. To
# notice: watch the shares of the three decisions and the distribution of the distances over time against those of the
# held-out digits, and let a person read a small random sample of the *accepted* images, the only way to measure the
# risk.
#
# *Rubric.* ½ point: says which evidence serves which decision and that the thresholds come from held-out digits (not
# from the stream or the letters). ½ point: names the assumption behind the promise (new digits are distributed like the
# held-out ones, letters like these), and a way to notice its failure (drift of the scores, audit of accepted images).
# <!-- END SOLUTION -->

# %% [markdown]
# ## What to take away
#
# - Dropout is switched module by module; a sampler that always answers the same is not sampling.
# - Entropy is all uncertainty; mutual information is the part on which the passes disagree. Neither finds a confident
#   error that all share.
# - Confidence can be measured (ECE, and its floor) and repaired with one number, fitted on held-out data.
# - With rare errors, AUPR is noisy: know its chance level, resample it, and believe no ranking without an interval.
# - Between the classes and off the data are two places; one score rarely sees both. A rule can use several.
#
# The derivations are in session 7 of the book.
