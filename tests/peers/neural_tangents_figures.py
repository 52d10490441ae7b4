"""What neural-tangents says of the nets in test_peers.py, as JSON; run by the Python of .venv-peers, not by pytest.

Standard input holds `settings` (activation, weight_variance, bias_variance, epsilon or null without layer norm, depth,
q, c) and `nets` (activation, weight_variance, bias_variance, inputs, depth). Standard output gets, for each setting, by
layer: length, correlation, backward factor and that of two inputs; for each net the kernels of its inputs.
"""

import json
import sys

import jax
import jax.numpy as jnp
from neural_tangents import stax

jax.config.update("jax_enable_x64", True)

NODES = 200
"""Of the Gauss-Hermite rule, where neural-tangents knows no closed form."""
ACTIVATIONS = {
    "relu": stax.Relu(),
    "leaky_relu": stax.LeakyRelu(0.2),
    "erf": stax.Erf(),
    "gelu": stax.Gelu(),
    "sin": stax.Sin(),
    "abs": stax.Abs(),
    "cos": stax.Cos(),
    "tanh": stax.ElementwiseNumerical(jnp.tanh, NODES),
    "logistic": stax.ElementwiseNumerical(jax.nn.sigmoid, NODES),
}


def figures(activation, weight_variance, bias_variance, epsilon, depth, q, c):
    dense = stax.Dense(1, W_std=weight_variance**0.5, b_std=bias_variance**0.5)[2]
    norm = stax.LayerNorm(eps=epsilon)[2] if epsilon is not None else lambda kernel: kernel
    square = (q - bias_variance) / weight_variance
    cosine = (c * q - bias_variance) / weight_variance / square
    x = (2 * square) ** 0.5 * jnp.array([[1.0, 0.0], [cosine, (1 - cosine**2) ** 0.5]])
    kernel = dense(x, None)
    found = {"q": [], "c": [], "factor": [], "pair_factor": []}
    for _ in range(depth):
        found["q"].append(float(kernel.nngp[0, 0]))
        found["c"].append(float(kernel.nngp[0, 1] / kernel.nngp[0, 0]))
        above = dense(ACTIVATIONS[activation][2](norm(kernel)))
        growth = (above.ntk - above.nngp) / kernel.ntk  # of what all layers below add to the tangent kernel
        found["factor"].append(float(growth[0, 0]))
        found["pair_factor"].append(float(growth[0, 1]))
        kernel = above
    return found


def kernels(inputs, depth, activation, weight_variance, bias_variance):
    dense = stax.Dense(1, W_std=weight_variance**0.5, b_std=bias_variance**0.5)
    hidden = [dense, ACTIVATIONS[activation]] * depth
    found = stax.serial(*hidden, dense)[2](jnp.array(inputs), None)
    return [found.nngp.tolist(), found.ntk.tolist()]


asked = json.load(sys.stdin)
answer = {
    "settings": [figures(**setting) for setting in asked["settings"]],
    "nets": [kernels(**net) for net in asked["nets"]],
}
json.dump(answer, sys.stdout)
