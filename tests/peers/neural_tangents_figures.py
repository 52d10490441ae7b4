"""What neural-tangents says of the nets in test_peers.py, as JSON; run by the Python of .venv-peers, not by pytest.

Standard input holds a list of settings (activation, weight_variance, bias_variance, epsilon or null without layer norm,
depth, q, c); standard output gets, for each, by layer: length, correlation, backward factor, that of two inputs, and
their tangent kernel.
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
    found = {"q": [], "c": [], "factor": [], "pair_factor": [], "tangent": []}
    for _ in range(depth):
        found["q"].append(float(kernel.nngp[0, 0]))
        found["c"].append(float(kernel.nngp[0, 1] / kernel.nngp[0, 0]))
        found["tangent"].append(float(kernel.ntk[0, 1]))
        above = dense(ACTIVATIONS[activation][2](norm(kernel)))
        growth = (above.ntk - above.nngp) / kernel.ntk  # of what all layers below add to the tangent kernel
        found["factor"].append(float(growth[0, 0]))
        found["pair_factor"].append(float(growth[0, 1]))
        kernel = above
    return found


json.dump([figures(**setting) for setting in json.load(sys.stdin)], sys.stdout)
