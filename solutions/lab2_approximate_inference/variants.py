"""Answers to lab 2 that its checks must reject or accept; the faults of published versions are among them."""

from coursekit.classroom.labs.variants import Variant


def wrong(question: str, name: str, source: str) -> Variant:
    return Variant(question, name, "wrong", source, loses=(f"{question}_test",))


def right(question: str, name: str, source: str) -> Variant:
    return Variant(question, name, "right", source)


LAYER = """
class LinearVariational(nn.Module):
    def __init__(self, in_features, out_features, *, prior_std=1.0, bias=True, initial_std=0.05):
        super().__init__()
        self.prior_std = prior_std
        rho = math.log(math.expm1(initial_std))
        self.weight_mean = nn.Parameter(torch.randn(out_features, in_features) / math.sqrt(in_features))
        self.weight_rho = nn.Parameter(torch.full((out_features, in_features), rho))
        self.bias_mean = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.bias_rho = nn.Parameter(torch.full((out_features,), rho)) if bias else None

    def kl(self):
        total = bayes.kl_normal(self.weight_mean, F.softplus(self.weight_rho), self.prior_std)
        if self.bias_mean is not None:
            total = total + bayes.kl_normal(self.bias_mean, F.softplus(self.bias_rho), self.prior_std)
        return total

    def forward(self, x):
"""


def layer(forward: str) -> str:
    """The class of question 2.3 with another body of forward."""
    return LAYER + "".join(f"        {line}\n" for line in forward.strip().split("\n"))


VARIANTS = [
    # --- 1.1 minus the log of likelihood times prior
    wrong(
        "q1_1",
        "double sigmoid",
        """
def neg_log_joint(w, x, y, prior_std):
    p = torch.sigmoid(x @ w)
    return F.binary_cross_entropy_with_logits(p, y, reduction="sum") + (w @ w) / (2 * prior_std**2)
""",
    ),
    wrong(
        "q1_1",
        "mean over the data",
        """
def neg_log_joint(w, x, y, prior_std):
    return F.binary_cross_entropy_with_logits(x @ w, y) + (w @ w) / (2 * prior_std**2)
""",
    ),
    wrong(
        "q1_1",
        "mean of loss and penalty",
        """
def neg_log_joint(w, x, y, prior_std):
    return F.binary_cross_entropy_with_logits(x @ w, y) + (w @ w) / (2 * prior_std**2 * len(x))
""",
    ),
    wrong(
        "q1_1",
        "variance for standard deviation",
        """
def neg_log_joint(w, x, y, prior_std):
    return F.binary_cross_entropy_with_logits(x @ w, y, reduction="sum") + (w @ w) / (2 * prior_std)
""",
    ),
    wrong(
        "q1_1",
        "no factor 1/2",
        """
def neg_log_joint(w, x, y, prior_std):
    return F.binary_cross_entropy_with_logits(x @ w, y, reduction="sum") + (w @ w) / prior_std**2
""",
    ),
    wrong(
        "q1_1",
        "logarithm of a rounded probability",
        """
def neg_log_joint(w, x, y, prior_std):
    p = torch.sigmoid(x @ w)
    return -(y * p.log() + (1 - y) * (1 - p).log()).sum() + (w @ w) / (2 * prior_std**2)
""",
    ),
    wrong(
        "q1_1",
        "sigmoid of the wrong sign",
        """
def neg_log_joint(w, x, y, prior_std):
    return F.binary_cross_entropy_with_logits(-(x @ w), y, reduction="sum") + (w @ w) / (2 * prior_std**2)
""",
    ),
    right(
        "q1_1",
        "softplus of the margin",
        """
def neg_log_joint(w, x, y, prior_std):
    signs = 2 * y - 1
    return F.softplus(-signs * (x @ w)).sum() + 0.5 * (w / prior_std).square().sum()
""",
    ),
    right(
        "q1_1",
        "log of a sum of exponentials, point by point",
        """
def neg_log_joint(w, x, y, prior_std):
    total = (w @ w) / (2 * prior_std**2)
    for row, label in zip(x, y):
        logit = row @ w
        total = total + torch.logaddexp(torch.zeros_like(logit), logit) - label * logit
    return total
""",
    ),
    right(
        "q1_1",
        "torch.distributions",
        """
def neg_log_joint(w, x, y, prior_std):
    likelihood = torch.distributions.Bernoulli(logits=x @ w).log_prob(y).sum()
    prior = torch.distributions.Normal(torch.zeros_like(w), prior_std).log_prob(w).sum()
    return -likelihood - prior - len(w) * (math.log(prior_std) + 0.5 * math.log(2 * math.pi))
""",
    ),
    # --- 1.2 floor of the double sigmoid
    wrong(
        "q1_2",
        "zero",
        """
def double_sigmoid_floor(positives, negatives):
    return 0.0
""",
    ),
    wrong(
        "q1_2",
        "the published number",
        """
def double_sigmoid_floor(positives, negatives):
    return 201.2818
""",
    ),
    wrong(
        "q1_2",
        "equal classes assumed",
        """
def double_sigmoid_floor(positives, negatives):
    return (positives + negatives) / 2 * (math.log(2) + math.log(1 + math.exp(-1)))
""",
    ),
    wrong(
        "q1_2",
        "classes exchanged",
        """
def double_sigmoid_floor(positives, negatives):
    return positives * math.log(2) + negatives * math.log(1 + math.exp(-1))
""",
    ),
    wrong(
        "q1_2",
        "log 2 a point",
        """
def double_sigmoid_floor(positives, negatives):
    return (positives + negatives) * math.log(2)
""",
    ),
    wrong(
        "q1_2",
        "mean instead of sum",
        """
def double_sigmoid_floor(positives, negatives):
    n = positives + negatives
    return (positives * math.log(1 + math.exp(-1)) + negatives * math.log(2)) / n
""",
    ),
    right(
        "q1_2",
        "the loss itself at the best probabilities",
        """
def double_sigmoid_floor(positives, negatives):
    q = torch.cat([torch.ones(positives), torch.zeros(negatives)])
    return F.binary_cross_entropy_with_logits(q, q, reduction="sum")
""",
    ),
    right(
        "q1_2",
        "numpy, minimum on a grid",
        """
import numpy as np


def double_sigmoid_floor(positives, negatives):
    q = np.linspace(0, 1, 1001)
    return positives * np.log1p(np.exp(-q)).min() + negatives * np.log1p(np.exp(q)).min()
""",
    ),
    # --- 1.4 Hessian by hand
    wrong(
        "q1_4",
        "mean over the data",
        """
def hessian(w, x, prior_std):
    p = torch.sigmoid(x @ w)
    return (x.T * (p * (1 - p))) @ x / max(len(x), 1) + torch.eye(len(w)) / prior_std**2
""",
    ),
    wrong(
        "q1_4",
        "no prior",
        """
def hessian(w, x, prior_std):
    p = torch.sigmoid(x @ w)
    return (x.T * (p * (1 - p))) @ x
""",
    ),
    wrong(
        "q1_4",
        "prior variance for precision",
        """
def hessian(w, x, prior_std):
    p = torch.sigmoid(x @ w)
    return (x.T * (p * (1 - p))) @ x + torch.eye(len(w)) * prior_std**2
""",
    ),
    wrong(
        "q1_4",
        "Hessian of p, not of -log p",
        """
def hessian(w, x, prior_std):
    p = torch.sigmoid(x @ w)
    return (x.T * (p * (1 - p) * (1 - 2 * p))) @ x + torch.eye(len(w)) / prior_std**2
""",
    ),
    wrong(
        "q1_4",
        "p instead of p(1-p)",
        """
def hessian(w, x, prior_std):
    p = torch.sigmoid(x @ w)
    return (x.T * p) @ x + torch.eye(len(w)) / prior_std**2
""",
    ),
    wrong(
        "q1_4",
        "diagonal only",
        """
def hessian(w, x, prior_std):
    p = torch.sigmoid(x @ w)
    return torch.diag((p * (1 - p)) @ x**2 + 1 / prior_std**2)
""",
    ),
    wrong(
        "q1_4",
        "the covariance",
        """
def hessian(w, x, prior_std):
    p = torch.sigmoid(x @ w)
    return torch.linalg.inv((x.T * (p * (1 - p))) @ x + torch.eye(len(w)) / prior_std**2)
""",
    ),
    right(
        "q1_4",
        "einsum",
        """
def hessian(w, x, prior_std):
    p = torch.sigmoid(x @ w)
    return torch.einsum("n,ni,nj->ij", p * (1 - p), x, x) + torch.eye(len(w), device=w.device) / prior_std**2
""",
    ),
    right(
        "q1_4",
        "numpy, point by point",
        """
import numpy as np


def hessian(w, x, prior_std):
    w, x = w.cpu().numpy(), x.cpu().numpy()
    total = np.eye(len(w)) / prior_std**2
    for row in x:
        p = 1 / (1 + np.exp(-row @ w))
        total += p * (1 - p) * np.outer(row, row)
    return total
""",
    ),
    right(
        "q1_4",
        "a matrix of weights",
        """
def hessian(w, x, prior_std):
    a = x @ w
    return x.T @ torch.diag(torch.sigmoid(a) * torch.sigmoid(-a)) @ x + torch.diag(torch.full_like(w, prior_std**-2))
""",
    ),
    # --- 1.5 Hessian by autograd
    wrong(
        "q1_5",
        "graph of the gradient not kept",
        """
def hessian_autograd(f, w):
    w = w.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(w), w)
    return torch.stack([torch.autograd.grad(entry, w, retain_graph=True)[0] for entry in gradient])
""",
    ),
    wrong(
        "q1_5",
        "gradient of the sum of the gradient",
        """
def hessian_autograd(f, w):
    w = w.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(w), w, create_graph=True)
    return torch.diag(torch.autograd.grad(gradient.sum(), w)[0])
""",
    ),
    wrong(
        "q1_5",
        "outer product of the gradient",
        """
def hessian_autograd(f, w):
    w = w.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(w), w)
    return torch.outer(gradient, gradient)
""",
    ),
    wrong(
        "q1_5",
        "diagonal only",
        """
def hessian_autograd(f, w):
    w = w.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(w), w, create_graph=True)
    entries = [torch.autograd.grad(g, w, retain_graph=True)[0][i] for i, g in enumerate(gradient)]
    return torch.diag(torch.stack(entries))
""",
    ),
    wrong(
        "q1_5",
        "graph freed after the first row",
        """
def hessian_autograd(f, w):
    w = w.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(w), w, create_graph=True)
    return torch.stack([torch.autograd.grad(entry, w)[0] for entry in gradient])
""",
    ),
    right(
        "q1_5",
        "torch.autograd.functional",
        """
def hessian_autograd(f, w):
    return torch.autograd.functional.hessian(f, w)
""",
    ),
    right(
        "q1_5",
        "torch.func",
        """
def hessian_autograd(f, w):
    return torch.func.hessian(f)(w)
""",
    ),
    right(
        "q1_5",
        "backward row by row into a matrix",
        """
def hessian_autograd(f, w):
    w = w.clone().requires_grad_()
    gradient = torch.autograd.grad(f(w), w, create_graph=True)[0]
    result = torch.empty(len(w), len(w), device=w.device)
    for i in range(len(w)):
        w.grad = None
        gradient[i].backward(retain_graph=True)
        result[i] = w.grad
    return result
""",
    ),
    right(
        "q1_5",
        "central differences of the gradient",
        """
def hessian_autograd(f, w):
    def gradient(v):
        v = v.detach().clone().requires_grad_()
        return torch.autograd.grad(f(v), v)[0]

    steps = 1e-5 * torch.eye(len(w), device=w.device)
    return torch.stack([(gradient(w + step) - gradient(w - step)) / 2e-5 for step in steps])
""",
    ),
    # --- 1.6 repair of Laplace on the mean loss
    wrong(
        "q1_6",
        "the published covariance",
        """
def repair_laplace(h_mean, n, penalty):
    return torch.linalg.inv(h_mean), 1 / math.sqrt(2 * n * penalty)
""",
    ),
    wrong(
        "q1_6",
        "N on the wrong side",
        """
def repair_laplace(h_mean, n, penalty):
    return n * torch.linalg.inv(h_mean), 1 / math.sqrt(2 * n * penalty)
""",
    ),
    wrong(
        "q1_6",
        "the precision",
        """
def repair_laplace(h_mean, n, penalty):
    return n * h_mean, 1 / math.sqrt(2 * n * penalty)
""",
    ),
    wrong(
        "q1_6",
        "prior of the mean loss",
        """
def repair_laplace(h_mean, n, penalty):
    return torch.linalg.inv(h_mean) / n, 1 / math.sqrt(2 * penalty)
""",
    ),
    wrong(
        "q1_6",
        "factor 2 of the penalty forgotten",
        """
def repair_laplace(h_mean, n, penalty):
    return torch.linalg.inv(h_mean) / n, 1 / math.sqrt(n * penalty)
""",
    ),
    wrong(
        "q1_6",
        "prior variance",
        """
def repair_laplace(h_mean, n, penalty):
    return torch.linalg.inv(h_mean) / n, 1 / (2 * n * penalty)
""",
    ),
    wrong(
        "q1_6",
        "only the data term repaired",
        """
def repair_laplace(h_mean, n, penalty):
    eye = torch.eye(len(h_mean))
    return torch.linalg.inv(n * (h_mean - 2 * penalty * eye) + 2 * penalty * eye), 1 / math.sqrt(2 * n * penalty)
""",
    ),
    right(
        "q1_6",
        "numpy",
        """
import numpy as np


def repair_laplace(h_mean, n, penalty):
    return np.linalg.inv(h_mean.cpu().numpy()) / n, np.sqrt(0.5 / (n * penalty))
""",
    ),
    right(
        "q1_6",
        "Cholesky and a tensor",
        """
def repair_laplace(h_mean, n, penalty):
    return torch.cholesky_inverse(torch.linalg.cholesky(h_mean * n)), torch.tensor(2 * n * penalty) ** -0.5
""",
    ),
    right(
        "q1_6",
        "a list",
        """
def repair_laplace(h_mean, n, penalty):
    return [torch.linalg.inv(n * h_mean), (2 * n * penalty) ** -0.5]
""",
    ),
    # --- 1.7 sampling
    wrong(
        "q1_7",
        "Cholesky factor transposed",
        """
def predict_mc(x, mean, covariance, samples):
    weights = mean + torch.randn(samples, len(mean)) @ torch.linalg.cholesky(covariance)
    return torch.sigmoid(weights @ x.T)
""",
    ),
    wrong(
        "q1_7",
        "covariance in the place of its root",
        """
def predict_mc(x, mean, covariance, samples):
    weights = mean + torch.randn(samples, len(mean)) @ covariance
    return torch.sigmoid(weights @ x.T)
""",
    ),
    wrong(
        "q1_7",
        "correlation ignored",
        """
def predict_mc(x, mean, covariance, samples):
    weights = mean + torch.randn(samples, len(mean)) * covariance.diagonal().sqrt()
    return torch.sigmoid(weights @ x.T)
""",
    ),
    wrong(
        "q1_7",
        "weights of its own for each input",
        """
def predict_mc(x, mean, covariance, samples):
    noise = torch.randn(samples, len(x), len(mean)) @ torch.linalg.cholesky(covariance).T
    return torch.sigmoid(((mean + noise) * x).sum(-1))
""",
    ),
    wrong(
        "q1_7",
        "average returned",
        """
def predict_mc(x, mean, covariance, samples):
    weights = mean + torch.randn(samples, len(mean)) @ torch.linalg.cholesky(covariance).T
    return torch.sigmoid(weights @ x.T).mean(0)
""",
    ),
    wrong(
        "q1_7",
        "sigmoid of the average logit",
        """
def predict_mc(x, mean, covariance, samples):
    weights = mean + torch.randn(samples, len(mean)) @ torch.linalg.cholesky(covariance).T
    return torch.sigmoid((weights @ x.T).mean(0)).expand(samples, -1)
""",
    ),
    wrong(
        "q1_7",
        "precision taken for a covariance",
        """
def predict_mc(x, mean, covariance, samples):
    law = torch.distributions.MultivariateNormal(mean, precision_matrix=covariance)
    return torch.sigmoid(law.sample((samples,)) @ x.T)
""",
    ),
    wrong(
        "q1_7",
        "logits returned",
        """
def predict_mc(x, mean, covariance, samples):
    return torch.distributions.MultivariateNormal(mean, covariance).sample((samples,)) @ x.T
""",
    ),
    right(
        "q1_7",
        "torch.distributions",
        """
def predict_mc(x, mean, covariance, samples):
    weights = torch.distributions.MultivariateNormal(mean, covariance).sample((samples,))
    return torch.sigmoid(weights @ x.T)
""",
    ),
    right(
        "q1_7",
        "numpy",
        """
import numpy as np


def predict_mc(x, mean, covariance, samples):
    rng = np.random.default_rng()
    weights = rng.multivariate_normal(mean.cpu().numpy(), covariance.cpu().numpy(), samples)
    return 1 / (1 + np.exp(-weights @ x.cpu().numpy().T))
""",
    ),
    right(
        "q1_7",
        "symmetric root, columns of draws, transposed at the end",
        """
def predict_mc(x, mean, covariance, samples):
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
    weights = mean[:, None] + root @ torch.randn(len(mean), samples, device=mean.device)
    return torch.sigmoid(x @ weights).T
""",
    ),
    right(
        "q1_7",
        "antithetic pairs in another order",
        """
def predict_mc(x, mean, covariance, samples):
    factor = torch.linalg.cholesky(covariance)
    rows = []
    for start in range(0, samples, 1000):
        noise = torch.randn(min(1000, samples - start), len(mean), device=mean.device)
        rows.insert(0, torch.sigmoid((mean + noise @ factor.mT) @ x.mT))
    return torch.cat(rows)
""",
    ),
    # --- 1.8 probit
    wrong(
        "q1_8",
        "no square root",
        """
def predict_probit(x, mean, covariance):
    v = ((x @ covariance) * x).sum(1)
    return torch.sigmoid((x @ mean) / (1 + math.pi * v / 8))
""",
    ),
    wrong(
        "q1_8",
        "standard deviation for variance",
        """
def predict_probit(x, mean, covariance):
    v = ((x @ covariance) * x).sum(1).sqrt()
    return torch.sigmoid((x @ mean) / (1 + math.pi * v / 8).sqrt())
""",
    ),
    wrong(
        "q1_8",
        "8/pi",
        """
def predict_probit(x, mean, covariance):
    v = ((x @ covariance) * x).sum(1)
    return torch.sigmoid((x @ mean) / (1 + 8 * v / math.pi).sqrt())
""",
    ),
    wrong(
        "q1_8",
        "correlation ignored",
        """
def predict_probit(x, mean, covariance):
    v = x**2 @ covariance.diagonal()
    return torch.sigmoid((x @ mean) / (1 + math.pi * v / 8).sqrt())
""",
    ),
    wrong(
        "q1_8",
        "plug-in, no variance",
        """
def predict_probit(x, mean, covariance):
    return torch.sigmoid(x @ mean)
""",
    ),
    wrong(
        "q1_8",
        "sigmoid of the wrong sign",
        """
def predict_probit(x, mean, covariance):
    v = ((x @ covariance) * x).sum(1)
    return 1 / (1 + torch.exp((x @ mean) / (1 + math.pi * v / 8).sqrt()))
""",
    ),
    right(
        "q1_8",
        "einsum, numpy sigmoid",
        """
import numpy as np


def predict_probit(x, mean, covariance):
    v = torch.einsum("ni,ij,nj->n", x, covariance, x)
    a = (x @ mean) * (1 + math.pi * v / 8) ** -0.5
    return 1 / (1 + np.exp(-a.cpu().numpy()))
""",
    ),
    right(
        "q1_8",
        "diagonal of the full covariance",
        """
def predict_probit(x, mean, covariance):
    v = torch.diag(x @ covariance @ x.T)
    return ((x @ mean) / torch.sqrt(1 + math.pi / 8 * v)).sigmoid()
""",
    ),
    # --- 1.9 far away
    wrong(
        "q1_9",
        "limit of the probit approximation",
        """
def far_confidence(directions, mean, covariance):
    v = ((directions @ covariance) * directions).sum(1)
    return torch.sigmoid((directions @ mean).abs() / (math.pi * v / 8).sqrt())
""",
    ),
    wrong(
        "q1_9",
        "sigmoid instead of Phi",
        """
def far_confidence(directions, mean, covariance):
    std = ((directions @ covariance) * directions).sum(1).sqrt()
    return torch.sigmoid((directions @ mean).abs() / std)
""",
    ),
    wrong(
        "q1_9",
        "probability of class 1, not confidence",
        """
def far_confidence(directions, mean, covariance):
    std = ((directions @ covariance) * directions).sum(1).sqrt()
    return torch.special.ndtr((directions @ mean) / std)
""",
    ),
    wrong(
        "q1_9",
        "variance for standard deviation",
        """
def far_confidence(directions, mean, covariance):
    v = ((directions @ covariance) * directions).sum(1)
    return torch.special.ndtr((directions @ mean).abs() / v)
""",
    ),
    wrong(
        "q1_9",
        "one, as for MAP",
        """
def far_confidence(directions, mean, covariance):
    return torch.ones(len(directions))
""",
    ),
    wrong(
        "q1_9",
        "correlation ignored",
        """
def far_confidence(directions, mean, covariance):
    std = (directions**2 @ covariance.diagonal()).sqrt()
    return torch.special.ndtr((directions @ mean).abs() / std)
""",
    ),
    right(
        "q1_9",
        "error function, direction by direction",
        """
def far_confidence(directions, mean, covariance):
    answers = []
    for d in directions:
        ratio = float(d @ mean) / math.sqrt(float(d @ covariance @ d))
        answers.append(0.5 * (1 + math.erf(abs(ratio) / math.sqrt(2))))
    return answers
""",
    ),
    right(
        "q1_9",
        "the larger of two probabilities",
        """
def far_confidence(directions, mean, covariance):
    std = torch.einsum("ki,ij,kj->k", directions, covariance, directions).sqrt()
    p = torch.distributions.Normal(directions @ mean, std).cdf(torch.zeros_like(std))
    return torch.maximum(p, 1 - p)
""",
    ),
    # --- 2.1 a draw with gradients
    wrong(
        "q2_1",
        "detached",
        """
def draw(mean, rho):
    return torch.normal(mean, F.softplus(rho)).detach()
""",
    ),
    wrong(
        "q2_1",
        "torch.normal, a gradient of zero",
        """
def draw(mean, rho):
    return torch.normal(mean, F.softplus(rho))
""",
    ),
    wrong(
        "q2_1",
        "exponential for softplus",
        """
def draw(mean, rho):
    return mean + torch.exp(rho) * torch.randn_like(mean)
""",
    ),
    wrong(
        "q2_1",
        "softplus taken for the variance",
        """
def draw(mean, rho):
    return mean + F.softplus(rho).sqrt() * torch.randn_like(mean)
""",
    ),
    wrong(
        "q2_1",
        "one noise for all entries",
        """
def draw(mean, rho):
    return mean + F.softplus(rho) * torch.randn((), device=mean.device)
""",
    ),
    wrong(
        "q2_1",
        "uniform noise",
        """
def draw(mean, rho):
    return mean + F.softplus(rho) * (torch.rand_like(mean) - 0.5) * 12**0.5
""",
    ),
    wrong(
        "q2_1",
        "rand for randn",
        """
def draw(mean, rho):
    return mean + F.softplus(rho) * torch.rand_like(mean)
""",
    ),
    wrong(
        "q2_1",
        "the same noise at each call",
        """
def draw(mean, rho):
    generator = torch.Generator().manual_seed(0)
    return mean + F.softplus(rho) * torch.randn(mean.shape, generator=generator)
""",
    ),
    wrong(
        "q2_1",
        "no gradient in rho",
        """
def draw(mean, rho):
    return mean + F.softplus(rho).detach() * torch.randn_like(mean)
""",
    ),
    right(
        "q2_1",
        "rsample",
        """
def draw(mean, rho):
    return torch.distributions.Normal(mean, torch.log1p(rho.exp())).rsample()
""",
    ),
    right(
        "q2_1",
        "noise from numpy",
        """
import numpy as np


def draw(mean, rho):
    noise = torch.tensor(np.random.default_rng().standard_normal(mean.shape), device=mean.device)
    return torch.log(1 + torch.exp(rho)) * noise + mean
""",
    ),
    # --- 2.2 the KL
    wrong(
        "q2_2",
        "as published: numpy and mean",
        """
import numpy as np


def kl_to_prior(mean, rho, prior_std):
    total = np.zeros(1)
    std = F.softplus(rho)
    total[0] += (torch.log(prior_std / std) + (std**2 + mean**2) / (2 * prior_std**2) - 0.5).mean().detach()
    return total[0]
""",
    ),
    wrong(
        "q2_2",
        "sum, but no gradient",
        """
def kl_to_prior(mean, rho, prior_std):
    std = F.softplus(rho)
    return (torch.log(prior_std / std) + (std**2 + mean**2) / (2 * prior_std**2) - 0.5).sum().detach()
""",
    ),
    wrong(
        "q2_2",
        "gradient, but mean over the weights",
        """
def kl_to_prior(mean, rho, prior_std):
    std = F.softplus(rho)
    return (torch.log(prior_std / std) + (std**2 + mean**2) / (2 * prior_std**2) - 0.5).mean()
""",
    ),
    wrong(
        "q2_2",
        "divided by the number of inputs",
        """
def kl_to_prior(mean, rho, prior_std):
    std = F.softplus(rho)
    return (torch.log(prior_std / std) + (std**2 + mean**2) / (2 * prior_std**2) - 0.5).sum() / mean.shape[-1]
""",
    ),
    wrong(
        "q2_2",
        "the other direction",
        """
def kl_to_prior(mean, rho, prior_std):
    q = torch.distributions.Normal(mean, F.softplus(rho))
    p = torch.distributions.Normal(torch.zeros_like(mean), prior_std)
    return torch.distributions.kl_divergence(p, q).sum()
""",
    ),
    wrong(
        "q2_2",
        "one-sample estimate",
        """
def kl_to_prior(mean, rho, prior_std):
    q = torch.distributions.Normal(mean, F.softplus(rho))
    p = torch.distributions.Normal(torch.zeros_like(mean), prior_std)
    z = q.rsample()
    return (q.log_prob(z) - p.log_prob(z)).sum()
""",
    ),
    wrong(
        "q2_2",
        "exponential for softplus",
        """
def kl_to_prior(mean, rho, prior_std):
    std = rho.exp()
    return (torch.log(prior_std / std) + (std**2 + mean**2) / (2 * prior_std**2) - 0.5).sum()
""",
    ),
    wrong(
        "q2_2",
        "prior variance for standard deviation",
        """
def kl_to_prior(mean, rho, prior_std):
    std = F.softplus(rho)
    return (0.5 * torch.log(prior_std / std**2) + (std**2 + mean**2) / (2 * prior_std) - 0.5).sum()
""",
    ),
    right(
        "q2_2",
        "torch.distributions",
        """
def kl_to_prior(mean, rho, prior_std):
    q = torch.distributions.Normal(mean, F.softplus(rho))
    p = torch.distributions.Normal(torch.zeros_like(mean), prior_std)
    return torch.distributions.kl_divergence(q, p).sum()
""",
    ),
    right(
        "q2_2",
        "a loop",
        """
def kl_to_prior(mean, rho, prior_std):
    total = 0.0
    for m, r in zip(mean.flatten(), rho.flatten()):
        s = torch.log1p(torch.exp(r))
        total = total + math.log(prior_std) - torch.log(s) + (s * s + m * m) / (2 * prior_std**2) - 0.5
    return total
""",
    ),
    # --- 2.3 the layer
    wrong("q2_3", "the mean alone", layer("return F.linear(x, self.weight_mean, self.bias_mean)")),
    wrong(
        "q2_3",
        "one draw for each input",
        layer("""
variance = F.linear(x**2, F.softplus(self.weight_rho) ** 2)
mean = F.linear(x, self.weight_mean, self.bias_mean)
if self.bias_rho is not None:
    variance = variance + F.softplus(self.bias_rho) ** 2
return mean + variance.sqrt() * torch.randn_like(mean)
"""),
    ),
    wrong(
        "q2_3",
        "bias not random",
        layer("""
weight = self.weight_mean + F.softplus(self.weight_rho) * torch.randn_like(self.weight_mean)
return F.linear(x, weight, self.bias_mean)
"""),
    ),
    wrong(
        "q2_3",
        "bias forgotten",
        layer("""
weight = self.weight_mean + F.softplus(self.weight_rho) * torch.randn_like(self.weight_mean)
return x @ weight.T
"""),
    ),
    wrong(
        "q2_3",
        "random in training mode only",
        layer("""
if not self.training:
    return F.linear(x, self.weight_mean, self.bias_mean)
weight = self.weight_mean + F.softplus(self.weight_rho) * torch.randn_like(self.weight_mean)
if self.bias_mean is None:
    return F.linear(x, weight)
return F.linear(x, weight, self.bias_mean + F.softplus(self.bias_rho) * torch.randn_like(self.bias_mean))
"""),
    ),
    wrong(
        "q2_3",
        "the same noise at each call",
        layer("""
with torch.random.fork_rng():
    torch.manual_seed(0)
    weight = self.weight_mean + F.softplus(self.weight_rho) * torch.randn_like(self.weight_mean)
    bias = None
    if self.bias_mean is not None:
        bias = self.bias_mean + F.softplus(self.bias_rho) * torch.randn_like(self.bias_mean)
return F.linear(x, weight, bias)
"""),
    ),
    wrong(
        "q2_3",
        "one noise for all the inputs of a unit",
        layer("""
noise = torch.randn(len(self.weight_mean), 1, device=x.device)
weight = self.weight_mean + F.softplus(self.weight_rho) * noise
bias = None
if self.bias_mean is not None:
    bias = self.bias_mean + F.softplus(self.bias_rho) * torch.randn_like(self.bias_mean)
return F.linear(x, weight, bias)
"""),
    ),
    wrong(
        "q2_3",
        "no gradient in the standard deviations",
        layer("""
with torch.no_grad():
    noise = F.softplus(self.weight_rho) * torch.randn_like(self.weight_mean)
    if self.bias_mean is not None:
        bias_noise = F.softplus(self.bias_rho) * torch.randn_like(self.bias_mean)
bias = None if self.bias_mean is None else self.bias_mean + bias_noise
return F.linear(x, self.weight_mean + noise, bias)
"""),
    ),
    wrong(
        "q2_3",
        "fails without bias",
        layer("""
weight = self.weight_mean + F.softplus(self.weight_rho) * torch.randn_like(self.weight_mean)
return F.linear(x, weight, self.bias_mean + F.softplus(self.bias_rho) * torch.randn_like(self.bias_mean))
"""),
    ),
    right(
        "q2_3",
        "rsample, bias first",
        layer("""
bias = 0.0
if self.bias_mean is not None:
    bias = torch.distributions.Normal(self.bias_mean, F.softplus(self.bias_rho)).rsample()
weight = torch.distributions.Normal(self.weight_mean, F.softplus(self.weight_rho)).rsample()
return x @ weight.T + bias
"""),
    ),
    right(
        "q2_3",
        "mean and noise apart, einsum",
        layer("""
noise = torch.randn(self.weight_mean.shape, device=x.device)
out = F.linear(x, self.weight_mean, self.bias_mean)
out = out + torch.einsum("ni,oi->no", x, noise * torch.log1p(self.weight_rho.exp()))
if self.bias_rho is not None:
    out = out + torch.log1p(self.bias_rho.exp()) * torch.randn(self.bias_rho.shape, device=x.device)
return out
"""),
    ),
    right(
        "q2_3",
        "by the function of question 2.1",
        layer("""
bias = None if self.bias_mean is None else draw(self.bias_mean, self.bias_rho)
return F.linear(x, draw(self.weight_mean, self.weight_rho), bias)
"""),
    ),
    # --- 2.4 the ELBO
    wrong(
        "q2_4",
        "mean of the data minus mean over the weights",
        """
def elbo(model, log_likelihood, x, y, data_size, samples=1):
    fit = sum(log_likelihood(model(x), y).mean() for _ in range(samples)) / samples
    return fit - model.kl() / sum(p.numel() for p in model.parameters())
""",
    ),
    wrong(
        "q2_4",
        "mean of the data minus the whole KL",
        """
def elbo(model, log_likelihood, x, y, data_size, samples=1):
    fit = sum(log_likelihood(model(x), y).mean() for _ in range(samples)) / samples
    return fit - model.kl()
""",
    ),
    wrong(
        "q2_4",
        "per datum",
        """
def elbo(model, log_likelihood, x, y, data_size, samples=1):
    fit = sum(log_likelihood(model(x), y).mean() for _ in range(samples)) / samples
    return fit - model.kl() / data_size
""",
    ),
    wrong(
        "q2_4",
        "KL divided by N once too often",
        """
def elbo(model, log_likelihood, x, y, data_size, samples=1):
    fit = sum(log_likelihood(model(x), y).mean() for _ in range(samples)) / samples
    return data_size * fit - model.kl() / data_size
""",
    ),
    wrong(
        "q2_4",
        "minibatch not scaled up",
        """
def elbo(model, log_likelihood, x, y, data_size, samples=1):
    return sum(log_likelihood(model(x), y).sum() for _ in range(samples)) / samples - model.kl()
""",
    ),
    wrong(
        "q2_4",
        "KL added",
        """
def elbo(model, log_likelihood, x, y, data_size, samples=1):
    fit = sum(log_likelihood(model(x), y).mean() for _ in range(samples)) / samples
    return data_size * fit + model.kl()
""",
    ),
    wrong(
        "q2_4",
        "KL without gradient",
        """
def elbo(model, log_likelihood, x, y, data_size, samples=1):
    fit = sum(log_likelihood(model(x), y).mean() for _ in range(samples)) / samples
    return data_size * fit - model.kl().item()
""",
    ),
    wrong(
        "q2_4",
        "draws summed",
        """
def elbo(model, log_likelihood, x, y, data_size, samples=1):
    return data_size * sum(log_likelihood(model(x), y).mean() for _ in range(samples)) - model.kl()
""",
    ),
    wrong(
        "q2_4",
        "outputs averaged before the likelihood",
        """
def elbo(model, log_likelihood, x, y, data_size, samples=1):
    outputs = torch.stack([model(x) for _ in range(samples)]).mean(0)
    return data_size * log_likelihood(outputs, y).mean() - model.kl()
""",
    ),
    right(
        "q2_4",
        "sums and N/B",
        """
def elbo(model, log_likelihood, x, y, data_size, samples=1):
    total = 0.0
    for _ in range(samples):
        total = total + log_likelihood(model(x), y).sum()
    return data_size / len(x) * total / samples - model.kl()
""",
    ),
    right(
        "q2_4",
        "stacked, KL first",
        """
def elbo(model, log_likelihood, x, y, data_size, samples=1):
    value = -model.kl()
    values = torch.stack([log_likelihood(model(x), y) for _ in range(samples)])
    return value + values.mean() * data_size
""",
    ),
    # --- 2.5 the exact optimum
    wrong(
        "q2_5",
        "marginal variances",
        """
def mean_field_optimum(precision):
    gap = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
    return torch.linalg.inv(precision).diagonal(), gap
""",
    ),
    wrong(
        "q2_5",
        "standard deviations",
        """
def mean_field_optimum(precision):
    gap = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
    return precision.diagonal() ** -0.5, gap
""",
    ),
    wrong(
        "q2_5",
        "factor 1/2 forgotten",
        """
def mean_field_optimum(precision):
    return 1 / precision.diagonal(), precision.diagonal().log().sum() - torch.logdet(precision)
""",
    ),
    wrong(
        "q2_5",
        "gap of the wrong sign",
        """
def mean_field_optimum(precision):
    return 1 / precision.diagonal(), 0.5 * (torch.logdet(precision) - precision.diagonal().log().sum())
""",
    ),
    wrong(
        "q2_5",
        "gap of the marginal variances",
        """
def mean_field_optimum(precision):
    marginal = torch.linalg.inv(precision).diagonal()
    return 1 / precision.diagonal(), 0.5 * (marginal.log().sum() + torch.logdet(precision))
""",
    ),
    wrong(
        "q2_5",
        "no gap",
        """
def mean_field_optimum(precision):
    return 1 / precision.diagonal(), 0.0
""",
    ),
    right(
        "q2_5",
        "the KL of torch.distributions",
        """
def mean_field_optimum(precision):
    variances = 1 / precision.diagonal()
    zero = torch.zeros_like(variances)
    q = torch.distributions.MultivariateNormal(zero, torch.diag(variances))
    p = torch.distributions.MultivariateNormal(zero, precision_matrix=precision)
    return variances, torch.distributions.kl_divergence(q, p)
""",
    ),
    right(
        "q2_5",
        "numpy, correlation form",
        """
import numpy as np


def mean_field_optimum(precision):
    a = precision.cpu().numpy()
    d = np.diag(a)
    return 1 / d, -0.5 * np.log(np.linalg.det(a / np.sqrt(np.outer(d, d))))
""",
    ),
    # --- 3.1 MC dropout
    wrong(
        "q3_1",
        "as published: the flag of the model alone",
        """
def mc_dropout(model, x, samples):
    model.eval()
    model.training = True
    with torch.no_grad():
        return torch.stack([torch.sigmoid(model(x)[:, 0]) for _ in range(samples)])
""",
    ),
    wrong(
        "q3_1",
        "everything in training mode",
        """
def mc_dropout(model, x, samples):
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    with torch.no_grad():
        rows = torch.stack([torch.sigmoid(model(x)[:, 0]) for _ in range(samples)])
    for module, training in modes:
        module.training = training
    return rows
""",
    ),
    wrong(
        "q3_1",
        "left in training mode",
        """
def mc_dropout(model, x, samples):
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    with torch.no_grad():
        return torch.stack([torch.sigmoid(model(x)[:, 0]) for _ in range(samples)])
""",
    ),
    wrong(
        "q3_1",
        "always left in evaluation mode",
        """
def mc_dropout(model, x, samples):
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    with torch.no_grad():
        rows = torch.stack([torch.sigmoid(model(x)[:, 0]) for _ in range(samples)])
    model.eval()
    return rows
""",
    ),
    wrong(
        "q3_1",
        "only the children of the model",
        """
def mc_dropout(model, x, samples):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for module in model.children():
        if isinstance(module, nn.Dropout):
            module.train()
    with torch.no_grad():
        rows = torch.stack([torch.sigmoid(model(x)[:, 0]) for _ in range(samples)])
    for module, training in modes:
        module.training = training
    return rows
""",
    ),
    wrong(
        "q3_1",
        "logits",
        """
def mc_dropout(model, x, samples):
    twin = __import__("copy").deepcopy(model).eval()
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    with torch.no_grad():
        return torch.stack([twin(x)[:, 0] for _ in range(samples)])
""",
    ),
    wrong(
        "q3_1",
        "the average of the passes",
        """
def mc_dropout(model, x, samples):
    twin = __import__("copy").deepcopy(model).eval()
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    with torch.no_grad():
        return torch.stack([torch.sigmoid(twin(x)[:, 0]) for _ in range(samples)]).mean(0)
""",
    ),
    wrong(
        "q3_1",
        "the same pass repeated",
        """
def mc_dropout(model, x, samples):
    twin = __import__("copy").deepcopy(model).eval()
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    with torch.no_grad():
        return torch.sigmoid(twin(x)[:, 0]).repeat(samples, 1)
""",
    ),
    right(
        "q3_1",
        "a copy of the model",
        """
import copy


def mc_dropout(model, x, samples):
    twin = copy.deepcopy(model).eval()
    twin.apply(lambda module: module.train() if isinstance(module, nn.Dropout) else module)
    return torch.stack([twin(x).squeeze(1).sigmoid().detach() for _ in range(samples)])
""",
    ),
    right(
        "q3_1",
        "all passes as one batch",
        """
def mc_dropout(model, x, samples):
    before = {name: module.training for name, module in model.named_modules()}
    model.eval()
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.training = True
    with torch.no_grad():
        p = torch.sigmoid(model(x.repeat(samples, 1)))
    for name, module in model.named_modules():
        module.training = before[name]
    return p.reshape(samples, len(x))
""",
    ),
    right(
        "q3_1",
        "coursekit",
        """
def mc_dropout(model, x, samples):
    return bayes.MCDropout(model).predict(x, samples=samples).probs[..., 1]
""",
    ),
    # --- 3.2 dropout as ridge regression
    wrong(
        "q3_2",
        "p instead of p/(1-p)",
        """
def expected_dropout_loss(x, y, w, p):
    return ((y - x @ w) ** 2).sum() + p * (x**2 @ w**2).sum()
""",
    ),
    wrong(
        "q3_2",
        "inputs not divided by 1-p",
        """
def expected_dropout_loss(x, y, w, p):
    return ((y - (1 - p) * (x @ w)) ** 2).sum() + p * (1 - p) * (x**2 @ w**2).sum()
""",
    ),
    wrong(
        "q3_2",
        "(1-p)/p",
        """
def expected_dropout_loss(x, y, w, p):
    return ((y - x @ w) ** 2).sum() + ((1 - p) / p if p else 0.0) * (x**2 @ w**2).sum()
""",
    ),
    wrong(
        "q3_2",
        "plain ridge",
        """
def expected_dropout_loss(x, y, w, p):
    return ((y - x @ w) ** 2).sum() + p / (1 - p) * (w**2).sum()
""",
    ),
    wrong(
        "q3_2",
        "square of the sum",
        """
def expected_dropout_loss(x, y, w, p):
    return ((y - x @ w) ** 2).sum() + p / (1 - p) * ((x @ w) ** 2).sum()
""",
    ),
    wrong(
        "q3_2",
        "no penalty",
        """
def expected_dropout_loss(x, y, w, p):
    return ((y - x @ w) ** 2).sum()
""",
    ),
    wrong(
        "q3_2",
        "mean over the data",
        """
def expected_dropout_loss(x, y, w, p):
    return ((y - x @ w) ** 2 + p / (1 - p) * (x**2 @ w**2)).mean()
""",
    ),
    wrong(
        "q3_2",
        "a Monte Carlo estimate",
        """
def expected_dropout_loss(x, y, w, p):
    losses = [((y - F.dropout(x, p) @ w) ** 2).sum() for _ in range(2000)]
    return sum(losses) / 2000
""",
    ),
    right(
        "q3_2",
        "weighted ridge",
        """
def expected_dropout_loss(x, y, w, p):
    residual = y - x @ w
    return residual @ residual + p / (1 - p) * (w**2 @ (x**2).sum(0))
""",
    ),
    right(
        "q3_2",
        "second moment, numpy",
        """
import numpy as np


def expected_dropout_loss(x, y, w, p):
    x, y, w = (v.cpu().numpy() for v in (x, y, w))
    parts = x * w
    second = parts.sum(1) ** 2 - (parts**2).sum(1) + (parts**2).sum(1) / (1 - p)
    return (y**2 - 2 * y * parts.sum(1) + second).sum()
""",
    ),
    # --- 3.3 entropy and mutual information
    wrong(
        "q3_3",
        "mean entropy for the entropy of the mean",
        """
def entropy_and_information(probs):
    h = torch.special.entr(probs) + torch.special.entr(1 - probs)
    mean = probs.mean(0)
    total = torch.special.entr(mean) + torch.special.entr(1 - mean)
    return h.mean(0), total - h.mean(0)
""",
    ),
    wrong(
        "q3_3",
        "NaN at 0 and 1",
        """
def entropy_and_information(probs):
    def h(p):
        return -p * p.log() - (1 - p) * (1 - p).log()

    return h(probs.mean(0)), h(probs.mean(0)) - h(probs).mean(0)
""",
    ),
    wrong(
        "q3_3",
        "in bits",
        """
def entropy_and_information(probs):
    def h(p):
        return (torch.special.entr(p) + torch.special.entr(1 - p)) / math.log(2)

    return h(probs.mean(0)), h(probs.mean(0)) - h(probs).mean(0)
""",
    ),
    wrong(
        "q3_3",
        "only the term of class 1",
        """
def entropy_and_information(probs):
    total = torch.special.entr(probs.mean(0))
    return total, total - torch.special.entr(probs).mean(0)
""",
    ),
    wrong(
        "q3_3",
        "mutual information of the wrong sign",
        """
def entropy_and_information(probs):
    def h(p):
        return torch.special.entr(p) + torch.special.entr(1 - p)

    return h(probs.mean(0)), h(probs).mean(0) - h(probs.mean(0))
""",
    ),
    wrong(
        "q3_3",
        "expected entropy returned as information",
        """
def entropy_and_information(probs):
    def h(p):
        return torch.special.entr(p) + torch.special.entr(1 - p)

    return h(probs.mean(0)), h(probs).mean(0)
""",
    ),
    wrong(
        "q3_3",
        "averaged over the inputs",
        """
def entropy_and_information(probs):
    def h(p):
        return torch.special.entr(p) + torch.special.entr(1 - p)

    return h(probs.mean(1)), h(probs.mean(1)) - h(probs).mean(1)
""",
    ),
    right(
        "q3_3",
        "coursekit",
        """
def entropy_and_information(probs):
    predictive = two_classes(probs)
    return predictive.entropy, predictive.mutual_information
""",
    ),
    right(
        "q3_3",
        "numpy, mean divergence from the average",
        """
import numpy as np


def entropy_and_information(probs):
    both = np.stack([probs.cpu().numpy(), 1 - probs.cpu().numpy()], -1)
    mean = both.mean(0)
    safe = np.where(mean > 0, mean, 1)
    entropy = -(mean * np.log(safe)).sum(-1)
    ratio = np.where(both > 0, both / safe, 1)
    return entropy, (both * np.log(ratio)).sum(-1).mean(0)
""",
    ),
    right(
        "q3_3",
        "one tensor of two rows",
        """
def entropy_and_information(probs):
    def binary(p):
        return torch.special.entr(p) + torch.special.entr(1 - p)

    total = binary(probs.mean(0))
    return torch.stack([total, total - binary(probs).mean(0)])
""",
    ),
]
