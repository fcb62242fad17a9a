"""A training run of a small MLP in NumPy alone, from the formulas of the papers: forward, backward, masks, optimizers.

It shares no code with the project: what both compute is computed twice. All numbers are float64.
"""

import hashlib
from dataclasses import dataclass, field

import numpy as np


def stream(seed, name):
    """The 31-bit seed of a named stream."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big") >> 1


# === Masks: a hash of the position, in unsigned 32-bit arithmetic ===

GOLDEN, FIRST, SECOND = 0x9E3779B9, 2146121005, (-2073254261) & 0xFFFFFFFF


def mixed(h, key):
    h = np.uint64(h) & np.uint64(0xFFFFFFFF)
    h = (((h ^ (h >> np.uint64(16))) * np.uint64(FIRST)) + np.uint64(key)) & np.uint64(0xFFFFFFFF)
    return ((h ^ (h >> np.uint64(15))) * np.uint64(SECOND)) & np.uint64(0xFFFFFFFF)


def kept(seed, count, shape, rate):
    """Which units draw number `count` of a layer's generator keeps."""
    wrap = 0xFFFFFFFF
    first = int(mixed((count * GOLDEN + seed) & wrap, 0))
    second = int(mixed((seed * GOLDEN + first) & wrap, count))
    places = np.arange(np.prod(shape), dtype=np.uint64) * np.uint64(GOLDEN) + np.uint64(first)
    signed = mixed(places & np.uint64(wrap), second).astype(np.uint32).view(np.int32).astype(np.int64)
    return (signed >= round(rate * 2**32) - 2**31).reshape(shape)


# === Learning rates ===


def learning_rate(schedule, peak, warmup, step, steps, start=None):
    """The rate of step `step` of `steps`: a linear rise from `start`, then constant, linear or cosine to 0."""
    warm = round(warmup * steps)
    if step < warm:
        first = 1 / warm if start is None else start
        return peak * (first + (1 - first) * step / warm)
    share = (step - warm) / (steps - warm)
    return peak * {"constant": 1.0, "linear": 1 - share, "cosine": (1 + np.cos(np.pi * share)) / 2}[schedule]


# === Optimizers: one parameter each, `state` is a dictionary of its own ===


def sgd(w, g, rate, state, momentum):
    """Momentum of Sutskever et al. 2013, equation 1."""
    state["v"] = momentum * state.get("v", 0.0) - rate * g
    return w + state["v"]


def adam(w, g, rate, state, momentum):
    """Kingma & Ba 2015, the form at the end of section 2."""
    t = state["t"] = state.get("t", 0) + 1
    state["m"] = 0.9 * state.get("m", 0.0) + 0.1 * g
    state["v"] = 0.999 * state.get("v", 0.0) + 0.001 * g**2
    return w - rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * state["m"] / (np.sqrt(state["v"]) + 1e-7)


def nadam(w, g, rate, state, momentum):
    """Dozat 2016, algorithm 2, with the momentum schedule of its section 3."""
    t = state["t"] = state.get("t", 0) + 1
    now, after = 0.9 * (1 - 0.5 * 0.96**t), 0.9 * (1 - 0.5 * 0.96 ** (t + 1))
    product = state["product"] = state.get("product", 1.0) * now
    state["m"] = 0.9 * state.get("m", 0.0) + 0.1 * g
    state["v"] = 0.999 * state.get("v", 0.0) + 0.001 * g**2
    m = after * state["m"] / (1 - product * after) + (1 - now) * g / (1 - product)
    return w - rate * m / (np.sqrt(state["v"] / (1 - 0.999**t)) + 1e-7)


def rmsprop(w, g, rate, state, momentum):
    """Tieleman & Hinton 2012, lecture 6.5, with momentum on the scaled steps."""
    state["v"] = 0.9 * state.get("v", 0.0) + 0.1 * g**2
    state["m"] = momentum * state.get("m", 0.0) + rate * g / np.sqrt(state["v"] + 1e-7)
    return w - state["m"]


def lion(w, g, rate, state, momentum):
    """Chen et al. 2023, algorithm 2."""
    m = state.get("m", 0.0)
    state["m"] = 0.99 * m + 0.01 * g
    return w - rate * np.sign(0.9 * m + 0.1 * g)


OPTIMIZERS = {"sgd": sgd, "adam": adam, "nadam": nadam, "rmsprop": rmsprop, "lion": lion}


# === The run ===


@dataclass
class Run:
    """An MLP on pixels 0 to 255 in training; `weights` are kernel and bias of every layer, in order."""

    weights: list
    seed: int
    total: int
    rate: float = 0.0
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    schedule: str = "cosine"
    warmup: float = 0.05
    weight_decay: float = 0.0
    max_norm: float | None = None
    label_smoothing: float = 0.0
    batch_size: int = 32
    steps: int = 0
    states: list = field(default_factory=list)

    def __post_init__(self):
        self.weights = [np.array(w, np.float64) for w in self.weights]
        self.states = [{} for _ in self.weights]

    def forward(self, x, masked):
        """The activations before each layer, the factors of each mask, and the logits."""
        h, inputs, factors = x.reshape(len(x), -1) / 255.0, [], []
        for i in range(0, len(self.weights) - 2, 2):
            inputs.append(h)
            h = np.maximum(h @ self.weights[i] + self.weights[i + 1], 0)
            factor = np.ones_like(h)
            if masked and self.rate:
                layer = stream(self.seed, f"drop_hidden_{i // 2 + 1}")
                factor = kept(layer, self.steps, h.shape, self.rate) / (1 - self.rate)
            factors.append(factor)
            h = h * factor
        inputs.append(h)
        return inputs, factors, h @ self.weights[-2] + self.weights[-1]

    def step(self, x, y):
        """One step; the sum of the losses and the number of errors before it."""
        inputs, factors, logits = self.forward(x, masked=True)
        classes = logits.shape[1]
        target = np.eye(classes)[y] * (1 - self.label_smoothing) + self.label_smoothing / classes
        shifted = logits - logits.max(1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        upstream, gradients = (np.exp(log_p) - target) / len(x), [None] * len(self.weights)
        for i in reversed(range(0, len(self.weights), 2)):
            gradients[i], gradients[i + 1] = inputs[i // 2].T @ upstream, upstream.sum(0)
            if i:
                upstream = (upstream @ self.weights[i].T) * factors[i // 2 - 1] * (inputs[i // 2] > 0)
        self.update(gradients)
        return -(target * log_p).sum(), int((logits.argmax(1) != y).sum())

    def update(self, gradients):
        """Decoupled decay of kernels (Loshchilov & Hutter 2019), the optimizer, and max-norm of hidden kernels."""
        rate = learning_rate(self.schedule, self.learning_rate, self.warmup, self.steps, self.total)
        for i, (w, g) in enumerate(zip(self.weights, gradients, strict=True)):
            decayed = w * (1 - rate * self.weight_decay) if w.ndim == 2 else w
            w = OPTIMIZERS[self.optimizer](decayed, g, rate, self.states[i], self.momentum)
            if self.max_norm and w.ndim == 2 and i < len(self.weights) - 2:
                w = w * np.minimum(1, self.max_norm / np.maximum(np.sqrt((w**2).sum(0)), 1e-12))
            self.weights[i] = w
        self.steps += 1

    def epoch(self, number, x, y):
        """One epoch in the order of its number, from 1; the mean loss and the error in per cent."""
        order = np.random.default_rng(stream(self.seed, f"order/{number}")).permutation(len(x))
        batches = [order[i : i + self.batch_size] for i in range(0, len(x), self.batch_size)]
        losses, wrong = zip(*(self.step(x[b], y[b]) for b in batches), strict=True)
        return sum(losses) / len(x), 100 * sum(wrong) / len(x)

    def evaluate(self, x, y):
        """Loss and error, in per cent, without masks."""
        logits = self.forward(x, masked=False)[2]
        log_p = logits - logits.max(1, keepdims=True)
        log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
        return -log_p[np.arange(len(y)), y].mean(), 100 * (logits.argmax(1) != y).mean()
