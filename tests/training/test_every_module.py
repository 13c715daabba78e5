"""What people do with modules of a network: copy, pickle, change the dtype, compile, run in a worker."""

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch

from snnkit.delays import (
    AxonalDelay,
    DelayedConv1d,
    DelayedConv2d,
    DelayedLinear,
    DendriticDelay,
    RecurrentDelayedLinear,
)
from snnkit.neurons import IF, LI, LIF, AdLIF, CubaLIF, module_of
from snnkit.training.config import Model
from snnkit.training.network import SpikingClassifier

EVERY = {
    "lif": (lambda: LIF(tau_mem=3.0, v_th=0.4, learn_tau=True, size=4), (4,)),
    "if": (lambda: IF(v_th=0.4, refractory=2), (4,)),
    "cuba": (lambda: CubaLIF(2.0, 4.0, v_th=0.4, learn_tau=True), (4,)),
    "adlif": (lambda: AdLIF(5.0, 20.0, v_th=0.1), (4,)),
    "li": (lambda: LI(tau_mem=3.0), (4,)),
    "linear": (lambda: DelayedLinear(4, 3, 5, bias=True, kernel_count=2, learn_sigma=True), (4,)),
    "axonal": (lambda: AxonalDelay(4, 5), (4,)),
    "dendritic": (lambda: DendriticDelay(4, 5), (4,)),
    "convolution": (lambda: DelayedConv1d(2, 3, 3, max_delay=3, bias=True), (2, 5)),
    "images": (lambda: DelayedConv2d(2, 3, 3, max_delay=3), (2, 5, 5)),
    "depthwise": (lambda: DelayedConv2d(2, 2, 3, groups=2, max_delay=3), (2, 5, 5)),
    "recurrent": (lambda: RecurrentDelayedLinear(4, LIF(tau_mem=3.0, v_th=0.3), 4), (4,)),
}


@pytest.fixture(params=EVERY)
def case(request):
    torch.manual_seed(0)
    make, shape = EVERY[request.param]
    return make(), (torch.rand(12, 3, *shape) < 0.4).float()


def result(module, x):
    """Output, gradient of the input and of every parameter."""
    x = x.clone().requires_grad_()
    y = module(x)
    (y * torch.linspace(0, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    found = [y.detach(), x.grad, *(p.grad for p in module.parameters())]
    module.zero_grad()
    return found


def torch_saved(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), torch_saved])
def test_a_copy_computes_the_same_and_is_its_own(case, way):
    module, x = case
    want = result(module, x)
    other = way(module)
    assert all(map(torch.equal, result(other, x), want))
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
    assert all(map(torch.equal, result(module, x), want))


def test_a_state_dict_crosses_dtypes(case):
    module, x = case
    want = result(module, x)
    wide = copy.deepcopy(module).double()
    fresh = copy.deepcopy(module)
    with torch.no_grad():
        for p in fresh.parameters():
            p.zero_()
    fresh.load_state_dict(wide.state_dict())
    assert all(map(torch.equal, result(fresh, x), want))
    wide.load_state_dict(module.state_dict())
    assert wide(x.double()).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_in_is_half_precision_out(case, dtype):
    module, x = case
    module = module.to(dtype)
    for m in (module, module.eval()):
        y, *gradients = result(m, x.to(dtype))
        assert y.dtype == dtype
        assert all(g.dtype == dtype and g.isfinite().all() for g in gradients if g is not None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_classifier_runs_in_half_precision(dtype):
    network = SpikingClassifier(Model(hidden=(8,), max_delay=4), 6, 2, 10.0).to(dtype)
    for m in (network, network.eval()):
        assert m(torch.ones(9, 2, 6, dtype=dtype)).scores.isfinite().all()


def test_compiled_is_the_same(case):
    module, x = case
    want = result(module, x)
    torch._dynamo.reset()
    assert all(map(torch.equal, result(torch.compile(module, backend="eager"), x), want))


def test_a_loop_is_named_where_nothing_but_a_whole_graph_will_do():
    module = RecurrentDelayedLinear(4, LIF(tau_mem=3.0), 4)
    torch._dynamo.reset()
    with pytest.raises(Exception, match="run step by step; compile with fullgraph=False"):
        torch.compile(module, backend="eager", fullgraph=True)(torch.ones(3, 2, 4))


def test_a_registered_neuron_pickles():
    module = module_of("lif")(tau_mem=3.0)
    x = torch.rand(7, 2, 3)
    assert torch.equal(pickle.loads(pickle.dumps(module))(x), module(x))


WORKER = """
import torch
from torch.utils.data import DataLoader
from snnkit.delays import AxonalDelay, DelayedConv2d, DelayedLinear
from snnkit.neurons import LIF

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 3
    def __getitem__(self, i):
        torch.manual_seed(0)
        found = []
        every = [DelayedLinear(40, 300, 20), AxonalDelay(40, 5), LIF(tau_mem=3.0),
                 DelayedConv2d(2, 3, 3, max_delay=3)]
        for m, shape in zip(every, [(40,), (40,), (40,), (2, 6, 6)]):
            y = m((torch.rand(60, 16, *shape) < 0.2).float().requires_grad_())
            y.sum().backward()
            found.append(y.detach().double().sum())
        return torch.stack(found)

want = Data()[0]
for found in DataLoader(Data(), batch_size=None, num_workers=2, multiprocessing_context="fork"):
    torch.testing.assert_close(found, want, rtol=1e-4, atol=0)
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_worker_runs_kernels_that_its_parent_ran_before():
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, timeout=300)
    assert done.stdout == "done\n", done.stderr
