"""The same trainings and figures in PyTorch on the CPU, as fast as its eager mode allows: what vgx is held against.

Two of vgx's costs are not paid here: no exponent is carried, so a gradient that leaves float32's range is lost, and
loss and accuracy are not kept. Run with `python -m benchmarks.torch_loops`.
"""

from __future__ import annotations

import ctypes
import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.torch_nets import (
    ACTIVATIONS,
    SATURATED,
    Activation,
    Data,
    Net,
    Settings,
    make_data,
    make_net,
)

Measure = Literal["none", "norms", "hooks", "modules", "compiled"]
WORDS: Mapping[Measure, str] = {
    "none": "nothing measured",
    "norms": "weight gradients' norms by _foreach_norm",
    "hooks": "hooks, layers stacked and tuned",
    "modules": "hooks on modules",
}
"""How tables call what is measured on a CPU."""

BLOCK = 20
STATISTICS = (
    "delta_log10",
    "weight_grad_log10",
    "bias_grad_log10",
    "weight_grad_zero",
    "weight_norm",
    "update_ratio",
    "preact_mean",
    "preact_std",
    "act_mean",
    "act_rms",
    "dead",
    "saturated",
)
"""What `hooks` measures of each layer, in vgx's words and units."""


def make_steps(settings: Settings, data: Data, measure: Measure) -> Callable[[int], Tensor | None]:
    """Returns a function that trains for so many steps T and returns what was measured of them, on the host.

    That is None, the norms of the weights' gradients [T, L + 1], or `STATISTICS` [T, 12, L + 1].
    """
    return _with_forward(settings, data, measure)[1]


def train_net(settings: Settings, data: Data, measure: Measure) -> tuple[Callable[[Tensor], Tensor], Tensor | None]:
    """Returns a trained net, from inputs to logits, and what was measured as it trained."""
    forward, steps = _with_forward(settings, data, measure)
    return forward, steps(settings.steps)


def _with_forward(
    settings: Settings, data: Data, measure: Measure
) -> tuple[Callable[[Tensor], Tensor], Callable[[int], Tensor | None]]:
    if measure in ("modules", "compiled"):
        return _module_steps(settings, data, measure == "compiled")
    net = make_net(settings)
    step = {"none": _plain_step, "norms": _normed_step, "hooks": _hooked_step}[measure]
    order = torch.Generator().manual_seed(settings.seed)
    activation, rate = ACTIVATIONS[settings.activation], settings.learning_rate

    def forward(x: Tensor) -> Tensor:
        for kernel, bias in zip(net.kernels_of[:-1], net.biases_of[:-1], strict=True):
            x = activation.apply(torch.addmm(bias, x, kernel))
        return torch.addmm(net.biases_of[-1], x, net.kernels_of[-1])

    def steps(count: int) -> Tensor | None:
        rows = []
        for index in torch.randint(len(data.labels), (count, settings.batch), generator=order):
            x = data.images[index].to(torch.float32).div_(255)
            rows.append(step(net, activation, rate, x, data.labels[index]))
        if measure == "none":
            return None
        table = torch.stack(rows)
        return table if measure == "norms" else finish(table, settings)

    return forward, steps


def _descend(net: Net, activation: Activation, rate: float, x: Tensor, labels: Tensor) -> Sequence[Tensor]:
    for kernel, bias in zip(net.kernels_of[:-1], net.biases_of[:-1], strict=True):
        x = activation.overwrite(torch.addmm(bias, x, kernel))
    loss = functional.cross_entropy(torch.addmm(net.biases_of[-1], x, net.kernels_of[-1]), labels)
    parameters = net.kernels_of + net.biases_of
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        torch._foreach_add_(parameters, gradients, alpha=-rate)
    return gradients


def _plain_step(net: Net, activation: Activation, rate: float, x: Tensor, labels: Tensor) -> None:
    _descend(net, activation, rate, x, labels)


def _normed_step(net: Net, activation: Activation, rate: float, x: Tensor, labels: Tensor) -> Tensor:
    gradients = _descend(net, activation, rate, x, labels)
    return torch.stack(torch._foreach_norm(gradients[: len(net.kernels_of)]))


def _hooked_step(net: Net, activation: Activation, rate: float, x: Tensor, labels: Tensor) -> Tensor:
    """Returns one vector of raw norms, sums and counts, [11 (L + 1)]; `finish` makes the figures of it.

    Layers of one shape are stacked first: a copy costs less than an operation per layer and figure.
    """
    before, after, deltas = [], [], []
    for kernel, bias in zip(net.kernels_of[:-1], net.biases_of[:-1], strict=True):
        h = torch.addmm(bias, x, kernel)
        h.register_hook(deltas.append)
        x = activation.apply(h)
        before.append(h)
        after.append(x)
    logits = torch.addmm(net.biases_of[-1], x, net.kernels_of[-1])
    logits.register_hook(deltas.append)
    loss = functional.cross_entropy(logits, labels)
    gradients = torch.autograd.grad(loss, net.kernels_of + net.biases_of)

    with torch.no_grad():
        split = len(net.kernels_of)
        first, *inner, readout = gradients[:split]
        *outer, readout_bias = gradients[split:]
        hidden, biases = torch.stack(inner), torch.stack(outer)
        h, y, delta = torch.stack(before), torch.stack(after), torch.stack(deltas[:0:-1])
        mean, logits_mean = h.mean((1, 2)), logits.mean()
        kernel_norms = _norms(net.first), _norms(net.hidden, 1), _norms(net.readout)
        for parameter, gradient in (
            (net.first, first),
            (net.hidden, hidden),
            (net.readout, readout),
            (net.biases, biases),
            (net.readout_bias, readout_bias),
        ):
            parameter.add_(gradient, alpha=-rate)
        pieces = [
            *(_norms(delta, 1), _norms(deltas[0])),
            *(_norms(first), _norms(hidden, 1), _norms(readout)),
            *(_norms(biases, 1), _norms(readout_bias)),
            *(torch.count_nonzero(first).view(1), hidden.ne_(0).sum((1, 2)), torch.count_nonzero(readout).view(1)),
            *kernel_norms,
            *(mean, logits_mean.view(1)),
            *(_norms(h - mean[:, None, None], 1), _norms(logits - logits_mean)),
            *(y.mean((1, 2)), logits_mean.view(1)),
            *(_norms(y, 1), _norms(logits)),
        ]
        dead, steep = activation.slopes(h, y)
        nothing, everything = torch.zeros(1), torch.full((1,), logits.numel())
        return torch.cat([*pieces, dead, nothing, steep, everything])


MODULES = {
    "logistic": (torch.nn.Sigmoid, lambda h, y: y * (1 - y), 0.25),
    "tanh": (torch.nn.Tanh, lambda h, y: 1 - y * y, 1.0),
    "relu": (torch.nn.ReLU, lambda h, y: (h > 0).float(), 1.0),
    "leaky_relu": (torch.nn.LeakyReLU, lambda h, y: torch.where(h > 0, 1.0, 0.01), 1.0),
    "elu": (torch.nn.ELU, lambda h, y: torch.where(h > 0, 1.0, y + 1), 1.0),
}
"""Module, slope and steepest slope."""
warnings.filterwarnings("ignore", "Full backward hook is firing")


def _module_steps(settings: Settings, data: Data, compiled: bool) -> tuple[torch.nn.Module, Callable[[int], Tensor]]:
    """As hooks are written everywhere: modules in a row, hooks on each, an operation for each figure of each layer."""
    net, kernels = make_net(settings), []
    module, slope_of, steepest = MODULES[settings.activation]
    linears: list[torch.nn.Linear] = []
    layers: list[torch.nn.Module] = []
    for kernel in net.kernels_of:
        linear = torch.nn.Linear(*kernel.shape)
        with torch.no_grad():
            linear.weight.copy_(kernel.T)
            linear.bias.zero_()
        linears.append(linear)
        kernels.append(linear.weight)
        layers += [linear, module()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.learning_rate)
    forward: dict[int, list[Tensor]] = {}
    backward: dict[int, Tensor] = {}

    def on_linear(i: int) -> Callable[..., None]:
        def hook(_: Any, inputs: Any, h: Tensor) -> None:
            forward[i] = [h.detach().mean(), h.detach().std()]

        return hook

    def on_activation(i: int) -> Callable[..., None]:
        def hook(_: Any, inputs: tuple[Tensor], y: Tensor) -> None:
            h, y = inputs[0].detach(), y.detach()
            slope = slope_of(h, y)
            dead = (slope == 0).all(0).float().mean()
            saturated = (slope < SATURATED * steepest).float().mean()
            forward[i] += [y.mean(), y.square().mean().sqrt(), dead, saturated]

        return hook

    def on_delta(i: int) -> Callable[..., None]:
        def hook(_: Any, inputs: Any, outputs: tuple[Tensor]) -> None:
            backward[i] = (outputs[0].norm() * math.sqrt(settings.batch)).log10()

        return hook

    for i, linear in enumerate(linears):
        linear.register_forward_hook(on_linear(i))
        linear.register_full_backward_hook(on_delta(i))
        if i < settings.depth:
            model[2 * i + 1].register_forward_hook(on_activation(i))
    device = data.images.device
    order = torch.Generator(device).manual_seed(settings.seed)
    nothing = torch.zeros((), device=device)
    run = torch.compile(model) if compiled else model

    def steps(count: int) -> Tensor:
        table = []
        for index in torch.randint(len(data.labels), (count, settings.batch), generator=order, device=device):
            x = data.images[index].to(torch.float32).div_(255)
            optimizer.zero_grad()
            functional.cross_entropy(run(x), data.labels[index]).backward()
            before = [kernel.detach().clone() for kernel in kernels]
            optimizer.step()
            rows = []
            with torch.no_grad():
                for i, linear in enumerate(linears):
                    gradient, norm = linear.weight.grad, before[i].norm()
                    figures = [backward[i], gradient.norm().log10(), linear.bias.grad.norm().log10()]
                    figures += [(gradient == 0).float().mean(), norm, (linear.weight - before[i]).norm() / norm]
                    rows.append(torch.stack([*figures, *forward[i], *[nothing] * (6 - len(forward[i]))]))
            table.append(torch.stack(rows, 1))
        return torch.stack(table)

    return model, steps


def _norms(x: Tensor, kept: int = 0) -> Tensor:
    """The 2-norm of `x`, [1], or along its first axis."""
    return torch.linalg.vector_norm(x.flatten(kept) if kept else x.view(1, -1), dim=1)


def finish(table: Tensor, settings: Settings) -> Tensor:
    """Returns `STATISTICS` [T, 12, L + 1] of the raw numbers [T, 11 (L + 1)]."""
    s = settings
    kernel = torch.tensor([s.features * s.width, *[s.width**2] * (s.depth - 1), s.width * s.classes])
    units = torch.tensor([*[s.width] * s.depth, s.classes])
    root = (s.batch * units).sqrt()
    delta, kernels, biases, nonzero, weight, mean, spread, act_mean, act, dead, steep = table.view(
        len(table), 11, s.depth + 1
    ).unbind(1)
    rows = (
        (delta * math.sqrt(s.batch)).log10(),
        kernels.log10(),
        biases.log10(),
        1 - nonzero / kernel,
        weight,
        s.learning_rate * kernels / weight,
        mean,
        spread / root,
        act_mean,
        act / root,
        dead / units,
        1 - steep / (s.batch * units),
    )
    return torch.stack(rows, 1)


def prepare(threads: int) -> None:
    """Sets torch's threads, and makes glibc keep freed memory.

    Otherwise it may go back to the system at every step and be faulted in again: at 20 x 128 `hooks` then took 8 to
    13 ms a step in place of 7.6.
    """
    torch.set_num_threads(threads)
    if sys.platform == "linux":
        trim_threshold, mmap_threshold = -1, -3
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 25)
        libc.mallopt(trim_threshold, 1 << 30)


def train(settings: Settings, *, measure: Measure, threads: int) -> float:
    """Returns the seconds that one step takes: the median over blocks of 20, the first left out."""
    prepare(threads)
    steps = make_steps(settings, make_data(settings.features, settings.classes), measure)
    times = []
    for _ in range(settings.steps // BLOCK):
        began = time.perf_counter()
        steps(BLOCK)
        times.append((time.perf_counter() - began) / BLOCK)
    return median(times[1:])


def main() -> None:
    """Prints milliseconds per step."""
    sizes = Settings(), Settings(depth=10, width=64, batch=64, steps=1000)
    print(f"torch {torch.__version__}, cpu\n")
    print("| net | threads | measure | ms per step | against none |\n|---|---|---|---|---|")
    for size, threads in product(sizes, (1, 2)):
        plain = math.nan
        for measure in ("none", "norms", "hooks", "modules"):
            seconds = train(size, measure=measure, threads=threads)
            plain = seconds if measure == "none" else plain
            net = f"{size.depth} x {size.width}, batch {size.batch}"
            print(f"| {net} | {threads} | {measure} | {1e3 * seconds:.3f} | {seconds / plain:.3f} |", flush=True)


if __name__ == "__main__":
    main()
