"""One run, and many lanes by `torch.func.vmap`, in PyTorch on a GPU (or whatever device is named)."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from benchmarks.torch_loops import make_steps
from benchmarks.torch_nets import Data, Settings, make_data

BLOCK = 20


def one_run(settings: Settings, device: str, compiled: bool) -> float:
    """Returns the seconds that a step takes with hooks on modules and all figures; `compiled` by torch.compile."""
    with torch.device(device):
        data = Data(*(part.to(device) for part in make_data(settings.features, settings.classes)))
        steps = make_steps(settings, data, "compiled" if compiled else "modules")
        return _seconds(lambda: steps(BLOCK), device) / BLOCK


def lanes(settings: Settings, count: int, device: str) -> float:
    """Returns the run-steps per second of `count` nets side by side, with the norms of their weights' gradients."""
    with torch.device(device):
        data = Data(*(part.to(device) for part in make_data(settings.features, settings.classes)))
        nets = [_net(settings) for _ in range(count)]
        parameters, _ = stack_module_state(nets)
        parameters = {name: value.detach() for name, value in parameters.items()}
        net = nets[0].to("meta")

        def loss(parameters: dict[str, Tensor], x: Tensor, labels: Tensor) -> Tensor:
            return functional.cross_entropy(functional_call(net, parameters, (x,)), labels)

        gradient = vmap(grad(loss), in_dims=(0, None, None))

        def step() -> Tensor:
            index = torch.randint(len(data.labels), (settings.batch,))
            x = data.images[index].to(torch.float32).div_(255)
            gradients = gradient(parameters, x, data.labels[index])
            torch._foreach_add_(list(parameters.values()), list(gradients.values()), alpha=-settings.learning_rate)
            return torch.stack([g.flatten(1).norm(dim=1) for name, g in gradients.items() if name.endswith("weight")])

        return BLOCK * count / _seconds(lambda: torch.stack([step() for _ in range(BLOCK)]), device)


def _net(settings: Settings) -> torch.nn.Sequential:
    sizes = [settings.features, *[settings.width] * settings.depth, settings.classes]
    layers: list[torch.nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        linear = torch.nn.Linear(n_in, n_out)
        torch.nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        torch.nn.init.zeros_(linear.bias)
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def _seconds(work: Callable[[], Any], device: str) -> float:
    """The median over 5 turns after a first one; what was measured is brought to the host."""
    times = []
    for _ in range(6):
        began = time.perf_counter()
        work().cpu()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return median(times[1:])
