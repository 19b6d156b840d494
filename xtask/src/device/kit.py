#!/usr/bin/env python3
"""Runs ama's device kit on a machine with an NVIDIA GPU, and leaves results.json and kit.log.

    python3 kit.py                        everything, in at most 8 minutes; results beside this file
    python3 kit.py --out DIR              results there
    python3 kit.py --only machine,kernels these parts only (--list shows all); what others found before stays

The folder that this file lies in is made by `cargo xtask device bundle`; `cargo xtask device report results.json` turns
the results into a page. Python 3.9 or newer with its standard library is enough, and no network is used; the comparison
with PyTorch needs torch and, for the training steps, transformers.

A part is a process of its own with a time limit of its own. What it has found is written at once, so a part that hangs,
crashes or fails costs its own time only. A later part is added as a function `part_NAME(kit)` and a line in PARTS.
"""

import argparse
import ctypes
import glob
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import random
import re
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from array import array
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Name, longest time in seconds, what is done. In the order of their worth. All together end after TOTAL_S, so a machine on
# which every part takes its whole time loses the last ones.
PARTS = [
    ("machine", 40, "device, driver, libraries, clocks"),
    ("cuda_logits", 60, "device tests: log-probabilities from logits"),
    ("cuda_sums", 60, "device tests: sums over sequences, preference losses"),
    ("cuda_linear", 60, "device tests: matrix products, log-probability head"),
    ("memcheck", 60, "compute-sanitizer memcheck over small cases"),
    ("racecheck", 60, "compute-sanitizer racecheck over small cases"),
    ("kernels", 90, "ceilings of the machine, every kernel against them"),
    ("peers", 90, "the same work in PyTorch"),
    ("training", 120, "8 DPO steps with the head on the device, against PyTorch and the processor"),
    ("packages", 20, "the Python packages that came along can be imported"),
]
TOTAL_S = 470

DEVICE_TESTS = ("cuda_logits", "cuda_sums", "cuda_linear")
# Tests that run every kernel on small shapes: those that run it twice for the same bits.
SMALL_TESTS = "same_bits"


class Failed(Exception):
    """A part that found something wrong, with the reason in one line."""


class Skipped(Exception):
    """A part that cannot be tried here, with the reason in one line."""


# ---- the shared libraries ----

LIBRARIES = {
    "driver": ("libcuda.so.1",),
    "nvrtc": ("libnvrtc.so.13", "libnvrtc.so.12"),
    "cublaslt": ("libcublasLt.so.13", "libcublasLt.so.12"),
}


def library_folders():
    """Where CUDA's libraries may lie, in the order in which they are preferred."""
    folders = [f for f in os.environ.get("LD_LIBRARY_PATH", "").split(":") if f]
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            folders += [os.path.join(os.environ[variable], "lib64")]
    folders += ["/usr/local/cuda/lib64", *sorted(glob.glob("/usr/local/cuda-*/lib64"), reverse=True)]
    # Wheels: nvidia/cuda_nvrtc/lib (CUDA 12) and nvidia/cu13/lib (CUDA 13).
    for site in sys.path:
        folders += sorted(glob.glob(os.path.join(site, "nvidia", "*", "lib")), reverse=True)
    folders += ["/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", "/usr/lib/wsl/lib"]
    folders += ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib"]
    try:
        said = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, timeout=10).stdout
        folders += [os.path.dirname(path) for path in re.findall(r"=> (\S*lib(?:cuda|nvrtc|cublasLt)\.so\S*)", said)]
    except (OSError, subprocess.SubprocessError):
        pass
    return [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)]


def find_libraries():
    """All places of each library, and the one taken: the first, but of no later CUDA than the driver's."""
    folders = library_folders()
    found = {}
    for what, names in LIBRARIES.items():
        places = [os.path.join(f, n) for f in folders for n in names if os.path.exists(os.path.join(f, n))]
        found[what] = {"found": places, "taken": places[0] if places else None}
    major = (driver_version(found["driver"]["taken"]) or 99000) // 1000
    for what in ("nvrtc", "cublaslt"):
        fits = [path for path in found[what]["found"] if int(path.rsplit(".", 1)[1]) <= major]
        if fits:
            found[what]["taken"] = fits[0]
    return found


def driver_version(path):
    """What the driver supports, as CUDA counts (13000 is 13.0), or None. Asked in a process of its own: it may crash."""
    program = "import ctypes,sys; v=ctypes.c_int(0); d=ctypes.CDLL(sys.argv[1]); d.cuDriverGetVersion(ctypes.byref(v)); print(v.value)"
    try:
        said = subprocess.run([sys.executable, "-c", program, path or "libcuda.so.1"], capture_output=True, text=True, timeout=10)
        return int(said.stdout.split()[-1])
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None


def link_libraries(found, folder):
    """A folder in which our programs find what was taken, whatever its version is called."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {"driver": ("libcuda.so", "libcuda.so.1"), "nvrtc": ("libnvrtc.so",), "cublaslt": ("libcublasLt.so",)}
    path = [str(folder)]
    for what, links in names.items():
        taken = found[what]["taken"]
        if taken is None:
            continue
        for name in links:
            link = folder / name
            if link.is_symlink():
                link.unlink()
            link.symlink_to(os.path.abspath(taken))
        path.append(os.path.dirname(os.path.abspath(taken)))
    path += [f for f in os.environ.get("LD_LIBRARY_PATH", "").split(":") if f]
    return ":".join(dict.fromkeys(path))


# ---- what a part works with ----


class Kit:
    """The bundle's folder, the options, and where a part leaves what it finds."""

    def __init__(self, name, options, work):
        self.name, self.rehearsal, self.work = name, options.rehearse, work
        # For our programs alone: PyTorch brings libraries of its own.
        self.environment = {**os.environ, "LD_LIBRARY_PATH": options.libraries}
        self.found = {}
        # Of the program that ended last.
        self.status = None

    def save(self, **found):
        """Adds to what the part has found and writes it at once."""
        self.found.update(found)
        write_json(self.work / f"{self.name}.json", {"status": "unfinished", "found": self.found})

    def program(self, name):
        """A program of the bundle: the copy in the work folder, where it can be executed."""
        path = self.work / "bin" / name
        if not path.is_file():
            raise Failed(f"bin/{name} is not in the bundle")
        return str(path)

    def run(self, command, environment=None):
        """Runs a program to its end, its output in the log as it comes; returns exit status and output."""
        said = []
        try:
            for line in self.lines(command, environment):
                said.append(line)
        except Failed:
            pass  # the caller looks at the status
        return self.status, "".join(said)

    def lines(self, command, environment=None):
        """Runs a program and yields its lines as they come; fails if it ends with another status than 0."""
        log(f"$ {' '.join(map(str, command))}")
        last = ""
        process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", env=environment or self.environment
        )
        for line in process.stdout:
            log(line.rstrip())
            last = line.strip() or last
            yield line
        self.status = process.wait()
        if self.status != 0:
            raise Failed(f"{Path(command[0]).name} {ended(self.status)}: {last}")


class Clocks:
    """Clocks and power while something is measured; what they are on an idle device says nothing."""

    FIELDS = "clocks.sm,clocks.mem,power.draw"

    def __init__(self, kit):
        self.kit, self.path, self.process = kit, kit.work / f"{kit.name}-clocks", None

    def __enter__(self):
        command = ["nvidia-smi", *nvidia_smi_device(), f"--query-gpu={self.FIELDS}", "--format=csv,noheader,nounits", "-lms", "250"]
        try:
            self.process = subprocess.Popen(command, stdout=open(self.path, "w"), stderr=subprocess.DEVNULL)
        except OSError:
            pass

    def __exit__(self, *_):
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        rows = [line.split(",") for line in self.path.read_text().splitlines() if line.count(",") == 2]
        try:
            columns = [statistics.median(float(row[i]) for row in rows) for i in range(3)]
            self.kit.save(clocks=dict(zip(self.FIELDS.split(","), columns)))
        except (ValueError, statistics.StatisticsError):
            pass


def nvidia_smi_device():
    """The option that names to nvidia-smi the device which CUDA calls 0."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    return ["-i", first or "0"]


def log(text):
    print(text, flush=True)


def ended(status):
    """How a process ended, in words."""
    if status is not None and status < 0:
        try:
            return f"was ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"was ended by signal {-status}"
    return f"ended with status {status}"


def read_json(path):
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return None


def write_json(path, value):
    """Under another name, synced, renamed: whoever reads it sees all of one state."""
    unfinished = f"{path}.new"
    with open(unfinished, "w") as file:
        json.dump(finite(value), file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def finite(value):
    """The same with NaN and infinities as text: JSON has no such numbers."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def output_of(*command):
    """What a program prints, or None if there is no such program."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() if said.returncode == 0 else None


# ---- part: machine ----


def part_machine(kit):
    found = find_libraries()
    kit.save(
        libraries=found,
        system={
            "platform": platform.platform(), "libc": " ".join(platform.libc_ver()), "python": platform.python_version(),
            "cores": os.cpu_count(), "memory_gib": memory_gib(), "processor": processor(),
        },
        nvcc=output_of("nvcc", "--version") or output_of("/usr/local/cuda/bin/nvcc", "--version"),
    )
    fields = "name,driver_version,memory.total,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit,temperature.gpu,pstate"
    said = output_of("nvidia-smi", *nvidia_smi_device(), f"--query-gpu={fields}", "--format=csv,noheader")
    if said:
        kit.save(nvidia_smi=dict(zip(fields.split(","), (value.strip() for value in said.splitlines()[0].split(",")))))
    # In the log only: whatever else somebody may want to know later.
    kit.run(["nvidia-smi", "-q"]) if said else log("no nvidia-smi")
    if found["driver"]["taken"] is None:
        raise Failed("no CUDA driver (libcuda.so.1) in any folder that was looked at")
    kit.save(device=ask_driver(found["driver"]["taken"]))
    for package in ("torch", "transformers"):
        try:
            kit.save(**{package: importlib.metadata.version(package)})
        except importlib.metadata.PackageNotFoundError:
            pass
    missing = [what for what in LIBRARIES if found[what]["taken"] is None]
    if missing:
        raise Failed(f"not found: {', '.join(missing)}; set LD_LIBRARY_PATH to its folder")


def ask_driver(path):
    """The first device, as the driver describes it."""
    driver = ctypes.CDLL(path)
    number, name, memory = ctypes.c_int(0), ctypes.create_string_buffer(256), ctypes.c_size_t(0)

    def call(function, *arguments):
        status = getattr(driver, function)(*arguments)
        if status != 0:
            raise Failed(f"{function} answered {status}")

    call("cuInit", 0)
    call("cuDriverGetVersion", ctypes.byref(number))
    version = number.value
    call("cuDeviceGetCount", ctypes.byref(number))
    if number.value < 1:
        raise Failed("the driver knows of no device")
    count = number.value
    call("cuDeviceGetName", name, 256, 0)
    call("cuDeviceTotalMem_v2", ctypes.byref(memory), 0)

    def attribute(index):
        call("cuDeviceGetAttribute", ctypes.byref(number), index, 0)
        return number.value

    return {
        "name": name.value.decode(errors="replace"), "count": count, "memory_bytes": memory.value,
        "driver_cuda": f"{version // 1000}.{version % 1000 // 10}",
        "compute_capability": f"{attribute(75)}.{attribute(76)}", "multiprocessors": attribute(16),
    }


def memory_gib():
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (OSError, ValueError):
        return None


def processor():
    try:
        return next(l.split(":", 1)[1].strip() for l in Path("/proc/cpuinfo").read_text().splitlines() if l.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


# ---- parts: device tests ----


def device_tests(kit):
    """Every test of one binary; those that are too large for an interpreter only on a device."""
    program, ignored = kit.program(kit.name), [] if kit.rehearsal else ["--include-ignored"]
    _, listed = kit.run([program, "--list", *ignored])
    tests, lines, problem = {}, [], None
    try:
        for line in kit.lines([program, "--test-threads=1", *ignored]):
            lines.append(line.rstrip())
            for name, result in re.findall(r"^test (\S+)(?: - .*)? \.\.\. (?:.* )?(ok|FAILED|ignored)", line):
                tests[name] = result
                kit.save(tests=tests)
    except Failed as failed:
        problem = failed
    reasons = {name: reason_of(name, lines) for name, result in tests.items() if result == "FAILED"}
    kit.save(tests=tests, reasons=reasons, passed=sum(r == "ok" for r in tests.values()))
    # A fault of the device takes every later test of its process along: which of them fail on their own?
    unseen = [name for name in re.findall(r"^(\S+): test$", listed, re.M) if name not in tests]
    for name in [*reasons, *unseen]:
        status, said = kit.run([program, name, "--exact", "--test-threads=1", *ignored])
        alone = "passes alone" if status == 0 and "1 passed" in said else reason_of(name, said.splitlines())
        reasons[name] = f"{reasons.get(name, 'not reached')}; in a process of its own: {alone}"
        tests.setdefault(name, "FAILED")
        kit.save(tests=tests, reasons=reasons)
    if reasons:
        raise Failed(f"{len(reasons)} of {len(tests)} tests failed: " + "; ".join(f"{n}: {r}" for n, r in reasons.items()))
    if problem:
        raise problem
    if not kit.found["passed"]:
        raise Failed("no test ran")
    if not any(SMALL_TESTS in name for name in tests):
        raise Failed(f"no test is called *{SMALL_TESTS}*: nothing was run twice")


def reason_of(test, lines):
    """The message of a test's panic, from libtest's list of failures."""
    heading = f"---- {test} stdout ----"
    report = lines[lines.index(heading) :] if heading in lines else []
    for index, line in enumerate(report):
        if "panicked at" in line:
            message = []
            for text in report[index + 1 : index + 5]:
                if not text.strip() or text.startswith(("note:", "stack backtrace")):
                    break
                message.append(text.strip())
            return ", ".join(message)[:400]
    return "no message"


def part_memcheck(kit):
    sanitize(kit, "memcheck", r"ERROR SUMMARY: (\d+) error")


def part_racecheck(kit):
    # The vendor's own kernels are not ours to mend, and have reports of theirs.
    sanitize(kit, "racecheck", r"RACECHECK SUMMARY: (\d+) hazard", ["--kernel-name-exclude", "regex=cublas|cutlass|gemm|gemv|xmma|nvjet|splitK"])


def sanitize(kit, tool, summary, options=()):
    """Small cases of every kernel under a tool of compute-sanitizer."""
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not os.path.exists(program):
        raise Skipped("no compute-sanitizer on this machine")
    counts, bad = {}, []
    for name in DEVICE_TESTS:
        # Errors of the driver API are none of a kernel: we ask for things that old drivers do not have.
        head = [program, "--tool", tool, "--report-api-errors", "no", "--error-exitcode", "9"]
        tail = [kit.program(name), SMALL_TESTS, "--test-threads=1"]
        status, said = kit.run([*head, *options, *tail])
        if "Device not supported" in said:
            raise Skipped("compute-sanitizer: Device not supported")
        if options and not re.search(summary, said):
            # A version that calls the option otherwise.
            status, said = kit.run([*head, *tail])
        reports = [int(n) for n in re.findall(summary, said)]
        ran = re.search(r"test result: \w+\. (\d+) passed", said)
        counts[name] = {"reports": sum(reports), "tests": int(ran.group(1)) if ran else 0, "status": status}
        kit.save(binaries=counts)
        if status != 0 or not reports or sum(reports) > 0 or not counts[name]["tests"]:
            first = next((l.strip("= ") for l in said.splitlines() if re.search(r"Invalid|hazard|Error:|error:", l)), "")
            bad.append(f"{name}: {sum(reports)} reports, {ended(status)}{': ' + first if first else ''}")
    if bad:
        raise Failed("; ".join(bad))


# ---- parts: speed ----


# Sizes of what PyTorch does; those of `gpu` are in benches/src/device/cases.rs, and are the same.
COPY, GEMM, SUMS, PAIRS = 1 << 28, 8192, (256, 1024), 4096
LOGITS = ((4096, 32 << 10), (4096, 128 << 10))
HEADS = ((8192, 2048, 128256), (2048, 576, 49152))


def part_kernels(kit):
    rows = []
    command = [kit.program("gpu")] + (["--small", "--budget-ms", "1"] if kit.rehearsal else [])
    with Clocks(kit):
        for line in kit.lines(command):
            if line.startswith("{"):
                rows.append(json.loads(line))
                kit.save(rows=rows)
    if not rows:
        raise Failed("nothing was measured")


def part_peers(kit):
    """PyTorch on the same operands as `gpu`, under the same names: its own way, nothing of ours."""
    if kit.rehearsal:
        raise Skipped("rehearsal: PyTorch is compared on a device only")
    torch = cuda_torch()
    with Clocks(kit):
        measure_peers(kit, torch, "cuda")


def measure_peers(kit, torch, device):
    import torch.nn.functional as F

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.manual_seed(0)
    rows = []
    kit.save(torch=f"{torch.__version__}, CUDA {torch.version.cuda}", rows=rows)
    # Before every measurement: clears the cache, and keeps the device busy while the host enqueues.
    filler = torch.empty(1 << 30, dtype=torch.uint8, device=device)

    def measure(name, dtype, shape, work, gradients=0, **count):
        """`gradients`: bytes of results that `gpu` has allocated beforehand."""
        row = {"name": name, "dtype": dtype, "shape": "x".join(map(str, shape)), **count}
        try:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            held, begun, warm = torch.cuda.memory_allocated(), time.monotonic(), 0
            while warm < 2 or time.monotonic() - begun < 0.05:
                work()
                torch.cuda.synchronize()
                warm += 1
            extra, times, begun = torch.cuda.max_memory_allocated() - held - gradients, [], time.monotonic()
            while len(times) < 3 or (len(times) < 50 and time.monotonic() - begun < 0.5):
                start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                filler.zero_()
                start.record()
                work()
                end.record()
                end.synchronize()
                times.append(start.elapsed_time(end))
            row.update(
                milliseconds=statistics.median(times), fastest=min(times), slowest=max(times), repetitions=len(times),
                extra_bytes=max(extra, 0),
            )
        except Exception as error:  # the next one may work
            row["error"] = (str(error).splitlines() or [type(error).__name__])[0]
        rows.append(row)
        log(json.dumps(row))
        kit.save(rows=rows)
        if device == "cuda":
            torch.cuda.empty_cache()

    types = {"f32": torch.float32, "bf16": torch.bfloat16}
    size = {"f32": 4, "bf16": 2}
    n = COPY
    a = torch.randn(n, device=device)
    b = torch.empty_like(a)
    measure("copy", "f32", (n,), lambda: b.copy_(a), bytes=8 * n)
    del a, b
    for n, v in LOGITS:
        for dtype, kind in types.items():
            x = (8 * torch.randn(n, v, device=device)).to(kind).requires_grad_()
            t, up = torch.randint(0, v, (n,), device=device), torch.randn(n, device=device)

            def logp():
                return x.log_softmax(-1, dtype=torch.float32).gather(-1, t[:, None])[:, 0]

            def quiet():
                with torch.no_grad():
                    logp()

            def entropy():
                with torch.no_grad():
                    p = x.log_softmax(-1, dtype=torch.float32)
                    p.gather(-1, t[:, None]), -(p.exp() * p).sum(-1)

            measure("logits_forward", dtype, (n, v), quiet, bytes=n * v * size[dtype])
            measure("logits_entropy_forward", dtype, (n, v), entropy, bytes=n * v * size[dtype])
            graph = logp()
            backward = lambda: torch.autograd.grad(graph, x, up, retain_graph=True)
            measure("logits_backward_in_place", dtype, (n, v), backward, bytes=2 * n * v * size[dtype])
            del x, t, up, graph
    s, l = SUMS
    values, index = torch.randn(s * l, device=device), torch.arange(s, device=device).repeat_interleave(l)
    sums = torch.zeros(s, device=device, dtype=torch.float64)
    # All sequences have one length here; the general way, `index_add_`, is slower and differs from run to run.
    measure("segment_sum", "f32", (s, l), lambda: values.view(s, l).sum(-1, dtype=torch.float64), bytes=4 * s * l + 8 * s)
    measure("segment_spread", "f32", (s, l), lambda: sums.float()[index], bytes=4 * s * l + 8 * s)
    n = PAIRS
    c, r, rc, rr, cached = (40 * torch.randn(n, device=device, dtype=torch.float64) for _ in range(5))
    c.requires_grad_(), r.requires_grad_()

    def preference():
        m = 0.1 * ((c - rc) - (r - rr))
        loss = -0.9 * F.logsigmoid(m) - 0.1 * F.logsigmoid(-m) - 0.5 * c / 100
        torch.autograd.grad((loss - cached).clamp(min=0).sum(), (c, r))

    measure("preference", "f64", (n,), preference, bytes=n * (12 * 8 + 2 * 4))
    n = GEMM
    for dtype, kind in types.items():
        a, b = (torch.randn(n, n, device=device, dtype=kind) for _ in range(2))
        c = torch.empty_like(a)
        measure("gemm", dtype, (n,) * 3, lambda: torch.mm(a, b.t(), out=c), flops=2 * n**3)
        del a, b, c
    for n, d, v in HEADS:
        for dtype, kind in types.items():
            h = (0.1 * torch.randn(n, d, device=device, dtype=kind)).requires_grad_()
            w = (0.1 * torch.randn(v, d, device=device, dtype=kind)).requires_grad_()
            t, up = torch.randint(0, v, (n,), device=device), torch.randn(n, device=device)

            def forward():
                # As transformers and TRL do it: logits, then the softmax in f32.
                return F.log_softmax((h @ w.t()).float(), -1).gather(-1, t[:, None])[:, 0]

            def no_gradient():
                with torch.no_grad():
                    forward()

            def both():
                h.grad = w.grad = None
                forward().backward(up)

            measure("head_forward", dtype, (n, d, v), no_gradient, flops=2 * n * d * v)
            gradients = size[dtype] * (n * d + v * d)
            measure("head_forward_backward", dtype, (n, d, v), both, gradients, flops=6 * n * d * v)
            del h, w, t, up


def cuda_torch():
    try:
        import torch
    except ImportError:
        raise Skipped("no PyTorch on this machine")
    if not torch.cuda.is_available():
        raise Skipped(f"PyTorch {torch.__version__} finds no device")
    return torch


# ---- part: training ----

# SmolLM2-135M's shape, and one small enough for an interpreter of kernels.
SHAPES = {
    "135m": dict(hidden=576, layers=30, heads=9, kv_heads=3, inner=1536, vocab=49152, prompt=64, completion=64, pairs=4, lr=2e-6, scale=0.03),
    "tiny": dict(hidden=16, layers=1, heads=2, kv_heads=1, inner=32, vocab=264, prompt=4, completion=4, pairs=2, lr=1e-3, scale=0.125),
}
STEPS = 8
# In f32 the same losses to the last digits but for the order of sums.
MOST_DIFFERENCE = 1e-4


def part_training(kit):
    shape = SHAPES["tiny" if kit.rehearsal else "135m"]
    folder = kit.work / "training"
    model, rows = random_llama(folder / "model", shape), random_pairs(folder / "pairs.jsonl", shape)
    losses, seconds = {}, {}

    def add(name, steps):
        begun = time.monotonic()
        losses[name] = steps()
        seconds[name] = round(time.monotonic() - begun, 2)
        kit.save(losses=losses, wall_s=seconds, shape=shape)

    add("cuda:0", lambda: ama_losses(kit, "cuda:0", model, rows, shape))
    if not kit.rehearsal:
        try:
            add("PyTorch", lambda: torch_losses(cuda_torch(), model, rows, shape, "cuda"))
        except Exception as reason:  # ours are still compared with the processor's
            kit.save(torch=f"not compared: {reason}")
    add("cpu", lambda: ama_losses(kit, "cpu", model, rows, shape))
    ours, differences = losses["cuda:0"], {}
    for other in losses:
        if len(losses[other]) != STEPS or not all(map(math.isfinite, losses[other])):
            raise Failed(f"the losses of {other} are {losses[other]}; want {STEPS} finite ones")
        if other != "cuda:0":
            differences[other] = max(abs(a - b) for a, b in zip(ours, losses[other]))
    kit.save(differences=differences)
    if not max(ours) - min(ours) > 10 * MOST_DIFFERENCE:
        raise Failed(f"the losses moved by {max(ours) - min(ours):.1e} only: such steps tell nothing")
    for other, difference in differences.items():
        if not difference <= MOST_DIFFERENCE:
            raise Failed(f"losses differ from those of {other} by up to {difference:.1e} nats; at most {MOST_DIFFERENCE:.0e}")


def ama_losses(kit, device, model, rows, shape):
    """Losses of `ama specialist`, whose head runs on `device`."""
    summary = model.parent / f"{device}.json"
    status, said = kit.run([
        kit.program("ama"), "specialist", "--model", model, "--data", rows, "--out", model.parent / device, "--steps", STEPS,
        "--batch-pairs", shape["pairs"], "--lr", shape["lr"], "--beta", 0.1, "--order", "file", "--schedule", "constant",
        "--warmup-steps", 0, "--weight-decay", 0, "--clip", 1.0, "--summary", summary, "--device", device,
    ])
    if status != 0:
        raise Failed(f"ama specialist --device {device} {ended(status)}: {(said.strip().splitlines() or [''])[-1]}")
    return read_json(summary)["losses"]


def random_llama(folder, shape):
    """A Llama folder with uniform weights (norms at 1), the same everywhere, without numpy or torch if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    d, inner, vocab = shape["hidden"], shape["inner"], shape["vocab"]
    kv = d // shape["heads"] * shape["kv_heads"]
    tensors = [("model.embed_tokens.weight", (vocab, d))]
    for i in range(shape["layers"]):
        at = f"model.layers.{i}."
        tensors += [(f"{at}input_layernorm.weight", (d,)), (f"{at}post_attention_layernorm.weight", (d,))]
        tensors += [(f"{at}self_attn.{n}_proj.weight", s) for n, s in (("q", (d, d)), ("k", (kv, d)), ("v", (kv, d)), ("o", (d, d)))]
        tensors += [(f"{at}mlp.{n}_proj.weight", s) for n, s in (("gate", (inner, d)), ("up", (inner, d)), ("down", (d, inner)))]
    tensors.append(("model.norm.weight", (d,)))
    header, offset = {}, 0
    for name, sizes in tensors:
        size = 4 * sizes[0] * (sizes[1] if len(sizes) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": sizes, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    draw = random.Random(0)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, sizes in tensors:
            if len(sizes) == 1:
                file.write(array("f", [1.0] * sizes[0]).tobytes())
            else:
                file.write(uniform(draw, sizes[0] * sizes[1], shape["scale"]))
    write_json(folder / "config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": d, "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"], "num_key_value_heads": shape["kv_heads"], "intermediate_size": inner,
        "vocab_size": vocab, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "float32",
    })
    # Nobody calls it: the pairs are token ids.
    vocabulary = {f"<{i}>": i for i in range(vocab)}
    write_json(folder / "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
        "post_processor": None, "decoder": None,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary, "merges": [],
        },
    })
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<0>", "bos_token": "<0>"})
    return folder


def uniform(draw, n, scale):
    """`n` f32 in `[-scale, scale)` as little-endian bytes."""
    raw = draw.randbytes(2 * n)
    try:
        import numpy

        return (numpy.frombuffer(raw, "<i2").astype("<f4") * numpy.float32(scale / 32768)).tobytes()
    except ImportError:
        return array("f", [x * (scale / 32768) for x in array("h", raw)]).tobytes()


def random_pairs(path, shape):
    """Pairs of random token ids for every step: two batches by turns, so that the losses fall."""
    draw = random.Random(1)
    ids = lambda n: [draw.randrange(1, shape["vocab"]) for _ in range(n)]
    lines = []
    for _ in range(2 * shape["pairs"]):
        prompt, chosen, rejected = ids(shape["prompt"]), ids(shape["completion"]), ids(shape["completion"])
        lines.append(json.dumps({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}) + "\n")
    path.write_text("".join(lines) * (STEPS // 2))
    return path


def torch_losses(torch, model, rows, shape, device):
    """The same steps in plain PyTorch, f32 without TF32."""
    import torch.nn.functional as F
    from transformers import LlamaForCausalLM

    torch.backends.cuda.matmul.allow_tf32 = False
    net = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="eager").to(device)
    rows = [json.loads(line) for line in Path(rows).read_text().splitlines()]
    batches = [rows[i : i + shape["pairs"]] for i in range(0, len(rows), shape["pairs"])]

    def logps(batch):
        prompt = shape["prompt"]
        ids = torch.tensor([row["prompt_ids"] + row[side] for side in ("chosen_ids", "rejected_ids") for row in batch], device=device)
        logits = net(ids).logits[:, prompt - 1 : -1].float()
        return F.log_softmax(logits, -1).gather(-1, ids[:, prompt:, None])[..., 0].sum(-1).chunk(2)

    with torch.no_grad():
        reference = [logps(batch) for batch in batches]
    optimiser = torch.optim.AdamW(net.parameters(), lr=shape["lr"], weight_decay=0.0)
    losses = []
    for batch, (old_chosen, old_rejected) in zip(batches, reference):
        chosen, rejected = logps(batch)
        loss = -F.logsigmoid(0.1 * ((chosen - old_chosen) - (rejected - old_rejected))).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses


# ---- part: packages ----


def part_packages(kit):
    """Room for comparisons with TRL: what pip downloaded for this machine can be used here."""
    wheels = sorted((HERE / "wheels").glob("*.whl"))
    if not wheels:
        raise Skipped("no wheels in the bundle")
    want, have = (read_json(HERE / "manifest.json") or {}).get("python"), f"{sys.version_info.major}.{sys.version_info.minor}"
    if want not in (None, have):
        raise Skipped(f"the wheels are for Python {want}, this is {have}; `bundle --python {have}` makes others")
    site = kit.work / "site"
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    status, said = kit.run(
        [sys.executable, "-c", "import datasets, trl; print(datasets.__version__, trl.__version__)"],
        {**os.environ, "PYTHONPATH": str(site)},
    )
    if status != 0:
        raise Failed((said.strip().splitlines() or ["no message"])[-1])
    kit.save(versions=said.split()[-2:])


# ---- running the parts ----


def run_part(name, options):
    """One part in this process: what it found and how it ended go to its file."""
    kit = Kit(name, options, Path(options.work))
    status, reason = "passed", None
    try:
        device_tests(kit) if name in DEVICE_TESTS else globals()[f"part_{name}"](kit)
    except Failed as failed:
        status, reason = "failed", str(failed)
    except Skipped as skipped:
        status, reason = "skipped", str(skipped)
    except Exception as error:  # a mistake of the kit itself: said, not lost
        import traceback

        traceback.print_exc()
        status, reason = "failed", f"{type(error).__name__}: {error}"
    write_json(kit.work / f"{name}.json", {"status": status, "reason": reason, "found": kit.found})


def start_part(name, limit, options, work, libraries, log_file, save):
    """One part in a process of its own, ended at its limit with all that it started; `save` is told what it has found so far.

    Returns the part's line of the results, also if we are interrupted.
    """
    command = [sys.executable, str(Path(__file__).resolve()), "--part", name, "--work", str(work), "--libraries", libraries]
    if options.rehearse:
        command.append("--rehearse")
    begun, late, seen = time.monotonic(), False, None

    def line(reason):
        found = read_json(work / f"{name}.json") or {"found": {}}
        if found.get("status", "unfinished") == "unfinished":
            found.update(status="failed", reason=reason)
        return {"part": name, **found, "seconds": round(time.monotonic() - begun, 1), "limit_s": limit}

    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log_file, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        while process.poll() is None and not late:
            try:
                process.wait(timeout=min(1.0, max(0.05, begun + limit - time.monotonic())))
            except subprocess.TimeoutExpired:
                late = time.monotonic() - begun >= limit
                now = read_json(work / f"{name}.json")
                if now != seen:
                    seen = now
                    save(line("cut off"))
    except KeyboardInterrupt:
        return line("interrupted")
    finally:
        end_session(process.pid)
        process.wait()
    return line(f"took longer than its {limit:.0f} s" if late else f"the part {ended(process.returncode)}")


def end_session(leader):
    """Ends a part's process and whatever it has started, also what made a process group of its own."""
    members = {leader}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            if int(Path(path).read_text().rsplit(")", 1)[1].split()[3]) == leader:
                members.add(int(path.split("/")[2]))
        except (OSError, ValueError, IndexError):
            pass
    for end in [lambda: os.killpg(leader, signal.SIGKILL), *(lambda pid=pid: os.kill(pid, signal.SIGKILL) for pid in members)]:
        try:
            end()
        except (ProcessLookupError, PermissionError):
            pass


def say(text, end="\n"):
    """To the terminal, if there is still one: the results do not depend on it."""
    try:
        print(text, end=end, flush=True)
    except OSError:
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="DIR", type=Path, default=HERE, help="where results.json and kit.log go [this folder]")
    parser.add_argument("--only", metavar="PART,PART", help="these parts only")
    parser.add_argument("--list", action="store_true", help="show the parts and end")
    parser.add_argument("--rehearse", action="store_true", help="small shapes, no peers: for a stand-in of the driver")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--libraries", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = [name for name, _, _ in PARTS]
    if options.list:
        for name, limit, what in PARTS:
            print(f"{name:<12} {limit:>3} s  {what}")
        return 0
    if options.part:
        run_part(options.part, options)
        return 0
    wanted = options.only.split(",") if options.only else names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        parser.error(f"no part is called {', '.join(unknown)}; the parts are {', '.join(names)}")
    # A connection that breaks must not end a run, and a polite end must leave results.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    work = Path(tempfile.mkdtemp(prefix="ama-kit-"))
    try:
        return play(wanted, options, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def play(wanted, options, work):
    """Runs the parts and writes results.json as they go."""
    manifest = read_json(HERE / "manifest.json") or {}
    out = writable(options.out.resolve())
    results = {
        "kit": 1, "rehearsal": options.rehearse, "manifest": manifest, "damaged_files": damaged_files(manifest),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "finished": False, "seconds": 0, "parts": [],
    }
    before = read_json(out / "results.json")
    if before and options.only and all(before.get(key) == results[key] for key in ("kit", "rehearsal", "manifest")):
        results["parts"] = [line for line in before["parts"] if line["part"] not in wanted]
    else:
        set_aside(out)
    # In a place where programs can be executed, whatever became of their marks on the way.
    if (HERE / "bin").is_dir():
        shutil.copytree(HERE / "bin", work / "bin")
        for program in (work / "bin").iterdir():
            program.chmod(0o755)
    for variable in ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"):
        os.environ.pop(variable, None)
    # Caches of our own: kernels that were compiled elsewhere or before are no proof of anything.
    os.environ.update(
        XDG_CACHE_HOME=str(work / "cache"), CUDA_CACHE_PATH=str(work / "cache" / "nv"), CUDA_DEVICE_ORDER="PCI_BUS_ID",
        RUST_BACKTRACE="0", PYTHONUNBUFFERED="1", HF_HUB_OFFLINE="1",
    )
    libraries, begun = link_libraries(find_libraries(), work / "lib"), time.monotonic()
    earlier, limits = list(results["parts"]), {name: limit for name, limit, _ in PARTS}
    limits.update(manifest.get("limits_s", {}))
    order = [name for name, _, _ in PARTS]

    def save(*lines):
        done = [*earlier, *lines]
        results["parts"] = sorted(done, key=lambda line: order.index(line["part"])) if earlier else done
        results["seconds"] = round(time.monotonic() - begun, 1)
        write_json(out / "results.json", results)

    lines = []
    save()
    with open(out / "kit.log", "a") as log_file:
        for name in wanted:
            what = next(what for part, _, what in PARTS if part == name)
            left = manifest.get("total_s", TOTAL_S) - (time.monotonic() - begun)
            log_file.write(f"\n=== {name}: {what}\n")
            log_file.flush()
            say(f"{name:<12} {what} ...", end=" ")
            if left < 3:
                line = {"part": name, "status": "skipped", "reason": "no time was left", "found": {}, "seconds": 0, "limit_s": 0}
            else:
                limit = min(limits[name], left)
                line = start_part(name, limit, options, work, libraries, log_file, lambda now: save(*lines, now))
            lines.append(line)
            save(*lines)
            say(f"{line['status']} ({line['seconds']} s){': ' + line['reason'] if line.get('reason') else ''}")
            if line.get("reason") == "interrupted":
                return 130
    results["finished"] = True
    save(*lines)
    failed = [line["part"] for line in results["parts"] if line["status"] == "failed"]
    say(f"{out / 'results.json'}: {len(results['parts'])} parts in {results['seconds']:.0f} s, failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def writable(folder):
    """The folder, or a new one where that cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        other = Path(tempfile.mkdtemp(prefix="ama-results-"))
        say(f"{folder} cannot be written ({error.strerror}): results go to {other}")
        return other


def set_aside(out):
    """Results of an earlier run stay, under another name."""
    for name in ("results.json", "kit.log"):
        path = out / name
        if path.exists():
            stem, ending = name.split(".")
            path.rename(out / f"{stem}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(path.stat().st_mtime))}.{ending}")


def damaged_files(manifest):
    """Files of the bundle that are not what they were when it was made."""
    bad = []
    for name, want in manifest.get("files", {}).items():
        path = HERE / name
        try:
            if hashlib.sha256(path.read_bytes()).hexdigest() != want["sha256"]:
                bad.append(name)
        except OSError:
            bad.append(name)
    return bad


if __name__ == "__main__":
    sys.exit(main())
