"""A net without a library: a dictionary of arrays, whose hidden layers jax.lax.scan applies."""

import jax
import jax.numpy as jnp
from real_data import batches, digits

DEPTH, WIDTH, RATE = 10, 64, 0.1


def init(key):
    first, hidden, last = jax.random.split(key, 3)
    return {
        "first": dense(first, (64, WIDTH)),
        "hidden": dense(hidden, (DEPTH, WIDTH, WIDTH)),
        "last": dense(last, (WIDTH, 10)),
    }


def dense(key, shape):
    w = jax.random.normal(key, shape) * (2 / shape[-2]) ** 0.5
    return {"w": w, "b": jnp.zeros((*shape[:-2], shape[-1]))}


def linear(layer, x):
    return x @ layer["w"] + layer["b"]


def loss_fn(params, x, y):
    x = jax.nn.relu(linear(params["first"], x))
    x, _ = jax.lax.scan(lambda x, layer: (jax.nn.relu(linear(layer, x)), None), x, params["hidden"])
    log_p = jax.nn.log_softmax(linear(params["last"], x))
    return -jnp.mean(jnp.take_along_axis(log_p, y[:, None], axis=1))


@jax.jit
def step_of(params, x, y):
    loss, grads = jax.value_and_grad(loss_fn)(params, x, y)
    params = jax.tree.map(lambda p, g: p - RATE * g, params, grads)
    return params, {"loss": loss}


def train(params, write, steps=200):
    images, labels = digits()
    for step, index in enumerate(batches(len(labels), 64, steps)):
        params, report = step_of(params, images[index].reshape(-1, 64), labels[index])
        write(step, **report)
    return params


def show(step, loss):
    if step % 20 == 0:
        print(f"{step:4} {loss:.3f}")


if __name__ == "__main__":
    train(init(jax.random.key(0)), show)
