"""Spiking neural networks with learned delays, from training to a neuromorphic chip."""

__version__ = "0.1.0"
