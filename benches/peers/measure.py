"""Clocks, resident memory, and the one log that every training peer returns."""

import time

MIB = 2**20


def rss_mib(field="VmRSS"):
    """Resident memory of this process now (`VmRSS`) or at its peak (`VmHWM`)."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def peak_rss_mib():
    return rss_mib("VmHWM")


def reset_peak():
    """The peak begins anew from the memory that is resident now."""
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")


def seconds(work, repeat, warm_up=3):
    """Wall-clock seconds of `repeat` calls, after `warm_up` untimed calls that touch fresh memory."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


class StepLog:
    """Seconds, tokens and loss of every step, warm-up included: the reader drops it."""

    def __init__(self):
        self.step_s, self.tokens, self.losses = [], [], []

    def timed(self, step, tokens):
        """Runs `step`, which returns its loss as a tensor."""
        start = time.perf_counter()
        loss = step()
        self.step_s.append(time.perf_counter() - start)
        self.tokens.append(tokens)
        self.losses.append(float(loss))

    def done(self):
        return dict(step_s=self.step_s, tokens=self.tokens, losses=self.losses, peak_rss_mib=peak_rss_mib())
