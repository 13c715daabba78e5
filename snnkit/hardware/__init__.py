"""From a Graph to a chip: quantise, the integer model, file formats, proof, placement, energy."""
