"""Cost models: which operations are charged, and by which constants.

Each model turns `Counts` into rows (layer, part, operation, count, price). The constants come from a
profile; nothing here is a number of some technology.

    ops        additions and multiplications only (Horowitz 2014 is the usual source of constants)
    lemaire    operations, addressing and every memory access (Lemaire et al. 2022)
    yan        operations, weight fetches and potential movement (Yan et al. 2024)
    loihi      synaptic operations, active and inactive neurons, hops (Davies et al. 2018)
    sanafe     soma access, update, spike; messages per target core; hops (SANA-FE, 2025)
    processor  so much per operation, dense or event-driven (KerasSpiking's convention)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..chips import Chip
from ..errors import ParameterError, nearest
from . import delay
from .counts import Counts, NeuronCounts, SynapseCounts
from .delay import Row
from .profile import Profile

Constants = Mapping[str, float]
Settings = Mapping[str, Any]
PRECISIONS = ("fp32", "fp16", "int32", "int8")
SYNAPSE_PRICES = ("dense", "sparse", "conv")


@dataclass(frozen=True)
class Model:
    """A cost model.

    constants  constant → unit; a name ending in * stands for a family (barrier_1, barrier_2, …)
    optional   those of `constants` that a profile may leave out
    settings   setting → default; choices: setting → what it may be
    rows       ``(counts, constants, settings, chip) -> [Row]``
    dense      one pass of a dense network of equal size in b bits, ``(counts, constants, settings, b)``
    latency    ``(counts, constants, settings, chip) -> ns [B]``, or None where it can't tell
    chip       True where messages and hops are priced, so that a mapping is needed
    """

    constants: dict[str, str]
    rows: Callable[[Counts, Constants, Settings, Chip | None], list[Row]]
    dense: Callable[[Counts, Constants, Settings, int], list[Row]] | None = None
    latency: Callable[[Counts, Constants, Settings, Chip | None], np.ndarray | None] | None = None
    optional: frozenset[str] = frozenset()
    settings: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    chip: bool = False

    def needs(self, profile: Profile) -> list[str]:
        """Constants that a profile of this model must have."""
        names = [n for n in self.constants if n not in self.optional and not n.endswith("*")]
        if profile.settings.get("static"):
            names.append("static_chip")
        if self.chip:
            names.append("barrier_1")
        return names

    def unit(self, constant: str) -> str | None:
        """Unit that a constant must be in, or None if the model knows no such constant."""
        if constant in self.constants:
            return self.constants[constant]
        stem, _, number = constant.rpartition("_")
        return self.constants.get(f"{stem}_*") if number.isdigit() else None

    def wrong_settings(self, settings: Settings) -> list[str]:
        """What is wrong with these settings, one text each."""

        wrong = []
        for name, value in settings.items():
            if name not in self.settings:
                wrong.append(f"unknown setting {name!r}{nearest(name, self.settings)}")
            elif name in self.choices and value not in self.choices[name]:
                wrong.append(
                    f"setting {name} = {value!r} is none of {', '.join(map(str, self.choices[name]))}"
                )
            elif name not in self.choices and (not isinstance(value, int) or value < 1):
                wrong.append(f"setting {name} = {value!r} must be a whole number ≥ 1")
        return wrong


def _layers(counts: Counts) -> list[tuple[NeuronCounts, list[SynapseCounts]]]:
    return [(n, [s for s in counts.synapses if s.target == n.name]) for n in counts.neurons if not n.is_input]


def _zeros(counts: Counts) -> np.ndarray:
    return np.zeros(len(counts))


def scaled(add: float, mul: float, from_bits: int, bits: int) -> tuple[float, float]:
    """Integer add and multiply at `bits`, from those at `from_bits`: linear and square in the width.

    From Horowitz's int8 (0.03, 0.2 pJ) this gives 0.12 and 3.2 pJ at 32 bits, where he has 0.1 and 3.1.
    """
    return add * bits / from_bits, mul * (bits / from_bits) ** 2


# ops ---------------------------------------------------------------------------------------------


def _ops_rows(counts: Counts, k: Constants, settings: Settings, chip: Chip | None) -> list[Row]:
    add, mul = k[f"add_{settings['precision']}"], k[f"mul_{settings['precision']}"]
    out = []
    for n, into in _layers(counts):
        for s in into:
            total, mac = (s.synops, s.synops_mac)
            if settings["synops"] == "effective":
                total = s.synops_effective
                mac = np.minimum(mac, total)
            out.append(Row(n.name, s.name, "AC", total - mac, add))
            if mac.any():
                out.append(Row(n.name, s.name, "MAC", mac, mul + add))
        if n.biased:
            out.append(Row(n.name, n.name, "bias AC", n.steps * n.biased, add, False))
        if settings["leak_macs"]:
            out.append(Row(n.name, n.name, "leak MAC", n.updates * n.leak_macs, mul + add, False))
        if settings["resets"]:
            out.append(Row(n.name, n.name, "reset AC", n.spikes, add))
    return out


def _ops_dense(counts: Counts, k: Constants, settings: Settings, bits: int) -> list[Row]:
    if bits >= 32:
        mac = k[f"add_{settings['precision']}"] + k[f"mul_{settings['precision']}"]
    else:
        mac = sum(scaled(k["add_int8"], k["mul_int8"], 8, bits))
    one = np.ones(len(counts))
    return [
        Row(n.name, s.name, "MAC", one * s.synapses, mac, False) for n, into in _layers(counts) for s in into
    ]


# lemaire -----------------------------------------------------------------------------------------


def access_pj(bits: float, k: Constants, settings: Settings) -> float:
    """Price of one access to a memory of so many bits, by the curve that the settings choose.

    piecewise   linear through (0, sram_0), (8 KiB, sram_8k), (32 KiB, sram_32k), (1 MiB, sram_1m), then
                flat
    regression  regression_base + regression_bit · bits
    bank8k      8 KiB banks with a 64-bit port, words packed
    """
    curve = settings["memory_curve"]
    if curve == "regression":
        return k["regression_base"] + k["regression_bit"] * bits
    if curve == "bank8k":
        return k["bank_access"] / max(64 // int(settings["word_bits"]), 1)
    points = [k["sram_0"], k["sram_8k"], k["sram_32k"], k["sram_1m"]]
    return float(np.interp(bits / 8, [0, 8192, 32768, 1048576], points))


def _lemaire_rows(counts: Counts, k: Constants, settings: Settings, chip: Chip | None) -> list[Row]:
    word = int(settings["word_bits"])
    add, mac, address_mac = k["add"], k["mul"] + k["add"], k["mul"] + k["add"]
    if word < 32:
        add, mul = scaled(k["add"], k["mul"], 32, word)
        mac = add + mul

    def access(bits: float) -> float:
        return access_pj(bits, k, settings)

    fifo = access(int(settings["fifo_words"]) * word)
    out = []
    for n, into in _layers(counts):
        potential = access(n.size * n.states * word)
        for s in into:
            weights = access((s.weights + n.biases) * word)
            out.append(Row(n.name, s.name, "AC", s.kernel - s.kernel_mac, add))
            if s.kernel_mac.any():
                out.append(Row(n.name, s.name, "MAC", s.kernel_mac, mac))
            out.append(Row(n.name, s.name, "address AC", s.addressed, k["add"]))
            if s.address_fan_out:
                out.append(Row(n.name, s.name, "address MAC", 2 * s.spikes, address_mac))
            out.append(Row(n.name, s.name, "read input", s.spikes, fifo))
            out.append(Row(n.name, s.name, "read weight", s.addressed, weights))
            out += delay.rows(str(settings["delay"]), n, s, access, word, int(settings["delay_bits"]))
        if n.biased:
            held = sum(s.weights for s in into)
            out.append(Row(n.name, n.name, "bias AC", n.updates, add, False))
            out.append(Row(n.name, n.name, "read bias", n.updates, access((held + n.biases) * word), False))
        if n.leak_macs:
            out.append(Row(n.name, n.name, "leak MAC", n.updates * n.leak_macs, mac, False))
        out += [
            Row(n.name, n.name, "reset AC", n.spikes, add),
            Row(n.name, n.name, "read potential (step)", n.updates * n.states, potential, False),
            Row(n.name, n.name, "write potential (step)", n.updates * n.states, potential, False),
            Row(n.name, n.name, "write output", n.spikes, fifo),
        ]
    return out


def _lemaire_dense(counts: Counts, k: Constants, settings: Settings, bits: int) -> list[Row]:
    add, mul = scaled(k["add"], k["mul"], 32, min(bits, 32))
    own = {**settings, "word_bits": bits}

    def access(size: int) -> float:
        price = access_pj(size * bits, k, own)
        return price if settings["memory_curve"] == "bank8k" else price * bits / 32

    one = np.ones(len(counts))
    out = []
    for n, into in _layers(counts):
        held = sum(s.weights for s in into) + n.biases
        for s in into:
            reads = s.synapses if s.address_fan_out else s.inputs
            addressed = s.inputs + s.outputs + s.address_fan_out
            out += [
                Row(n.name, s.name, "MAC", one * s.synapses, add + mul, False),
                Row(n.name, s.name, "address AC", one * addressed, k["add"], False),
                Row(n.name, s.name, "read input", one * reads, access(s.inputs), False),
                Row(n.name, s.name, "read weight", one * s.synapses, access(s.weights + n.biases), False),
            ]
        if n.biased:
            out.append(Row(n.name, n.name, "bias AC", one * n.size, add, False))
            out.append(Row(n.name, n.name, "read bias", one * n.size, access(held), False))
        out.append(Row(n.name, n.name, "write output", one * n.size, access(n.size), False))
    return out


# yan ---------------------------------------------------------------------------------------------


def _yan_rows(counts: Counts, k: Constants, settings: Settings, chip: Chip | None) -> list[Row]:
    b_w, b_v = int(settings["weight_bits"]), int(settings["state_bits"])
    out = []
    for n, into in _layers(counts):
        for s in into:
            out.append(Row(n.name, s.name, "AC", s.synops, k["acc"]))
            out.append(Row(n.name, s.name, "read weight", s.synops, b_w * k["weight_access"]))
        moved = 2 * n.updates * n.states
        out += [
            Row(n.name, n.name, "compare", n.updates, k["cmp"], False),
            Row(n.name, n.name, "reset", n.spikes, k["sub"]),
            Row(n.name, n.name, "move potential", moved, b_v * k["move"], False),
        ]
    return out


def _yan_dense(counts: Counts, k: Constants, settings: Settings, bits: int) -> list[Row]:
    one = np.ones(len(counts))
    out = []
    for n, into in _layers(counts):
        for s in into:
            # a b-bit multiplication as b additions: the arithmetic is small beside the weight fetch
            out.append(Row(n.name, s.name, "MAC", one * s.synapses, bits * k["acc"], False))
            out.append(Row(n.name, s.name, "read weight", one * s.synapses, bits * k["weight_access"], False))
        out.append(Row(n.name, n.name, "move activation", one * n.size, bits * k["move"], False))
    return out


# loihi and sanafe --------------------------------------------------------------------------------


def _known(n: NeuronCounts) -> np.ndarray:
    if n.active is None:
        raise ParameterError(
            f"which neurons of {n.name!r} were active is not known, and this profile prices active and idle "
            "neurons apart; count with the recorded states, as `measure` does."
        )
    return n.active


def _traffic(n: NeuronCounts, chip: Chip | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Messages, hops along x, hops along y, each ``[B]``."""
    if n.routes is None or n.messages is None or chip is None:
        raise ParameterError(
            f"messages and hops of {n.name!r} were asked for, but the counts were taken without a mapping; "
            "pass mapping= to `measure` or `count`, or use `estimate`, which places the network itself."
        )
    x, y = np.zeros(n.messages.shape[1]), np.zeros(n.messages.shape[1])
    for (a, b), messages in zip(n.routes, n.messages, strict=True):
        if max(a, b) >= chip.cores:
            raise ParameterError(
                f"the mapping uses core {max(a, b)}, the profile's chip has cores 0 to {chip.cores - 1}."
            )
        (x0, y0), (x1, y1) = chip.tile(max(int(a), 0)), chip.tile(int(b))
        x += messages * abs(x0 - x1)
        y += messages * abs(y0 - y1)
    return n.messages.sum(0), x, y


def _static(counts: Counts, k: Constants, settings: Settings, latency: np.ndarray | None) -> list[Row]:
    if not settings["static"] or latency is None:
        return []
    return [Row("(chip)", "(chip)", "static power", latency, k["static_chip"], False)]  # mW · ns = pJ


def _loihi_rows(counts: Counts, k: Constants, settings: Settings, chip: Chip | None) -> list[Row]:
    out = []
    for n in counts.neurons:
        into = [s for s in counts.synapses if s.target == n.name]
        out += [Row(n.name, s.name, "SynOp", s.synops, k["synop"]) for s in into]
        if not n.is_input:
            active = _known(n)
            out.append(Row(n.name, n.name, "active neuron", active, k["neuron_active"], False))
            out.append(Row(n.name, n.name, "idle neuron", n.updates - active, k["neuron_inactive"], False))
        messages, x, y = _traffic(n, chip)
        out.append(Row(n.name, n.name, "spike in tile", messages, k["spike_in_tile"]))
        out.append(Row(n.name, n.name, "hop E-W", x, k["hop_ew"]))
        out.append(Row(n.name, n.name, "hop N-S", y, k["hop_ns"]))
    return out + _static(counts, k, settings, _loihi_latency(counts, k, settings, chip))


def _sanafe_rows(counts: Counts, k: Constants, settings: Settings, chip: Chip | None) -> list[Row]:
    out = []
    for n in counts.neurons:
        for s in counts.synapses:
            if s.target == n.name:
                out.append(Row(n.name, s.name, "SynOp", s.synops, k[f"synop_{_format(s.kind, settings)}"]))
        if not n.is_input:
            out += [
                Row(n.name, n.name, "soma access", n.updates, k["soma_access"], False),
                Row(n.name, n.name, "soma update", _known(n), k["soma_update"], False),
                Row(n.name, n.name, "soma spike", n.spikes, k["soma_spike"]),
            ]
        messages, x, y = _traffic(n, chip)
        out += [
            Row(n.name, n.name, "message", messages, k["message_out"] + k["message_in"]),
            Row(n.name, n.name, "hop E-W", x, k["hop_ew"]),
            Row(n.name, n.name, "hop N-S", y, k["hop_ns"]),
        ]
    return out + _static(counts, k, settings, _sanafe_latency(counts, k, settings, chip))


def _format(kind: str, settings: Settings) -> str:
    """Which of the chip's synapse formats a projection is stored in."""
    if settings["synapse"] != "by_kind":
        return str(settings["synapse"])
    return "sparse" if kind == "one_to_one" else kind


def _barrier(cores: np.ndarray, k: Constants, settings: Settings, chip: Chip) -> float:
    """Time of the chip-wide synchronisation at the end of a step, ns."""
    tiles = len(np.unique(cores // chip.cores_per_tile))
    table = sorted(
        (int(name.split("_")[1]), value) for name, value in k.items() if name.startswith("barrier_")
    )
    if settings["barrier"] == "linear":
        return float(np.interp(tiles, [t for t, _ in table], [v for _, v in table]))
    return [v for t, v in table if t <= tiles][-1]


def _step_latency(
    counts: Counts,
    settings: Settings,
    chip: Chip | None,
    barrier: Callable[[np.ndarray, Chip], float],
    stages: Callable[[int], tuple[Any, ...]],
) -> np.ndarray | None:
    """Σ over steps of the busiest core's slowest stage, plus the barrier: ns, ``[B]``."""
    if counts.cores is None or chip is None:
        return None
    wait = barrier(counts.cores.cores, chip)
    total = np.zeros(len(counts))
    for b, T in enumerate(counts.steps):
        busiest = np.zeros(int(T))
        for stage in stages(b):
            if np.ndim(stage):
                busiest = np.maximum(busiest, np.max(stage, axis=1, initial=0.0))
        total[b] = busiest.sum() + wait * int(T)
    return total


def _loihi_latency(counts: Counts, k: Constants, settings: Settings, chip: Chip | None) -> np.ndarray | None:
    cores = counts.cores

    def stages(b: int) -> tuple[Any, ...]:
        assert cores is not None
        active = cores.steps("active", b)
        soma = active * k["t_active"] + (cores.neurons - active) * k["t_inactive"]
        synops = sum(cores.steps(kind, b) for kind in cores.work if kind.startswith("synops/"))
        return soma + cores.steps("sent", b) * k["t_message"], synops * k["t_synop"]

    return _step_latency(counts, settings, chip, lambda c, m: _barrier(c, k, settings, m), stages)


def _sanafe_latency(counts: Counts, k: Constants, settings: Settings, chip: Chip | None) -> np.ndarray | None:
    cores = counts.cores

    def stages(b: int) -> tuple[Any, ...]:
        assert cores is not None
        soma = (
            cores.neurons * k["t_access"]
            + cores.steps("active", b) * k["t_update"]
            + cores.steps("spikes", b) * k["t_spike"]
            + cores.steps("sent", b) * k["t_message_out"]
        )
        received = cores.steps("received", b) * k["t_message_in"] + sum(
            cores.steps(kind, b) * k[f"t_synop_{_format(kind.split('/')[1], settings)}"]
            for kind in cores.work
            if kind.startswith("synops/")
        )
        return soma, received

    return _step_latency(counts, settings, chip, lambda c, m: _barrier(c, k, settings, m), stages)


# processor ---------------------------------------------------------------------------------------


def _processor_rows(counts: Counts, k: Constants, settings: Settings, chip: Chip | None) -> list[Row]:
    event = settings["execution"] == "event"
    out = []
    for n, into in _layers(counts):
        for s in into:
            count = s.synops if event else s.synops_dense
            out.append(Row(n.name, s.name, "SynOp" if event else "dense MAC", count, k["operation"], event))
        out.append(Row(n.name, n.name, "neuron update", n.updates, k["neuron"], False))
    return out


def _processor_dense(counts: Counts, k: Constants, settings: Settings, bits: int) -> list[Row]:
    one = np.ones(len(counts))
    return [
        Row(n.name, s.name, "dense MAC", one * s.synapses, k["operation"], False)
        for n, into in _layers(counts)
        for s in into
    ]


def _processor_latency(
    counts: Counts, k: Constants, settings: Settings, chip: Chip | None
) -> np.ndarray | None:
    if "t_operation" not in k:
        return None
    event = settings["execution"] == "event"
    work = sum((s.synops if event else s.synops_dense for s in counts.synapses), _zeros(counts))
    updates = sum((n.updates for n in counts.neurons), _zeros(counts))
    t_neuron = k.get("t_neuron", k["t_operation"])
    return work * k["t_operation"] + updates * t_neuron + counts.steps * k.get("t_step", 0.0)


_FLAG = (True, False)
MODELS: dict[str, Model] = {
    "ops": Model(
        {f"{op}_{p}": "pJ" for p in PRECISIONS for op in ("add", "mul")},
        _ops_rows,
        _ops_dense,
        settings={"precision": "fp32", "synops": "stored", "leak_macs": False, "resets": False},
        choices={
            "precision": PRECISIONS,
            "synops": ("stored", "effective"),
            "leak_macs": _FLAG,
            "resets": _FLAG,
        },
    ),
    "lemaire": Model(
        {
            **dict.fromkeys(("add", "mul", "sram_0", "sram_8k", "sram_32k", "sram_1m"), "pJ"),
            "regression_base": "pJ",
            "regression_bit": "pJ/bit",
            "bank_access": "pJ",
        },
        _lemaire_rows,
        _lemaire_dense,
        settings={
            "memory_curve": "piecewise",
            "word_bits": 32,
            "fifo_words": 1000,
            "delay": "ring",
            "delay_bits": 32,
        },
        choices={"memory_curve": ("piecewise", "regression", "bank8k"), "delay": delay.KINDS},
    ),
    "yan": Model(
        {"acc": "pJ", "cmp": "pJ", "sub": "pJ", "weight_access": "pJ/bit", "move": "pJ/bit"},
        _yan_rows,
        _yan_dense,
        settings={"weight_bits": 8, "state_bits": 8},
    ),
    "loihi": Model(
        {
            **dict.fromkeys(
                ("synop", "neuron_active", "neuron_inactive", "spike_in_tile", "hop_ew", "hop_ns"), "pJ"
            ),
            **dict.fromkeys(("t_synop", "t_active", "t_inactive", "t_message", "barrier_*"), "ns"),
            "static_chip": "mW",
        },
        _loihi_rows,
        latency=_loihi_latency,
        optional=frozenset({"static_chip"}),
        settings={"barrier": "linear", "static": False},
        choices={"barrier": ("linear", "steps"), "static": _FLAG},
        chip=True,
    ),
    "sanafe": Model(
        {
            **{f"synop_{f}": "pJ" for f in SYNAPSE_PRICES},
            **dict.fromkeys(("soma_access", "soma_update", "soma_spike", "message_out", "message_in"), "pJ"),
            **dict.fromkeys(("hop_ew", "hop_ns"), "pJ"),
            **{f"t_synop_{f}": "ns" for f in SYNAPSE_PRICES},
            **dict.fromkeys(("t_access", "t_update", "t_spike", "t_message_out", "t_message_in"), "ns"),
            "barrier_*": "ns",
            "static_chip": "mW",
        },
        _sanafe_rows,
        latency=_sanafe_latency,
        optional=frozenset({"static_chip"}),
        settings={"barrier": "steps", "synapse": "by_kind", "static": False},
        choices={
            "barrier": ("linear", "steps"),
            "synapse": ("by_kind", *SYNAPSE_PRICES),
            "static": _FLAG,
        },
        chip=True,
    ),
    "processor": Model(
        {"operation": "pJ", "neuron": "pJ", "t_operation": "ns", "t_neuron": "ns", "t_step": "ns"},
        _processor_rows,
        _processor_dense,
        latency=_processor_latency,
        optional=frozenset({"t_operation", "t_neuron", "t_step"}),
        settings={"execution": "dense"},
        choices={"execution": ("dense", "event")},
    ),
}
