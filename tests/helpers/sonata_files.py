"""SONATA circuits written with h5py alone, and what NEST makes of them in plain Python."""

import json
from dataclasses import dataclass, field

import h5py
import numpy as np

NEST = {
    "tau_m": 10.0, "C_m": 250.0, "t_ref": 2.0, "E_L": -70.0, "I_e": 0.0, "V_th": -55.0, "V_reset": -70.0,
    "V_m": -70.0, "V_min": -np.inf, "tau_syn_ex": 2.0, "tau_syn_in": 2.0,
}  # fmt: skip
"""Defaults of NEST 3's iaf_psc_delta and iaf_psc_exp."""

DT = 0.1
DELTA = {"model_type": "point_neuron", "model_template": "nest:iaf_psc_delta"}


@dataclass
class Nodes:
    """types: id → (columns, JSON); groups: rows [M] → datasets; a name with '/' lies in a group."""

    types: dict
    type_id: list
    groups: dict = field(default_factory=dict)
    of: list = None


@dataclass
class Edges(Nodes):
    source: tuple = ()
    target: tuple = ()


def table(path, key, types):
    names = [key, *dict.fromkeys(name for columns in types.values() for name in columns)]
    lines = [" ".join(names)]
    for number, columns in types.items():
        values = [str(columns.get(name, "NULL")) for name in names[1:]]
        lines.append(" ".join([str(number), *(f'"{v}"' if " " in v else v for v in values)]))
    path.write_text("\n".join(lines) + "\n")


def rows(file, where, kind, given):
    group = file.create_group(where)
    n = len(given.type_id)
    of = np.zeros(n, int) if given.of is None else np.asarray(given.of)
    index = np.zeros(n, np.uint64)
    rng = np.random.default_rng(n)
    numbers = {*of.tolist(), *given.groups}  # libsonata reads one group only, and passes over its index
    for number in numbers:
        member = np.flatnonzero(of == number)
        index[member] = rng.permutation(len(member)) if len(numbers) > 1 else np.arange(len(member))
        own = group.create_group(str(number))
        for name, values in given.groups.get(number, {}).items():
            values = np.asarray(values)
            placed = np.empty(len(member), values.dtype if values.dtype.kind != "U" else object)
            placed[index[member].astype(int)] = values
            own[name] = placed
    group[f"{kind}_type_id"] = np.array(given.type_id, np.uint32)
    group[f"{kind}_group_id"] = of.astype(np.uint16)
    group[f"{kind}_group_index"] = index
    return group


def write(folder, nodes, edges, run=None):
    """The files of a circuit below `folder`; the path of its configuration."""
    for place in ("network", "models/cells", "models/synapses"):
        (folder / place).mkdir(parents=True)
    networks = {"nodes": [], "edges": []}
    for listed, kind, components in ((nodes, "node", "cells"), (edges, "edge", "synapses")):
        for name, given in listed.items():
            with h5py.File(folder / f"network/{name}_{kind}s.h5", "w") as file:
                group = rows(file, f"{kind}s/{name}", kind, given)
                if kind == "node":
                    group["node_id"] = np.arange(len(given.type_id), dtype=np.uint64)
                for end in ("source", "target") if kind == "edge" else ():
                    population, ids = getattr(given, end)
                    made = group.create_dataset(f"{end}_node_id", data=np.array(ids, np.uint64))
                    made.attrs["node_population"] = population
            types = {}
            for number, (columns, parameters) in given.types.items():
                types[number] = dict(columns)
                if parameters is not None:
                    types[number]["dynamics_params"] = f"{name}_{number}.json"
                    (folder / f"models/{components}/{name}_{number}.json").write_text(json.dumps(parameters))
            table(folder / f"network/{name}_{kind}_types.csv", f"{kind}_type_id", types)
            networks[f"{kind}s"].append(
                {
                    f"{kind}s_file": f"$NETWORK_DIR/{name}_{kind}s.h5",
                    f"{kind}_types_file": f"$NETWORK_DIR/{name}_{kind}_types.csv",
                }
            )
    config = {
        "manifest": {"$NETWORK_DIR": "${BASE_DIR}/network", "$BASE_DIR": ".", "$MODELS": "$BASE_DIR/models"},
        "components": {
            "point_neuron_models_dir": "$MODELS/cells",
            "synaptic_models_dir": "$MODELS/synapses",
        },
        "networks": networks,
        "target_simulator": "NEST",
        **({} if run is None else {"run": run}),
    }
    (folder / "circuit_config.json").write_text(json.dumps(config))
    return folder / "circuit_config.json"


def nest(neurons, synapses, trains, steps, dt):
    """Spikes (step, node) of NEST's update rules; and V_m, [T, N].

    neurons   node → (model, parameters)
    synapses  (node or name of an input, node, weight, ms), …
    trains    name of an input → its times, ms
    """
    arrive = {}  # (step, node) → [sum of weights ≥ 0, sum of those < 0]

    def send(source, step):
        for end, target, weight, delay in synapses:
            if end == source:
                where = arrive.setdefault((step + round(delay / dt), target), [0.0, 0.0])
                where[int(weight < 0)] += weight

    for name, times in trains.items():
        for t in times:
            send(name, round(t / dt) - 1)
    state, spikes, potentials = {}, [], np.zeros((steps, len(neurons)))
    for n, (_, given) in enumerate(neurons):
        p = NEST | given
        state[n] = {"v": p["V_m"] - p["E_L"], "ex": 0.0, "in": 0.0, "r": 0}
    for step in range(steps):
        for n, (model, given) in enumerate(neurons):
            p, s = NEST | given, state[n]
            p22 = np.exp(-dt / p["tau_m"])
            p20 = p["tau_m"] / p["C_m"] * (1 - p22)
            positive, negative = arrive.get((step, n), (0.0, 0.0))
            if model == "iaf_psc_delta":
                if s["r"] == 0:
                    s["v"] = p20 * p["I_e"] + p22 * s["v"] + positive + negative
                    s["v"] = max(s["v"], p["V_min"] - p["E_L"])
                else:
                    s["r"] -= 1
            else:
                reach = {}
                for side in ("ex", "in"):
                    tau, tau_syn = p["tau_m"], p[f"tau_syn_{side}"]
                    integral = (np.exp(-dt / tau) - np.exp(-dt / tau_syn)) * tau * tau_syn / (tau - tau_syn)
                    reach[side] = integral / p["C_m"]
                if s["r"] == 0:
                    s["v"] = s["v"] * p22 + s["ex"] * reach["ex"] + s["in"] * reach["in"] + p["I_e"] * p20
                else:
                    s["r"] -= 1
                s["ex"] = s["ex"] * np.exp(-dt / p["tau_syn_ex"]) + positive
                s["in"] = s["in"] * np.exp(-dt / p["tau_syn_in"]) + negative
            if s["v"] >= p["V_th"] - p["E_L"]:
                s["r"], s["v"] = round(p["t_ref"] / dt), p["V_reset"] - p["E_L"]
                spikes.append((step, n))
                send(n, step)
            potentials[step, n] = s["v"]
    return spikes, potentials
