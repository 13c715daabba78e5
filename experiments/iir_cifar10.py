"""IIR-SNN on 20,000 CIFAR-10 images: VGG-9, half of the channels, T = 5 → 3 → 2 → 1, and T = 1 directly.

    SNNKIT_DATA=… python experiments/iir_cifar10.py [--out DIR] [--seeds 0]

The images of ``cifar10/cifar10_subset.h5`` went through JPEG and are two fifths of the training set, so the
figures can't be compared with published ones of CIFAR-10. Every network is the one that validation chose; the
10,000 test images are looked at once, at the end. Goes on where it was stopped. Writes
experiments/results/iir_cifar10.json.
"""

from iir_digits import run

if __name__ == "__main__":
    run("iir_cifar10", skips=False)
