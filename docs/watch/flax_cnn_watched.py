"""The convolutional net of Flax NNX's MNIST tutorial, on handwritten digits."""

from functools import partial

import optax
from flax import nnx
from real_data import batches, digits

from vgx import watch


class CNN(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(1, 32, kernel_size=(3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, kernel_size=(3, 3), rngs=rngs)
        self.avg_pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
        self.linear1 = nnx.Linear(256, 256, rngs=rngs)
        self.linear2 = nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x):
        x = self.avg_pool(nnx.relu(self.conv1(x)))
        x = self.avg_pool(nnx.relu(self.conv2(x)))
        x = x.reshape(x.shape[0], -1)
        x = nnx.relu(self.linear1(x))
        return self.linear2(x)


def loss_fn(model, batch):
    logits = model(batch["image"])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits=logits, labels=batch["label"]).mean()
    return loss, logits


@nnx.jit
def train_step(model, optimizer, batch):
    (loss, logits), grads, record = watch.value_and_grad(loss_fn, has_aux=True)(model, batch)
    optimizer.update(model, grads)
    accuracy = (logits.argmax(-1) == batch["label"]).mean()
    return {"record": record, "loss": loss, "train_accuracy": accuracy}


def train(model, write, steps=200):
    optimizer = nnx.Optimizer(model, optax.adamw(0.005, 0.9), wrt=nnx.Param)
    images, labels = digits()
    for step, index in enumerate(batches(len(labels), 32, steps)):
        batch = {"image": images[index, :, :, None], "label": labels[index]}
        write(step, **train_step(model, optimizer, batch))
    return model


def show(step, loss, train_accuracy):
    if step % 20 == 0:
        print(f"{step:4} {loss:.3f} {train_accuracy:.0%}")


if __name__ == "__main__":
    with watch.Log("runs/flax-cnn") as log:
        train(watch.instrument(CNN(rngs=nnx.Rngs(0)), activation={"linear2": None, "*": "relu"}), log.write)
