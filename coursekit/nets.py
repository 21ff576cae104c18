"""The few networks of the course: a plain multilayer perceptron and the LeNet of the third lab.

Both are ``nn.Sequential`` of a ``body``, which ends with the penultimate features, and a ``head``, the last linear
layer: what works on the last layer alone (Laplace, ConfidNet, Mahalanobis) needs no more than ``features(x)``.
Dropout is always a module, so that evaluation mode switches it off and MC Dropout can find it.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from coursekit._frozen import evaluation_mode

__all__ = ["ACTIVATIONS", "MLP", "LeNet", "evaluation_mode", "features_and_outputs"]

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU, "softplus": nn.Softplus}


class _BodyAndHead(nn.Sequential):
    body: nn.Sequential
    head: nn.Linear

    def features(self, x: Tensor) -> Tensor:
        """(N, M) the input of the last linear layer."""
        return self.body(x)


class MLP(_BodyAndHead):
    """A multilayer perceptron: ``depth`` hidden layers of ``width`` units, then a linear output.

    Inputs are flattened, so images go in as they are.

    Args:
        in_features: D, after flattening.
        out_features: number of outputs: logits or targets.
        width: units of each hidden layer.
        depth: number of hidden layers; 0 gives a linear model.
        activation: ``"relu"``, ``"tanh"``, ``"gelu"``, ``"silu"`` or ``"softplus"``.
        dropout: probability of dropout after each hidden layer; 0: no dropout module at all.
        bias: whether linear layers have biases.

    Raises:
        ValueError: a size below one, a negative depth, an unknown activation, a probability outside [0, 1).

    >>> MLP(2, 1, width=50)(torch.zeros(7, 2)).shape
    torch.Size([7, 1])
    >>> sum(p.numel() for p in MLP(784, 10, width=32, depth=1).parameters()) == 784 * 32 + 32 + 32 * 10 + 10
    True
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        width: int = 64,
        depth: int = 2,
        activation: str = "relu",
        dropout: float = 0.0,
        bias: bool = True,
    ):
        if min(in_features, out_features, width) < 1 or depth < 0:
            raise ValueError(
                f"in_features={in_features}, out_features={out_features}, width={width} must be >= 1 and "
                f"depth={depth} >= 0"
            )
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r}: choose from {', '.join(ACTIVATIONS)}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}: a probability in [0, 1)")
        layers: list[nn.Module] = [nn.Flatten()]
        for layer in range(depth):
            layers += [nn.Linear(width if layer else in_features, width, bias=bias), ACTIVATIONS[activation]()]
            layers += [nn.Dropout(dropout)] if dropout else []
        head = nn.Linear(width if depth else in_features, out_features, bias=bias)
        super().__init__(OrderedDict(body=nn.Sequential(*layers), head=head))


class LeNet(_BodyAndHead):
    """The LeNet of the third lab, for images (N, 1, 28, 28); it returns logits (N, classes).

    Convolution of 16 channels 5 x 5, ReLU, max pooling 2; 32 channels 5 x 5, ReLU, pooling 2; the 512 numbers left,
    dropout 1/2, 100 units, ReLU, dropout 1/4 (the ``features``), and a linear layer.

    Args:
        classes: number of classes.
        dropout: the two dropout probabilities.

    >>> net = LeNet().eval()
    >>> x = torch.zeros(3, 1, 28, 28)
    >>> net(x).shape, net.features(x).shape
    (torch.Size([3, 10]), torch.Size([3, 100]))
    """

    def __init__(self, classes: int = 10, *, dropout: tuple[float, float] = (0.5, 0.25)):
        body = nn.Sequential(
            nn.Conv2d(1, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout[0]),
            nn.Linear(512, 100),
            nn.ReLU(),
            nn.Dropout(dropout[1]),
        )
        super().__init__(OrderedDict(body=body, head=nn.Linear(100, classes)))


def features_and_outputs(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """(N, M) the input of the last linear layer that a model runs, and (N, C) its outputs, from one pass.

    For a :class:`LeNet` or :class:`MLP` the features are ``model.features(x)``; for any other model they are what goes
    into the ``nn.Linear`` that is called last. The model runs in the mode it is in, without gradients.

    Raises:
        ValueError: the model runs no linear layer, or the last one does not make the outputs (up to what keeps the
            order of the classes: a softmax, a temperature).

    >>> net = MLP(4, 3, width=5, depth=1)
    >>> x = torch.ones(2, 4)
    >>> features, outputs = features_and_outputs(net, x)
    >>> torch.equal(features, net.features(x)), torch.equal(outputs, net(x))
    (True, True)
    """
    seen: list[Tensor] = []

    def remember(module: nn.Module, args: tuple, output: Tensor) -> None:
        seen[:] = args[0], output.clone()  # what follows may change the output in place

    hooks = [m.register_forward_hook(remember) for m in model.modules() if isinstance(m, nn.Linear)]
    try:
        with torch.no_grad():
            outputs = model(x)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise ValueError(f"{type(model).__name__} runs no nn.Linear: there are no penultimate features")
    if not _same_order(seen[1], outputs):
        raise ValueError(
            f"the nn.Linear that {type(model).__name__} runs last does not make its outputs: a gate or an auxiliary "
            "head, not the last layer; let the model end in nn.Linear"
        )
    return seen[0].flatten(1), outputs


def _same_order(head: Tensor, outputs: object) -> bool:
    """Whether the outputs of the head (N, C) and of the model order the classes alike in each row."""
    if not isinstance(outputs, Tensor) or head.numel() != outputs.numel():
        return False
    if torch.equal(head.flatten(), outputs.flatten()) or outputs.ndim != 2 or head.shape != outputs.shape:
        return head.numel() == outputs.numel()
    return bool((outputs.gather(1, head.argsort(1)).diff(dim=1) >= 0).all())
