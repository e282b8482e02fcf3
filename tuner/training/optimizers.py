"""The optimizers by name: those of `bcrit.search_spaces.presets.OPTIMIZERS` and every other class of `torch.optim`."""

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from bcrit.search_spaces.dimensions import Value
from bcrit.search_spaces.presets import EXTRAPOLATED, OPTIMIZERS, Parameters
from bcrit.search_spaces.problems import did_you_mean
from bcrit.tuner.training.settings import Settings, learning_rate


def bare_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """The optimizer's update as the optimizer's class wrote it, without gradients of its own; the same numbers.

    Around it `optimizer.step` marks PyTorch's profiles, calls hooks and tells the compiler where to break. Nothing here
    uses those, and they take longer than a small model's update itself: of a 64-128-10 network, 77 us with them and 39
    without for SGD, 154 and 73 for Adam (in the middle of training, one thread of a busy machine, PyTorch 2.13). An
    optimizer with hooks, or from outside PyTorch, keeps all that its `step` does.
    """
    kind = type(optimizer)
    hooked = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    if hooked or not kind.__module__.startswith("torch.optim."):
        return optimizer.step
    return torch.no_grad()(partial(inspect.unwrap(kind.step), optimizer))


def _ratios(numerators: list[Tensor], denominators: list[Tensor]) -> list[Tensor]:
    """Quotients of norms as tensors, so that the device is not waited for; 1 where either is 0."""
    above, below = torch.stack(numerators), torch.stack(denominators)
    return list(torch.where((above > 0) & (below > 0), above / below, 1.0).unbind())


ELEMENTWISE: Final = frozenset(
    "sgd momentum nesterov adam adamw adamax nadam radam rmsprop adagrad adadelta asgd rprop".split()
)
"""The optimizers that update every number of a weight by itself: a part of a weight as the same part of the whole."""


class _Layerwise(torch.optim.Optimizer, ABC):
    """LARS and LAMB: updates scaled by the norm of the tensor that they change.

    Both are written here because the libraries that have them compute something else or take long to import:
    pytorch_optimizer 4.1 clamps the weights' norm and leaves out the bias correction in LAMB, and takes a second to
    import; timm 1.0 imports torchvision and clips the gradient.

    Tensors with fewer than two dimensions (biases, gains of normalisation) take no part: their ratio is 1 and they do
    not decay, as in the authors' own code. A ratio is 1 too where a norm is 0, or a layer that begins at 0 would never
    move.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            group["made"] = group.get("made", 0) + 1
            live = [p for p in group["params"] if p.grad is not None]
            for adapted in (True, False):
                if some := [p for p in live if (p.ndim > 1) == adapted]:
                    self._update(group, some, [p.grad for p in some], adapted)

    @abstractmethod
    def _update(self, group: dict[str, Any], x: list[Tensor], g: list[Tensor], adapted: bool) -> None:
        """Move the tensors x with gradients g; `made` in the group counts updates, this one included."""

    def _kept(self, name: str, x: list[Tensor]) -> list[Tensor]:
        for p in x:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in x]


class Lars(_Layerwise):
    """LARS, with the learning rate inside the velocity (You, Gitman and Ginsburg 2017, eq. 6 and algorithm 1).

    For every tensor x with gradient g:

        ratio = trust_coefficient |x| / (|g| + weight_decay |x|)
        v = momentum v + lr ratio (g + weight_decay x)
        x = x - v
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.9,
        trust_coefficient: float = 0.001,  # the paper's eta, 0.001 there
        weight_decay: float = 0.0,  # coupled
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "trust_coefficient": trust_coefficient}
        super().__init__(params, defaults | {"weight_decay": weight_decay})

    def _update(self, group: dict[str, Any], x: list[Tensor], g: list[Tensor], adapted: bool) -> None:
        updates = g
        if adapted:
            decay, trust = group["weight_decay"], group["trust_coefficient"]
            sizes, slopes = torch._foreach_norm(x), torch._foreach_norm(g)
            updates = list(torch._foreach_add(g, x, alpha=decay))
            below = torch._foreach_add(slopes, sizes, alpha=decay)
            torch._foreach_mul_(updates, _ratios(list(torch._foreach_mul(sizes, trust)), list(below)))
        v = self._kept("momentum_buffer", x)
        torch._foreach_mul_(v, group["momentum"])
        torch._foreach_add_(v, updates, alpha=group["lr"])
        torch._foreach_sub_(x, v)


class Lamb(_Layerwise):
    """LAMB with the identity for phi (You et al. 2019, algorithm 2).

    For every tensor x with gradient g at update t = 1, 2, ...:

        m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2
        r = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay x
        x = x - lr |x| / |r| r
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),  # the paper's, as is eps
        eps: float = 1e-6,
        weight_decay: float = 0.0,  # lambda in the paper; the ratio scales it together with Adam's direction
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _update(self, group: dict[str, Any], x: list[Tensor], g: list[Tensor], adapted: bool) -> None:
        (beta1, beta2), made = group["betas"], group["made"]
        m, v = self._kept("exp_avg", x), self._kept("exp_avg_sq", x)
        torch._foreach_lerp_(m, g, 1.0 - beta1)
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, g, g, value=1.0 - beta2)
        roots = torch._foreach_sqrt(torch._foreach_div(v, 1.0 - beta2**made))
        torch._foreach_add_(roots, group["eps"])
        r = list(torch._foreach_div(torch._foreach_div(m, 1.0 - beta1**made), roots))
        if adapted:
            torch._foreach_add_(r, x, alpha=group["weight_decay"])
            torch._foreach_mul_(r, _ratios(list(torch._foreach_norm(x)), list(torch._foreach_norm(r))))
        torch._foreach_add_(x, r, alpha=-group["lr"])


def groups(model: nn.Module | Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """The parameters that Muon takes, then those that it leaves to AdamW; either group may be empty.

    As its authors use it (Jordan et al. 2024): matrices of hidden layers are Muon's; biases, gains, embeddings and the
    output layer are AdamW's. The output layer is the `nn.Linear` that the model registers last. `torch.optim.Muon`
    takes two dimensions only, so kernels of convolutions are AdamW's too. Of bare parameters all matrices are Muon's.
    """
    parameters = [p for p in (model.parameters() if isinstance(model, nn.Module) else model) if p.requires_grad]
    outer: set[int] = set()
    if isinstance(model, nn.Module):
        outer |= {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
        outer |= {id(m.weight) for m in [m for m in model.modules() if isinstance(m, nn.Linear)][-1:]}
    hidden = [p for p in parameters if p.ndim == 2 and id(p) not in outer]
    taken = {id(p) for p in hidden}
    return [{"params": hidden}, {"params": [p for p in parameters if id(p) not in taken]}]


class Muon(torch.optim.Optimizer):
    """`torch.optim.Muon` for the hidden matrices of a model and `torch.optim.AdamW` for all else.

    With `adjust_lr_fn="match_rms_adamw"` an update of Muon has the root mean square of AdamW's (Liu et al. 2025), so
    that both take the same learning rate and the same decoupled weight decay, and one `lr` is searched, not two.
    """

    def __init__(
        self,
        params: list[dict[str, Any]],  # the two groups of `groups`
        lr: float,  # of both
        momentum: float = 0.95,  # Muon's, as are the next three
        nesterov: bool = True,
        ns_steps: int = 5,  # of Newton-Schulz
        adjust_lr_fn: str = "match_rms_adamw",  # `original` is that of Jordan et al. 2024
        betas: tuple[float, float] = (0.9, 0.999),  # AdamW's
        eps: float = 1e-8,  # AdamW's
        weight_decay: float = 0.0,  # of both, decoupled
    ) -> None:
        hidden, rest = (group["params"] for group in params)
        super().__init__([*hidden, *rest], {"lr": lr})
        shared: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
        muon: dict[str, Any] = {"momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps}
        self._parts: list[torch.optim.Optimizer] = []
        if hidden:
            self._parts.append(torch.optim.Muon(hidden, **shared, **muon, adjust_lr_fn=adjust_lr_fn))
        if rest:
            self._parts.append(torch.optim.AdamW(rest, **shared, betas=betas, eps=eps, fused=True))
        self.param_groups = [group for part in self._parts for group in part.param_groups]
        self._share_state()
        self._updates = [bare_step(part) for part in self._parts]

    def _share_state(self) -> None:
        """Let the parts, of one group each, work on what is saved and loaded as a whole."""
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.state, part.param_groups = self.state, [group]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state, which PyTorch puts into new groups."""
        super().load_state_dict(state_dict)
        self._share_state()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for update in self._updates:
            update()


_OURS: Final[dict[str, type[torch.optim.Optimizer]]] = {
    "momentum": torch.optim.SGD,
    "nesterov": torch.optim.SGD,
    "muon": Muon,
    "lars": Lars,
    "lamb": Lamb,
}
_REFUSED: Final = {
    "lbfgs": "it evaluates the loss many times an update, on one fixed batch, which makes it no stochastic method",
    "sparseadam": "it takes sparse gradients only; choose adam",
    "optimizer": "it is the base of the others",
}
# How a class computes, not what: these stay as we or PyTorch choose them. The flag `decoupled_weight_decay` of some
# classes is left alone, because a number of that name is one formula for all of them (`build_optimizer`).
_IMPLEMENTATION: Final = frozenset(
    "params foreach fused maximize capturable differentiable decoupled_weight_decay".split()
)
# In these classes `weight_decay` is decoupled already (x shrinks by lr weight_decay); Rprop has none at all.
_DECOUPLED: Final = {"adamw", "muon", "adafactor", "lamb"}


@cache
def class_of(name: str) -> type[torch.optim.Optimizer]:
    """The class behind an optimizer's name (in lower case); a ValueError where it cannot train by steps on batches."""
    name = EXTRAPOLATED.get(name, name)
    if name in _REFUSED:
        raise ValueError(f"optimizer '{name}' cannot be used here: {_REFUSED[name]}")
    classes = {key.lower(): found for key, found in vars(torch.optim).items() if isinstance(found, type)}
    found = _OURS.get(name) or classes.get(name)
    if found is None or not issubclass(found, torch.optim.Optimizer):
        theirs = {n for n, c in classes.items() if issubclass(c, torch.optim.Optimizer)}
        known = sorted({*OPTIMIZERS, *theirs} - {*_REFUSED})
        hint = did_you_mean(name, known)
        raise ValueError(f"there is no optimizer '{name}'; {hint}choose one of {', '.join(known)}")
    return found


@cache
def parameters_of(name: str) -> Parameters:
    """The hyperparameters of an optimizer: from the presets, or read from the class's signature."""
    optimizer = class_of(name)
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    optional = [plain for plain in keywords_of(optimizer) if plain != "lr"]
    if name not in _DECOUPLED:
        optional.append("decoupled_weight_decay")
    return Parameters(("lr",), tuple(optional))


def keywords_of(optimizer: type[torch.optim.Optimizer]) -> Mapping[str, tuple[str, int | None]]:
    """What a class's arguments are called here: plain name -> (keyword, place in its tuple, None for a single value).

    An argument that is a tuple becomes one hyperparameter for each entry: `betas` is `beta1` and `beta2`, `etas` is
    `eta1` and `eta2`.
    """
    found: dict[str, tuple[str, int | None]] = {}
    for keyword, parameter in inspect.signature(optimizer).parameters.items():
        if keyword in _IMPLEMENTATION:
            continue
        if isinstance(parameter.default, tuple):
            stem = keyword if keyword == "eps" else keyword.removesuffix("s")
            found |= {f"{stem}{i + 1}": (keyword, i) for i in range(len(parameter.default))}
        else:
            found[keyword] = (keyword, None)
    return found


def arguments(optimizer: type[torch.optim.Optimizer], given: Mapping[str, Value]) -> dict[str, Any]:
    """Plain hyperparameters as keyword arguments of a class; missing entries of a tuple keep their defaults.

    Fused where PyTorch has it, and without weight decay where none is given.
    """
    defaults = {key: p.default for key, p in inspect.signature(optimizer).parameters.items()}
    found: dict[str, Any] = {}
    for plain, (keyword, place) in keywords_of(optimizer).items():
        if plain not in given:
            continue
        if isinstance(defaults[keyword], bool) and not isinstance(given[plain], bool):
            raise ValueError(
                f"'{plain}' is true or false, a bare value that is not searched, but it is {given[plain]!r}"
            )
        if place is None:
            found[keyword] = given[plain]
        else:
            values = list(found.get(keyword, defaults[keyword]))
            values[place] = given[plain]
            found[keyword] = tuple(values)
    if "weight_decay" in defaults:
        found.setdefault("weight_decay", 0.0)
    if "fused" in defaults:
        # An update of a 64-128-10 network, in us, fused against what PyTorch takes by itself: SGD 21 and 22, Adam 45
        # and 175, AdamW 74 and 201, Adagrad 38 and 81 (one thread of a busy machine, PyTorch 2.13).
        found["fused"] = True
    return found


def build_optimizer(model: nn.Module | Iterable[nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    """The optimizer that the settings name; the caller sets its learning rate before every update.

    Hyperparameters that it does not have are passed over. Without `weight_decay` there is none, whatever PyTorch's
    default is. It is coupled (L2 in the gradient, g + weight_decay x) but in `adamw`, `muon`, `adafactor` and `lamb`,
    where x shrinks by itself. `decoupled_weight_decay` gives the others that:

        x = (1 - lr(t) decoupled_weight_decay) x     before the update at learning rate lr(t)

    which is SGDW and AdamW of Loshchilov and Hutter 2017 with the learning rate in the decay, as in PyTorch. Both kinds
    hold for all parameters, as in PyTorch; only `lars` and `lamb` leave out biases and gains. From bare parameters
    `muon` cannot tell embeddings and the output layer apart.
    """
    name = EXTRAPOLATED.get(settings.optimizer, settings.optimizer)
    optimizer_class, names = class_of(name), parameters_of(name).names
    keywords = arguments(optimizer_class, {k: v for k, v in settings.hyperparameters.items() if k in names})
    keywords["lr"] = learning_rate(settings.hyperparameters, 0)
    if name == "nesterov":
        # At momentum 0 Nesterov is SGD, which a search space may include; PyTorch refuses the flag there.
        keywords["nesterov"] = keywords["momentum"] > 0
    parameters: Any = model.parameters() if isinstance(model, nn.Module) else model
    _spare_the_compiler()
    optimizer = optimizer_class(groups(model) if optimizer_class is Muon else parameters, **keywords)
    if "decoupled_weight_decay" in names and (decay := settings.number("decoupled_weight_decay")):
        optimizer.register_step_pre_hook(partial(_shrink, decay))
    return optimizer


def _spare_the_compiler() -> None:
    """Keep PyTorch from importing its compiler with a process's first optimizer, for 2 to 3 seconds.

    It does so to tell the compiler to leave these methods alone, under the name that is set here; nothing of ours
    compiles a call of them. A PyTorch that has other names imports it as before.
    """
    if "torch._dynamo" not in sys.modules:
        for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
            if plain := getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None):
                plain.__dynamo_disable = plain


@torch.no_grad()
def _shrink(decay: float, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Decoupled weight decay, before every update."""
    for group in optimizer.param_groups:
        live = [parameter for parameter in group["params"] if parameter.grad is not None]
        torch._foreach_mul_(live, 1.0 - group["lr"] * decay)
