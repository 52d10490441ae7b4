"""A transformer of twelve layers, made by nnx.vmap and applied by nnx.scan, that learns to continue text."""

import jax.numpy as jnp
import optax
from flax import nnx
from real_data import batches, text

from vgx import watch

LAYERS, WIDTH, HEADS, LENGTH = 12, 64, 4, 64


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm1(x), mask=nnx.make_causal_mask(x[..., 0]))
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class Transformer(nnx.Module):
    def __init__(self, *, remat: bool = False, rngs: nnx.Rngs):
        self.token = nnx.Embed(256, WIDTH, rngs=rngs)
        self.position = nnx.Embed(LENGTH, WIDTH, rngs=rngs)
        self.blocks = nnx.split_rngs(splits=LAYERS)(nnx.vmap(Block))(rngs)
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.readout = nnx.Linear(WIDTH, 256, rngs=rngs)
        self.remat = remat

    def __call__(self, tokens):
        x = self.token(tokens) + self.position(jnp.arange(tokens.shape[-1]))
        apply = nnx.remat(lambda x, block: block(x)) if self.remat else lambda x, block: block(x)
        x = nnx.scan(apply, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.blocks)
        return self.readout(self.norm(x))


def loss_fn(model, tokens):
    logits = model(tokens[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()


@nnx.jit
def train_step(model, optimizer, tokens):
    loss, grads, record = watch.value_and_grad(loss_fn)(model, tokens)
    optimizer.update(model, grads)
    return {"record": record, "loss": loss}


def train(model, write, steps=200):
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    letters = text()
    for step, start in enumerate(batches(len(letters) - LENGTH, 8, steps)):
        tokens = letters[start[:, None] + jnp.arange(LENGTH + 1)]
        write(step, **train_step(model, optimizer, tokens))
    return model


def show(step, loss):
    if step % 20 == 0:
        print(f"{step:4} {loss:.3f}")


if __name__ == "__main__":
    with watch.Log("runs/flax-transformer") as log:
        train(watch.instrument(Transformer(rngs=nnx.Rngs(0))), log.write)
