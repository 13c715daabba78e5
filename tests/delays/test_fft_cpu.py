"""The fast transforms against the matrices that they stand for."""

import pytest
import torch

from snnkit.delays import fft_cpu, fourier

SHAPES = [(1, 1, 1), (2, 1, 2), (3, 1, 3), (7, 1, 7), (4, 2, 5), (24, 8, 20), (112, 25, 124), (100, 26, 112)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("columns", [1, 32, 50])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"length{fourier.Geometry(*s).length}")
def test_transforms_are_the_products_with_the_matrices(shape, columns, dtype):
    geometry = fourier.Geometry(*shape)
    a, b, c = fourier.matrices(geometry, torch.float64)
    g = torch.Generator().manual_seed(0)

    def numbers(rows):
        return torch.randn(rows, columns, generator=g, dtype=torch.float64).to(dtype)

    def close(found, want):
        error = (found.double() - want).abs().max() / want.abs().max()
        assert error < (1e-6 if dtype == torch.float32 else 1e-14)

    steps, window, steps_out = shape
    for rows, matrix, adjoint in ((steps, a, False), (window, b, False), (steps_out, c, True)):
        x = numbers(rows)
        close(fourier.analyse(x, geometry, adjoint=adjoint), matrix @ x.double())
        m, out = numbers(geometry.points), torch.empty(rows, columns, dtype=dtype)
        fourier.synthesise(m, geometry, out, adjoint=not adjoint)
        close(out, matrix.T @ m.double())


def test_lengths_have_no_prime_factor_above_seven():
    assert [fft_cpu.good_length(n) for n in (0, 1, 11, 13, 121, 136, 137, 211)] == [
        1, 1, 12, 14, 125, 140, 140, 216,
    ]  # fmt: skip


def test_columns_in_two_blocks_are_written_in_one_order():
    """272 columns are nine blocks, of which the last overlaps the one before it; tasks are of eight."""
    geometry = fourier.Geometry(54, 13, 54)
    g = torch.Generator().manual_seed(0)
    x, m = torch.randn(54, 272, generator=g), torch.randn(geometry.points, 272, generator=g)

    def both():
        out = torch.empty_like(x)
        fourier.synthesise(m, geometry, out)
        return fourier.analyse(x, geometry), out

    first = both()
    for _ in range(300):
        assert all(map(torch.equal, first, both()))
