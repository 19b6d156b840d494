"""Expected values of the tests in src/estimate.rs: needs numpy and scipy.

    python crates/ama-report/tests/golden/intervals.py
"""

import itertools

import numpy as np
from scipy.stats import binomtest


def exact(values):
    means = [np.mean(resample) for resample in itertools.product(values, repeat=len(values))]
    return np.quantile(means, [0.025, 0.975], method="inverted_cdf")


def drawn(values, draws=1_000_000):
    means = np.random.default_rng(0).choice(values, (draws, len(values))).mean(axis=1)
    return np.quantile(means, [0.025, 0.975], method="inverted_cdf")


print("three", np.mean([0.71, 0.66, 0.80]), exact([0.71, 0.66, 0.80]))
print("five ", exact([1.0, 2.0, 4.0, 8.0, 16.0]))
print("ten  ", drawn([i * i for i in range(1, 11)]))
for wins in (249, 300):
    print("share", wins, "of 300", binomtest(wins, 300).proportion_ci(method="wilson"))
