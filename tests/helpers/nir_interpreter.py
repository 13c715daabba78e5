"""NIR's nodes computed one by one as its paper writes them (Euler), in NumPy; an oracle for the reader."""

import numpy as np
import torch
from torch.nn import functional as F


def interpret(graph, x, dt, order):
    """Node → what it gives in each step, [T, …]; x: input node → [T, …].

    order  all nodes; one reads the last step of those that come later in it (and of itself)
    """
    place = {key: n for n, key in enumerate(order)}
    given = {key: [] for key in order}
    state = {}
    for t in range(len(next(iter(x.values())))):
        for key in order:
            node = graph.nodes[key]
            if key in x:
                given[key].append(np.asarray(x[key][t], float))
                continue
            total = 0.0
            for a, b in graph.edges:
                if b == key:
                    now = t if place[a] < place[key] else t - 1
                    total = total + (given[a][now] if now >= 0 else 0.0)
            given[key].append(NODES[type(node).__name__](node, total, state, key, t, dt))
    return {key: np.array(np.broadcast_arrays(*rows)) for key, rows in given.items()}


def _fires(key, state, h, node):
    s = (h >= node.v_threshold).astype(float)
    state[key] = np.where(s, node.v_reset, h)
    return s


def _lif(node, x, state, key, t, dt):
    v = state.get(key, np.zeros(node.tau.shape))
    return _fires(key, state, v + dt / node.tau * (node.v_leak - v + node.r * x), node)


def _if(node, x, state, key, t, dt):
    return _fires(key, state, state.get(key, np.zeros(node.r.shape)) + dt * node.r * x, node)


def _cuba(node, x, state, key, t, dt):
    i, v = state.get(key, (np.zeros(node.tau_mem.shape),) * 2)
    i = i + dt / node.tau_syn * (node.w_in * x - i)
    h = v + dt / node.tau_mem * (node.v_leak - v + node.r * i)
    s = (h >= node.v_threshold).astype(float)
    state[key] = (i, np.where(s, node.v_reset, h))
    return s


def _li(node, x, state, key, t, dt):
    v = state.get(key, np.zeros(node.tau.shape))
    state[key] = v + dt / node.tau * (node.v_leak - v + node.r * x)
    return state[key]


def _delay(node, x, state, key, t, dt):
    rows = state.setdefault(key, [])
    rows.append(np.broadcast_to(x, node.delay.shape).astype(float))
    steps = np.round(node.delay / dt).astype(int)
    late = [np.where(steps == d, rows[t - d], 0.0) for d in np.unique(steps) if d <= t]
    return np.sum(late, axis=0) if late else np.zeros(node.delay.shape)


def _pool(node, x, average):
    size = [int(n) for n in np.broadcast_to(node.kernel_size, 2)]
    stride, padding = ([int(n) for n in np.broadcast_to(a, 2)] for a in (node.stride, node.padding))
    y = F.avg_pool2d(torch.tensor(x)[None], size, stride, padding)[0].numpy()
    return y if average else y * np.prod(size)


def _conv(node, x, *_):
    geometry = [[int(n) for n in np.broadcast_to(a, 2)] for a in (node.stride, node.padding, node.dilation)]
    weight, bias = torch.tensor(np.asarray(node.weight, float)), torch.tensor(np.asarray(node.bias, float))
    return F.conv2d(torch.tensor(x)[None], weight, bias, *geometry, node.groups)[0].numpy()


def _through(node, x, *_):
    return x


NODES = {
    "LIF": _lif,
    "IF": _if,
    "CubaLIF": _cuba,
    "LI": _li,
    "Delay": _delay,
    "Linear": lambda node, x, *_: node.weight @ np.broadcast_to(x, node.weight.shape[1]),
    "Affine": lambda node, x, *_: node.weight @ np.broadcast_to(x, node.weight.shape[1]) + node.bias,
    "Scale": lambda node, x, *_: node.scale * x,
    "Flatten": lambda node, x, *_: np.reshape(x, -1),
    "Conv2d": _conv,
    "SumPool2d": lambda node, x, *_: _pool(node, x, average=False),
    "AvgPool2d": lambda node, x, *_: _pool(node, x, average=True),
    "Output": _through,
}
