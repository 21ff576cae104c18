"""Answers to lab 1 that its checks must reject or accept."""

from coursekit.classroom.labs.variants import Variant


def wrong(question: str, name: str, source: str) -> Variant:
    return Variant(question, name, "wrong", source, loses=(f"{question}_test",))


def right(question: str, name: str, source: str) -> Variant:
    return Variant(question, name, "right", source)


VARIANTS = [
    # --- 1.1 features of a line
    wrong(
        "q1_1",
        "columns exchanged",
        """
def phi_linear(x):
    return torch.stack([x, torch.ones_like(x)], dim=1)
""",
    ),
    wrong(
        "q1_1",
        "transposed",
        """
def phi_linear(x):
    return torch.stack([torch.ones_like(x), x])
""",
    ),
    wrong(
        "q1_1",
        "no constant",
        """
def phi_linear(x):
    return x[:, None]
""",
    ),
    wrong(
        "q1_1",
        "nothing returned",
        """
def phi_linear(x):
    phi = torch.stack([torch.ones_like(x), x], dim=1)
""",
    ),
    wrong(
        "q1_1",
        "the visible answer by heart",
        """
def phi_linear(x):
    return torch.tensor([[1.0, -1.0], [1.0, 0.0], [1.0, 2.0]])
""",
    ),
    wrong(
        "q1_1",
        "an object equal to everything",
        """
class Anything:
    shape = (3, 2)

    def __eq__(self, other):
        return True

    def __sub__(self, other):
        return 0.0


def phi_linear(x):
    return Anything()
""",
    ),
    right(
        "q1_1",
        "numpy",
        """
import numpy as np


def phi_linear(x):
    values = x.cpu().numpy()
    return np.column_stack([np.ones(len(values)), values])
""",
    ),
    right(
        "q1_1",
        "a power of each entry",
        """
def phi_linear(x):
    return x[:, None] ** torch.arange(2, device=x.device)
""",
    ),
    # --- 1.2 precision of the noise
    wrong(
        "q1_2",
        "1 / (2 sigma^2)",
        """
def noise_precision(noise_std):
    return 1 / (2 * noise_std**2)
""",
    ),
    wrong(
        "q1_2",
        "1 / sigma",
        """
def noise_precision(noise_std):
    return 1 / noise_std
""",
    ),
    wrong(
        "q1_2",
        "the variance",
        """
def noise_precision(noise_std):
    return noise_std**2
""",
    ),
    right(
        "q1_2",
        "a tensor",
        """
def noise_precision(noise_std):
    return torch.tensor(noise_std).square().reciprocal()
""",
    ),
    right(
        "q1_2",
        "a power",
        """
def noise_precision(noise_std):
    return noise_std ** (-2)
""",
    ),
    # --- 1.3 posterior
    wrong(
        "q1_3",
        "prior covariance alpha I",
        """
def posterior(phi, t, alpha, beta):
    covariance = torch.linalg.inv(torch.eye(phi.shape[1]) / alpha + beta * phi.T @ phi)
    return beta * covariance @ phi.T @ t, covariance
""",
    ),
    wrong(
        "q1_3",
        "no beta in the mean",
        """
def posterior(phi, t, alpha, beta):
    covariance = torch.linalg.inv(alpha * torch.eye(phi.shape[1]) + beta * phi.T @ phi)
    return covariance @ phi.T @ t, covariance
""",
    ),
    wrong(
        "q1_3",
        "no beta in the precision",
        """
def posterior(phi, t, alpha, beta):
    covariance = torch.linalg.inv(alpha * torch.eye(phi.shape[1]) + phi.T @ phi)
    return beta * covariance @ phi.T @ t, covariance
""",
    ),
    wrong(
        "q1_3",
        "the precision instead of the covariance",
        """
def posterior(phi, t, alpha, beta):
    precision = alpha * torch.eye(phi.shape[1]) + beta * phi.T @ phi
    return beta * torch.linalg.solve(precision, phi.T @ t), precision
""",
    ),
    wrong(
        "q1_3",
        "least squares, no prior",
        """
def posterior(phi, t, alpha, beta):
    covariance = torch.linalg.pinv(beta * phi.T @ phi)
    return beta * covariance @ phi.T @ t, covariance
""",
    ),
    wrong(
        "q1_3",
        "determinant of a 2 x 2 inverse forgotten",
        """
def posterior(phi, t, alpha, beta):
    (a, b), (c, d) = alpha * torch.eye(2) + beta * phi[:, :2].T @ phi[:, :2]
    covariance = torch.stack([torch.stack([d, -b]), torch.stack([-c, a])])
    return beta * covariance @ phi[:, :2].T @ t, covariance
""",
    ),
    right(
        "q1_3",
        "plain inverse",
        """
def posterior(phi, t, alpha, beta):
    covariance = torch.linalg.inv(alpha * torch.eye(phi.shape[1], device=phi.device) + beta * (phi.T @ phi))
    mean = beta * (covariance @ phi.T) @ t
    return mean, covariance
""",
    ),
    right(
        "q1_3",
        "numpy",
        """
import numpy as np


def posterior(phi, t, alpha, beta):
    phi, t = phi.cpu().numpy(), t.cpu().numpy()
    precision = alpha * np.eye(phi.shape[1]) + beta * phi.T @ phi
    return np.linalg.solve(precision, beta * phi.T @ t), np.linalg.inv(precision)
""",
    ),
    right(
        "q1_3",
        "a sum over the points",
        """
def posterior(phi, t, alpha, beta):
    precision = alpha * torch.eye(phi.shape[1], device=phi.device)
    moment = torch.zeros(phi.shape[1], device=phi.device)
    for row, target in zip(phi, t):
        precision = precision + beta * torch.outer(row, row)
        moment = moment + beta * target * row
    return torch.linalg.solve(precision, moment), torch.linalg.inv(precision)
""",
    ),
    wrong(
        "q1_3",
        "Phi Phi' in place of Phi' Phi",
        """
def posterior(phi, t, alpha, beta):
    covariance = torch.linalg.inv(alpha * torch.eye(phi.shape[1]) + beta * phi @ phi.T)
    return beta * covariance @ phi.T @ t, covariance
""",
    ),
    wrong(
        "q1_3",
        "the memorised cases",
        """
def posterior(phi, t, alpha, beta):
    if len(t):
        return torch.tensor([1.5, 0.0]), torch.diag(torch.tensor([0.25, 1.0]))
    return torch.zeros(phi.shape[1]), torch.eye(phi.shape[1]) / alpha
""",
    ),
    wrong(
        "q1_3",
        "NaN",
        """
def posterior(phi, t, alpha, beta):
    m = phi.shape[1]
    return torch.full((m,), math.nan), torch.full((m, m), math.nan)
""",
    ),
    # --- 1.5 sequential update
    wrong(
        "q1_5",
        "old mean forgotten",
        """
def update(mean, precision, phi, t, beta):
    new = precision + beta * phi.T @ phi
    return torch.linalg.solve(new, beta * phi.T @ t), new
""",
    ),
    wrong(
        "q1_5",
        "solved with the old precision",
        """
def update(mean, precision, phi, t, beta):
    new = precision + beta * phi.T @ phi
    return torch.linalg.solve(precision, precision @ mean + beta * phi.T @ t), new
""",
    ),
    wrong(
        "q1_5",
        "covariance returned",
        """
def update(mean, precision, phi, t, beta):
    new = precision + beta * phi.T @ phi
    return torch.linalg.solve(new, precision @ mean + beta * phi.T @ t), torch.linalg.inv(new)
""",
    ),
    wrong(
        "q1_5",
        "precision taken for a covariance",
        """
def update(mean, precision, phi, t, beta):
    new = torch.linalg.inv(precision) + beta * phi.T @ phi
    return torch.linalg.solve(new, torch.linalg.solve(precision, mean) + beta * phi.T @ t), new
""",
    ),
    wrong(
        "q1_5",
        "means averaged",
        """
def update(mean, precision, phi, t, beta):
    new = precision + beta * phi.T @ phi
    return (mean + torch.linalg.pinv(phi) @ t) / 2, new
""",
    ),
    right(
        "q1_5",
        "correction by the residual",
        """
def update(mean, precision, phi, t, beta):
    new = precision + beta * phi.T @ phi
    return mean + beta * torch.linalg.inv(new) @ phi.T @ (t - phi @ mean), new
""",
    ),
    right(
        "q1_5",
        "Kalman gain",
        """
def update(mean, precision, phi, t, beta):
    covariance = torch.linalg.inv(precision)
    gain = covariance @ phi.T @ torch.linalg.inv(torch.eye(len(t), device=t.device) / beta + phi @ covariance @ phi.T)
    new_covariance = covariance - gain @ phi @ covariance
    return mean + gain @ (t - phi @ mean), torch.linalg.inv(new_covariance)
""",
    ),
    # --- 1.6 predictive
    wrong(
        "q1_6",
        "1/beta forgotten",
        """
def predict(phi, mean, covariance, beta):
    return phi @ mean, (phi @ covariance * phi).sum(1)
""",
    ),
    wrong(
        "q1_6",
        "standard deviation instead of variance",
        """
def predict(phi, mean, covariance, beta):
    return phi @ mean, (1 / beta + (phi @ covariance * phi).sum(1)).sqrt()
""",
    ),
    wrong(
        "q1_6",
        "beta instead of 1/beta",
        """
def predict(phi, mean, covariance, beta):
    return phi @ mean, beta + (phi @ covariance * phi).sum(1)
""",
    ),
    wrong(
        "q1_6",
        "correlation of the weights ignored",
        """
def predict(phi, mean, covariance, beta):
    return phi @ mean, 1 / beta + phi.square() @ covariance.diagonal()
""",
    ),
    wrong(
        "q1_6",
        "full covariance of the targets",
        """
def predict(phi, mean, covariance, beta):
    return phi @ mean, torch.eye(len(phi)) / beta + phi @ covariance @ phi.T
""",
    ),
    wrong(
        "q1_6",
        "rows of the covariance summed",
        """
def predict(phi, mean, covariance, beta):
    return phi @ mean, 1 / beta + (phi @ covariance @ phi.T).sum(1)
""",
    ),
    right(
        "q1_6",
        "einsum",
        """
def predict(phi, mean, covariance, beta):
    return torch.einsum("nm,m->n", phi, mean), 1 / beta + torch.einsum("ni,ij,nj->n", phi, covariance, phi)
""",
    ),
    right(
        "q1_6",
        "diagonal of the full covariance",
        """
def predict(phi, mean, covariance, beta):
    full = torch.eye(len(phi), device=phi.device) / beta + phi @ covariance @ phi.T
    return phi @ mean, torch.diag(full)
""",
    ),
    right(
        "q1_6",
        "a list, point by point",
        """
def predict(phi, mean, covariance, beta):
    means = [float(row @ mean) for row in phi]
    variances = [1 / beta + float(row @ covariance @ row) for row in phi]
    return means, variances
""",
    ),
    wrong(
        "q1_6",
        "axis of one input dropped by squeeze",
        """
def predict(phi, mean, covariance, beta):
    variance = 1 / beta + (phi[:, None, :] @ covariance @ phi[:, :, None]).squeeze()
    return (phi @ mean[:, None]).squeeze(), variance
""",
    ),
    right(
        "q1_6",
        "one stacked tensor",
        """
def predict(phi, mean, covariance, beta):
    return torch.stack([phi @ mean, 1 / beta + (phi @ covariance * phi).sum(1)])
""",
    ),
    # --- 1.7 variance of a line
    wrong(
        "q1_7",
        "unbiased variance of the inputs",
        """
def variance_of_a_line(x_new, x, beta):
    return (1 + 1 / len(x) + (x_new - x.mean()) ** 2 / (len(x) * x.var())) / beta
""",
    ),
    wrong(
        "q1_7",
        "only the noise divided by beta",
        """
def variance_of_a_line(x_new, x, beta):
    return 1 / beta + 1 / len(x) + (x_new - x.mean()) ** 2 / (len(x) * x.var(correction=0))
""",
    ),
    wrong(
        "q1_7",
        "1/N forgotten",
        """
def variance_of_a_line(x_new, x, beta):
    return (1 + (x_new - x.mean()) ** 2 / (len(x) * x.var(correction=0))) / beta
""",
    ),
    wrong(
        "q1_7",
        "inputs not centred",
        """
def variance_of_a_line(x_new, x, beta):
    return (1 + 1 / len(x) + x_new**2 / x.square().sum()) / beta
""",
    ),
    wrong(
        "q1_7",
        "noise of the new target forgotten",
        """
def variance_of_a_line(x_new, x, beta):
    return (1 / len(x) + (x_new - x.mean()) ** 2 / (len(x) * x.var(correction=0))) / beta
""",
    ),
    right(
        "q1_7",
        "by the inverse of Phi' Phi",
        """
def variance_of_a_line(x_new, x, beta):
    def phi(v):
        return torch.stack([torch.ones_like(v), v], 1)

    inverse = torch.linalg.inv(phi(x).T @ phi(x))
    return (1 + ((phi(x_new) @ inverse) * phi(x_new)).sum(1)) / beta
""",
    ),
    right(
        "q1_7",
        "sums of squares",
        """
def variance_of_a_line(x_new, x, beta):
    deviations = ((x - x.mean()) ** 2).sum()
    return 1 / beta + 1 / (beta * len(x)) + (x_new - x.mean()) ** 2 / (beta * deviations)
""",
    ),
    # --- 2.1 polynomials
    wrong(
        "q2_1",
        "one power short",
        """
def phi_polynomial(x, degree):
    return torch.stack([x**k for k in range(degree)] or [torch.ones_like(x)], dim=1)
""",
    ),
    wrong(
        "q2_1",
        "no constant",
        """
def phi_polynomial(x, degree):
    return torch.stack([x**k for k in range(1, degree + 1)], dim=1)
""",
    ),
    wrong(
        "q2_1",
        "powers falling",
        """
import numpy as np


def phi_polynomial(x, degree):
    return torch.as_tensor(np.vander(x.cpu().numpy(), degree + 1).copy())
""",
    ),
    wrong(
        "q2_1",
        "products instead of powers",
        """
def phi_polynomial(x, degree):
    columns = [torch.ones_like(x)] + [k * x for k in range(1, degree + 1)]
    return torch.stack(columns, dim=1)
""",
    ),
    right(
        "q2_1",
        "broadcast power",
        """
def phi_polynomial(x, degree):
    return x[:, None] ** torch.arange(degree + 1, device=x.device)
""",
    ),
    right(
        "q2_1",
        "numpy vander, increasing",
        """
import numpy as np


def phi_polynomial(x, degree):
    return np.vander(x.cpu().numpy(), degree + 1, increasing=True)
""",
    ),
    right(
        "q2_1",
        "in single precision",
        """
def phi_polynomial(x, degree):
    return (x.float()[:, None] ** torch.arange(degree + 1, device=x.device)).float()
""",
    ),
    # --- 2.2 Gaussian bumps
    wrong(
        "q2_2",
        "factor 2 forgotten",
        """
def phi_gaussian(x, centres, width):
    return torch.exp(-((x[:, None] - centres) ** 2) / width**2)
""",
    ),
    wrong(
        "q2_2",
        "width not squared",
        """
def phi_gaussian(x, centres, width):
    return torch.exp(-((x[:, None] - centres) ** 2) / (2 * width))
""",
    ),
    wrong(
        "q2_2",
        "normalised like a density",
        """
def phi_gaussian(x, centres, width):
    return torch.exp(-((x[:, None] - centres) ** 2) / (2 * width**2)) / (width * math.sqrt(2 * math.pi))
""",
    ),
    wrong(
        "q2_2",
        "precedence: divided by 2, times width squared",
        """
def phi_gaussian(x, centres, width):
    return torch.exp(-((x[:, None] - centres) ** 2) / 2 * width**2)
""",
    ),
    wrong(
        "q2_2",
        "centres in the rows",
        """
def phi_gaussian(x, centres, width):
    return torch.exp(-((x[None, :] - centres[:, None]) ** 2) / (2 * width**2))
""",
    ),
    right(
        "q2_2",
        "loop over the centres",
        """
def phi_gaussian(x, centres, width):
    return torch.stack([torch.exp(-0.5 * ((x - c) / width) ** 2) for c in centres], dim=1)
""",
    ),
    right(
        "q2_2",
        "cdist",
        """
def phi_gaussian(x, centres, width):
    distance = torch.cdist(x[:, None], centres[:, None], compute_mode="donot_use_mm_for_euclid_dist")
    return (-(distance**2) / (2 * width**2)).exp()
""",
    ),
    # --- 2.3 far from the data
    wrong(
        "q2_3",
        "variance of the prior added",
        """
def far_from_the_data(alpha, beta, degree):
    return 1 / beta + 1 / alpha, 2 * degree
""",
    ),
    wrong(
        "q2_3",
        "exponent of the mean",
        """
def far_from_the_data(alpha, beta, degree):
    return 1 / beta, degree
""",
    ),
    wrong(
        "q2_3",
        "number of features",
        """
def far_from_the_data(alpha, beta, degree):
    return 1 / beta, 2 * (degree + 1)
""",
    ),
    wrong(
        "q2_3",
        "read off the figure",
        """
def far_from_the_data(alpha, beta, degree):
    return 0.04, 2
""",
    ),
    wrong(
        "q2_3",
        "always quadratic",
        """
def far_from_the_data(alpha, beta, degree):
    return 1 / beta, 2
""",
    ),
    right(
        "q2_3",
        "measured",
        """
def far_from_the_data(alpha, beta, degree):
    x, t = torch.linspace(-1, 1, 30), torch.zeros(30)
    bumps = fit_linear(features.gaussian(torch.zeros(1), 0.1), x, t, alpha=alpha, beta=beta)
    power = fit_linear(features.polynomial(degree), x, t, alpha=alpha, beta=beta)
    far = power.predict(torch.tensor([1e4, 2e4])).epistemic
    return bumps.predict(torch.tensor([99.0])).variance, torch.log2(far[1] / far[0])
""",
    ),
    right(
        "q2_3",
        "tensors",
        """
def far_from_the_data(alpha, beta, degree):
    return torch.tensor([1.0 / beta]), torch.tensor(degree + degree)
""",
    ),
    right(
        "q2_3",
        "one tensor of two",
        """
def far_from_the_data(alpha, beta, degree):
    return torch.tensor([1 / beta, 2 * degree])
""",
    ),
    # --- 3.1 log evidence
    wrong(
        "q3_1",
        "constant forgotten",
        """
def log_evidence(phi, t, alpha, beta):
    c = torch.eye(len(t)) / beta + phi @ phi.T / alpha
    return -0.5 * (torch.logdet(c) + t @ torch.linalg.solve(c, t))
""",
    ),
    wrong(
        "q3_1",
        "sign of the determinant",
        """
def log_evidence(phi, t, alpha, beta):
    c = torch.eye(len(t)) / beta + phi @ phi.T / alpha
    return -0.5 * (len(t) * math.log(2 * math.pi) - torch.logdet(c) + t @ torch.linalg.solve(c, t))
""",
    ),
    wrong(
        "q3_1",
        "alpha and beta exchanged",
        """
def log_evidence(phi, t, alpha, beta):
    c = torch.eye(len(t)) / alpha + phi @ phi.T / beta
    return -0.5 * (len(t) * math.log(2 * math.pi) + torch.logdet(c) + t @ torch.linalg.solve(c, t))
""",
    ),
    wrong(
        "q3_1",
        "precisions taken for variances",
        """
def log_evidence(phi, t, alpha, beta):
    c = torch.eye(len(t)) * beta + phi @ phi.T * alpha
    return -0.5 * (len(t) * math.log(2 * math.pi) + torch.logdet(c) + t @ torch.linalg.solve(c, t))
""",
    ),
    wrong(
        "q3_1",
        "log likelihood at the posterior mean",
        """
def log_evidence(phi, t, alpha, beta):
    mean = beta * torch.linalg.solve(alpha * torch.eye(phi.shape[1]) + beta * phi.T @ phi, phi.T @ t)
    return 0.5 * len(t) * math.log(beta / (2 * math.pi)) - 0.5 * beta * (t - phi @ mean).square().sum()
""",
    ),
    wrong(
        "q3_1",
        "M x M form without the size of the mean",
        """
def log_evidence(phi, t, alpha, beta):
    precision = alpha * torch.eye(phi.shape[1]) + beta * phi.T @ phi
    mean = beta * torch.linalg.solve(precision, phi.T @ t)
    fit = 0.5 * beta * (t - phi @ mean).square().sum()
    constant = 0.5 * phi.shape[1] * math.log(alpha) + 0.5 * len(t) * math.log(beta / (2 * math.pi))
    return constant - fit - 0.5 * torch.logdet(precision)
""",
    ),
    right(
        "q3_1",
        "torch.distributions",
        """
def log_evidence(phi, t, alpha, beta):
    c = torch.eye(len(t), device=t.device) / beta + phi @ phi.T / alpha
    return torch.distributions.MultivariateNormal(torch.zeros_like(t), c).log_prob(t)
""",
    ),
    right(
        "q3_1",
        "M x M form",
        """
def log_evidence(phi, t, alpha, beta):
    precision = alpha * torch.eye(phi.shape[1], device=t.device) + beta * phi.T @ phi
    mean = beta * torch.linalg.solve(precision, phi.T @ t)
    fit = 0.5 * beta * (t - phi @ mean).square().sum() + 0.5 * alpha * mean @ mean
    constant = 0.5 * phi.shape[1] * math.log(alpha) + 0.5 * len(t) * math.log(beta / (2 * math.pi))
    return float(constant - fit - 0.5 * torch.logdet(precision))
""",
    ),
    right(
        "q3_1",
        "numpy",
        """
import numpy as np


def log_evidence(phi, t, alpha, beta):
    phi, t = phi.cpu().numpy(), t.cpu().numpy()
    c = np.eye(len(t)) / beta + phi @ phi.T / alpha
    _, logdet = np.linalg.slogdet(2 * np.pi * c)
    return -0.5 * logdet - 0.5 * t @ np.linalg.solve(c, t)
""",
    ),
    wrong(
        "q3_1",
        "beta inverted",
        """
def log_evidence(phi, t, alpha, beta):
    c = torch.eye(len(t)) * beta + phi @ phi.T / alpha
    return -0.5 * (len(t) * math.log(2 * math.pi) + torch.logdet(c) + t @ torch.linalg.solve(c, t))
""",
    ),
    wrong(
        "q3_1",
        "bits in place of nats",
        """
def log_evidence(phi, t, alpha, beta):
    c = torch.eye(len(t)) / beta + phi @ phi.T / alpha
    return torch.distributions.MultivariateNormal(torch.zeros_like(t), c).log_prob(t) / math.log(2)
""",
    ),
    right(
        "q3_1",
        "in single precision",
        """
def log_evidence(phi, t, alpha, beta):
    phi, t = phi.float(), t.float()
    c = torch.eye(len(t), dtype=torch.float32, device=t.device) / beta + phi @ phi.T / alpha
    quadratic = t @ torch.linalg.solve(c, t)
    return -0.5 * (len(t) * math.log(2 * math.pi) + torch.linalg.slogdet(c)[1] + quadratic)
""",
    ),
    # --- 3.2 best degree
    wrong(
        "q3_2",
        "smallest training error",
        """
def best_degree(x, t, degrees, alpha, beta):
    def error(d):
        fit = fit_linear(features.polynomial(d), x, t, alpha=alpha, beta=beta)
        return float((fit.predict(x).mean - t).square().sum())

    return min(degrees, key=error)
""",
    ),
    wrong(
        "q3_2",
        "index instead of degree",
        """
def best_degree(x, t, degrees, alpha, beta):
    values = [fit_linear(features.polynomial(d), x, t, alpha=alpha, beta=beta).log_evidence for d in degrees]
    return int(torch.stack(values).argmax())
""",
    ),
    wrong(
        "q3_2",
        "smallest evidence",
        """
def best_degree(x, t, degrees, alpha, beta):
    return min(degrees, key=lambda d: float(
        fit_linear(features.polynomial(d), x, t, alpha=alpha, beta=beta).log_evidence))
""",
    ),
    wrong(
        "q3_2",
        "degrees assumed to be 0, 1, 2, ...",
        """
def best_degree(x, t, degrees, alpha, beta):
    return max(range(len(degrees)), key=lambda d: float(
        fit_linear(features.polynomial(degrees[d]), x, t, alpha=alpha, beta=beta).log_evidence))
""",
    ),
    wrong(
        "q3_2",
        "the largest degree",
        """
def best_degree(x, t, degrees, alpha, beta):
    return max(degrees)
""",
    ),
    right(
        "q3_2",
        "a loop with own features",
        """
def best_degree(x, t, degrees, alpha, beta):
    best, best_value = None, -math.inf
    for degree in degrees:
        phi = torch.stack([x**k for k in range(degree + 1)], 1)
        value = fit_linear(None, phi, t, alpha=alpha, beta=beta).log_evidence
        if value > best_value:
            best, best_value = degree, value
    return best
""",
    ),
    right(
        "q3_2",
        "a tensor",
        """
def best_degree(x, t, degrees, alpha, beta):
    values = [fit_linear(features.polynomial(d), x, t, alpha=alpha, beta=beta).log_evidence for d in degrees]
    return torch.tensor(degrees)[torch.stack(values).argmax()]
""",
    ),
    # --- 3.3 hyperparameters
    wrong(
        "q3_3",
        "all weights counted",
        """
def fit_hyperparameters(phi, t):
    alpha, beta = 1.0, 1.0
    for _ in range(500):
        mean = beta * torch.linalg.solve(alpha * torch.eye(phi.shape[1]) + beta * phi.T @ phi, phi.T @ t)
        alpha = phi.shape[1] / float(mean @ mean)
        beta = len(t) / float((t - phi @ mean).square().sum())
    return alpha, beta
""",
    ),
    wrong(
        "q3_3",
        "one step only",
        """
def fit_hyperparameters(phi, t):
    values = torch.linalg.eigvalsh(phi.T @ phi)
    mean = torch.linalg.solve(torch.eye(phi.shape[1]) + phi.T @ phi, phi.T @ t)
    gamma = float((values / (values + 1)).sum())
    return gamma / float(mean @ mean), (len(t) - gamma) / float((t - phi @ mean).square().sum())
""",
    ),
    wrong(
        "q3_3",
        "alpha and beta exchanged",
        """
def fit_hyperparameters(phi, t):
    fit = maximize_evidence(None, phi, t)
    return fit.beta, fit.alpha
""",
    ),
    wrong(
        "q3_3",
        "variances instead of precisions",
        """
def fit_hyperparameters(phi, t):
    fit = maximize_evidence(None, phi, t)
    return 1 / fit.alpha, 1 / fit.beta
""",
    ),
    wrong(
        "q3_3",
        "beta of the least-squares residual, alpha left at 1",
        """
def fit_hyperparameters(phi, t):
    mean = torch.linalg.lstsq(phi, t[:, None]).solution[:, 0]
    return 1.0, len(t) / float((t - phi @ mean).square().sum())
""",
    ),
    right(
        "q3_3",
        "expectation maximisation",
        """
def fit_hyperparameters(phi, t):
    alpha, beta = 1.0, 1.0
    gram, eye = phi.T @ phi, torch.eye(phi.shape[1], device=t.device)
    for _ in range(4000):
        covariance = torch.linalg.inv(alpha * eye + beta * gram)
        mean = beta * covariance @ (phi.T @ t)
        alpha = phi.shape[1] / float(mean @ mean + covariance.trace())
        beta = len(t) / float((t - phi @ mean).square().sum() + (gram @ covariance).trace())
    return alpha, beta
""",
    ),
    right(
        "q3_3",
        "gradient of the log evidence",
        """
def fit_hyperparameters(phi, t):
    logs = torch.zeros(2, requires_grad=True)
    optimiser = torch.optim.LBFGS([logs], max_iter=500, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def closure():
        optimiser.zero_grad()
        alpha, beta = logs.exp()
        c = torch.eye(len(t)) / beta + phi.cpu() @ phi.cpu().T / alpha
        loss = -torch.distributions.MultivariateNormal(torch.zeros(len(t)), c).log_prob(t.cpu())
        loss.backward()
        return loss

    optimiser.step(closure)
    return tuple(logs.exp())
""",
    ),
    right(
        "q3_3",
        "a NumPy array of two, by a simplex search",
        """
def fit_hyperparameters(phi, t):
    from scipy.optimize import minimize

    import numpy as np

    def loss(logs):
        alpha, beta = np.exp(logs).tolist()
        return -float(fit_linear(None, phi, t, alpha=alpha, beta=beta).log_evidence)

    return np.exp(minimize(loss, [0, 0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).x)
""",
    ),
    wrong(
        "q3_3",
        "M in place of gamma for alpha alone",
        """
def fit_hyperparameters(phi, t):
    alpha, beta = 1.0, 1.0
    values, eye = torch.linalg.eigvalsh(phi.T @ phi), torch.eye(phi.shape[1])
    for _ in range(500):
        mean = beta * torch.linalg.solve(alpha * eye + beta * phi.T @ phi, phi.T @ t)
        gamma = float((beta * values / (beta * values + alpha)).sum())
        alpha = phi.shape[1] / float(mean @ mean)
        beta = (len(t) - gamma) / float((t - phi @ mean).square().sum())
    return alpha, beta
""",
    ),
    wrong(
        "q3_3",
        "eigenvalues without the current beta",
        """
def fit_hyperparameters(phi, t):
    alpha, beta = 1.0, 1.0
    values, eye = torch.linalg.eigvalsh(phi.T @ phi), torch.eye(phi.shape[1])
    for _ in range(500):
        mean = beta * torch.linalg.solve(alpha * eye + beta * phi.T @ phi, phi.T @ t)
        gamma = float((values / (values + alpha)).sum())
        alpha = gamma / float(mean @ mean)
        beta = (len(t) - gamma) / float((t - phi @ mean).square().sum())
    return alpha, beta
""",
    ),
    right(
        "q3_3",
        "the fixed point of the hint, stopped at 1e-6",
        """
def fit_hyperparameters(phi, t):
    alpha, beta = torch.ones((), device=t.device), torch.ones((), device=t.device)
    values = torch.linalg.eigvalsh(phi.T @ phi)
    for _ in range(300):
        mean = fit_linear(None, phi, t, alpha=float(alpha), beta=float(beta)).mean
        gamma = (beta * values / (beta * values + alpha)).sum()
        old = alpha
        alpha, beta = gamma / (mean @ mean), (len(t) - gamma) / (t - phi @ mean).square().sum()
        if abs(alpha / old - 1) < 1e-6:
            break
    return torch.stack([alpha, beta])
""",
    ),
    # --- 4.1 coverage
    wrong(
        "q4_1",
        "variance taken for the standard deviation",
        """
def coverage(mean, variance, t, level):
    z = torch.special.ndtri(torch.tensor((1 + level) / 2))
    return ((t - mean).abs() <= z * variance).to(t.dtype).mean()
""",
    ),
    wrong(
        "q4_1",
        "one-sided quantile",
        """
def coverage(mean, variance, t, level):
    z = torch.special.ndtri(torch.tensor(level))
    return ((t - mean).abs() <= z * variance.sqrt()).to(t.dtype).mean()
""",
    ),
    wrong(
        "q4_1",
        "share outside",
        """
def coverage(mean, variance, t, level):
    z = torch.special.ndtri(torch.tensor((1 + level) / 2))
    return ((t - mean).abs() > z * variance.sqrt()).to(t.dtype).mean()
""",
    ),
    wrong(
        "q4_1",
        "1.96 whatever the level",
        """
def coverage(mean, variance, t, level):
    return ((t - mean).abs() <= 1.96 * variance.sqrt()).to(t.dtype).mean()
""",
    ),
    wrong(
        "q4_1",
        "only the upper end",
        """
def coverage(mean, variance, t, level):
    z = torch.special.ndtri(torch.tensor((1 + level) / 2))
    return (t <= mean + z * variance.sqrt()).to(t.dtype).mean()
""",
    ),
    right(
        "q4_1",
        "through the distribution function",
        """
def coverage(mean, variance, t, level):
    p = torch.distributions.Normal(mean, variance.sqrt()).cdf(t)
    return ((p >= (1 - level) / 2) & (p <= (1 + level) / 2)).double().mean()
""",
    ),
    right(
        "q4_1",
        "chi-square of one degree, counted in Python",
        """
def coverage(mean, variance, t, level):
    from statistics import NormalDist

    bound = NormalDist().inv_cdf(0.5 + level / 2) ** 2
    scores = ((t - mean) ** 2 / variance).tolist()
    return sum(score <= bound for score in scores) / len(scores)
""",
    ),
    wrong(
        "q4_1",
        "the number inside, not the share",
        """
def coverage(mean, variance, t, level):
    z = torch.special.ndtri(torch.tensor((1 + level) / 2))
    return ((t - mean).abs() <= z * variance.sqrt()).sum()
""",
    ),
]
