"""The convolutional net of Equinox's MNIST example, for one image at a time under jax.vmap, on handwritten digits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from real_data import batches, digits

from vgx import watch


class CNN(eqx.Module):
    layers: list

    def __init__(self, key):
        key1, key2, key3, key4 = jax.random.split(key, 4)
        self.layers = [
            eqx.nn.Conv2d(1, 3, kernel_size=4, key=key1),
            eqx.nn.MaxPool2d(kernel_size=2),
            jax.nn.relu,
            jnp.ravel,
            eqx.nn.Linear(48, 512, key=key2),
            jax.nn.sigmoid,
            eqx.nn.Linear(512, 64, key=key3),
            jax.nn.relu,
            eqx.nn.Linear(64, 10, key=key4),
            jax.nn.log_softmax,
        ]

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def loss_fn(model, x, y):
    predicted = jax.vmap(model)(x)
    return -jnp.mean(jnp.take_along_axis(predicted, y[:, None], axis=1))


optimizer = optax.adamw(3e-4)


@eqx.filter_jit
def make_step(model, state, x, y):
    loss, grads, record = watch.value_and_grad(loss_fn)(model, x, y)
    updates, state = optimizer.update(grads, state, eqx.filter(model, eqx.is_array))
    model = eqx.apply_updates(model, updates)
    return model, state, {"record": record, "loss": loss}


def train(model, write, steps=200):
    state = optimizer.init(eqx.filter(model, eqx.is_array))
    images, labels = digits()
    for step, index in enumerate(batches(len(labels), 64, steps)):
        model, state, report = make_step(model, state, images[index, None], labels[index])
        write(step, **report)
    return model


def show(step, loss):
    if step % 20 == 0:
        print(f"{step:4} {loss:.3f}")


if __name__ == "__main__":
    with watch.Log("runs/equinox-cnn") as log:
        train(watch.instrument(CNN(jax.random.key(0))), log.write)
