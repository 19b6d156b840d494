// The scheduler of the emulation: one fiber per CUDA thread, blocks one after the other, in an order that a seed permutes.
//
// It finds what a device leaves undefined: a barrier that not all threads of the block reach, or reach at different places;
// warp-wide operations whose mask names lanes that are missing, have returned, or do something else; shuffles from lanes
// that take no part; more shared memory than a device has. What memory is read and written is the sanitizers' business:
// this file tells them about fibers and barriers (EMULATOR_ADDRESS, EMULATOR_THREAD) and is itself not instrumented.
#include "cuda_host.h"

#include <stdio.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "context_switch.h"
#include "sanitizers.h"

namespace emulator {

thread_local Place place;

namespace {

const size_t STACK_BYTES = 64 * 1024;
const size_t SHARED_BYTES = 48 * 1024;
const size_t REDZONE = 16;
const u32 WARP = 32, MAX_THREADS = 1024;

enum class State { Ready, AtWarp, AtBlock, Done };

struct Fiber {
  Context context;
  char* stack = nullptr;
  SanitizerFiber sanitizer;
  Place place;
  State state = State::Ready;
  // What it waits for, and what it got.
  u32 mask = 0, line = 0, width = 0;
  Exchange exchange = Exchange::None;
  u64 bits = 0;
  int operand = 0;
  // Barriers it has passed: of the block, and of its warp by mask.
  u32 block_barriers = 0;
  std::map<u32, u32> warp_barriers;
};

struct SharedArray {
  const void* key;
  char* at;
};

// One block of a launch.
struct Block {
  const Kernel* kernel;
  void** arguments;
  std::vector<Fiber> fibers;
  std::unique_ptr<char[]> arena;
  std::vector<SharedArray> arrays;
  size_t used = 0;
  Context scheduler;
  SanitizerFiber scheduler_sanitizer;
  u32 running = 0;
  // Addresses that stand for what is before and after in the race detector. Barriers take turns between two: a thread that
  // has gone on to the next one must not be ordered before those that still leave this one.
  char start_tag = 0, end_tag = 0, block_tags[2] = {};
  std::vector<std::map<u32, std::array<char, 2>>> warp_tags;
  std::string error;
};

thread_local Block* current = nullptr;

// Numbers for permutations (SplitMix64).
struct Random {
  u64 state;
  u64 next() {
    u64 z = state += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  void shuffle(std::vector<u32>& order) {
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[next() % i]);
  }
};

Fiber& running() { return current->fibers[current->running]; }
u32 index_in_block(const Fiber& fiber) { return (u32)(&fiber - current->fibers.data()); }

// From a fiber back to the scheduler.
void leave(bool for_good) {
  Fiber& fiber = running();
  fiber.sanitizer.leave(current->scheduler_sanitizer, for_good);
  switch_context(fiber.context, current->scheduler);
  // Another block's fiber may be what `current` and `running` were before; this one is running again.
  running().sanitizer.arrived(&current->scheduler_sanitizer);
}

void enter(u32 index) {
  current->running = index;
  Fiber& fiber = current->fibers[index];
  place = fiber.place;
  current->scheduler_sanitizer.enter(fiber.sanitizer, fiber.stack, STACK_BYTES);
  switch_context(current->scheduler, fiber.context);
  current->scheduler_sanitizer.arrived(nullptr);
}

void fiber_main() {
  running().sanitizer.arrived(&current->scheduler_sanitizer);
  acquire(&current->start_tag);
  current->kernel->call(current->kernel->function, current->arguments);
  release(&current->end_tag);
  running().state = State::Done;
  leave(true);
  __builtin_trap();
}

std::string hexadecimal(u32 mask) {
  char text[16];
  snprintf(text, sizeof text, "0x%08x", mask);
  return text;
}

// Lets a warp's lanes go on that wait for one another. Returns whether any did; sets `error` on misuse.
bool release_warp(Block& b, u32 first) {
  const u32 size = std::min<u32>(WARP, (u32)b.fibers.size() - first);
  Fiber* warp = &b.fibers[first];
  bool any = false;
  for (u32 lane = 0; lane < size; ++lane) {
    Fiber& f = warp[lane];
    if (f.state != State::AtWarp) continue;
    const auto where = [&f] { return " (line " + std::to_string(f.line) + ", mask " + hexadecimal(f.mask) + ")"; };
    if (!(f.mask >> lane & 1)) {
      b.error = "lane " + std::to_string(lane) + " is not in its own mask" + where();
      return false;
    }
    bool complete = true;
    for (u32 other = 0; other < WARP; ++other) {
      if (!(f.mask >> other & 1)) continue;
      if (other >= size || warp[other].state == State::Done) {
        b.error = "the mask names lane " + std::to_string(other) + ", which " +
                  (other >= size ? "does not exist" : "has returned") + where();
        return false;
      }
      const Fiber& o = warp[other];
      if (o.state != State::AtWarp) {
        complete = false;
      } else if (o.mask != f.mask || o.exchange != f.exchange || o.line != f.line) {
        b.error = "lanes of one mask disagree: lane " + std::to_string(other) + " is at line " +
                  std::to_string(o.line) + " with mask " + hexadecimal(o.mask) + where();
        return false;
      }
    }
    if (!complete) continue;
    u64 sent[WARP] = {};
    u32 ballot = 0;
    for (u32 l = 0; l < size; ++l) {
      if (!(f.mask >> l & 1)) continue;
      sent[l] = warp[l].bits;
      if (warp[l].bits) ballot |= 1u << l;
    }
    const u32 mask = f.mask;
    for (u32 l = 0; l < size; ++l) {
      if (!(mask >> l & 1)) continue;
      Fiber& to = warp[l];
      const u32 section = l & ~(to.width - 1), operand = (u32)to.operand;
      u32 from = l;
      switch (to.exchange) {
        case Exchange::Xor: from = l ^ operand; if (from >= section + to.width) from = l; break;
        case Exchange::Down: from = l + operand < section + to.width ? l + operand : l; break;
        case Exchange::Up: from = l >= section + operand ? l - operand : l; break;
        case Exchange::Index: from = section | (operand & (to.width - 1)); break;
        case Exchange::None: case Exchange::Ballot: break;
      }
      if (from >= WARP || !(mask >> from & 1)) {
        b.error = "lane " + std::to_string(l) + " reads lane " + std::to_string(from) + ", which takes no part" + where();
        return false;
      }
      to.bits = to.exchange == Exchange::Ballot ? ballot : sent[from];
      to.state = State::Ready;
    }
    any = true;
  }
  return any;
}

std::string divergence(const Block& b) {
  u32 at_block = 0, at_warp = 0, done = 0, line = 0;
  for (const Fiber& f : b.fibers) {
    at_block += f.state == State::AtBlock;
    at_warp += f.state == State::AtWarp;
    done += f.state == State::Done;
    if (f.state != State::Done) line = f.line;
  }
  return "barrier divergence: of " + std::to_string(b.fibers.size()) + " threads " + std::to_string(at_block) +
         " wait at __syncthreads, " + std::to_string(at_warp) + " at a warp's barrier, " + std::to_string(done) +
         " have returned (line " + std::to_string(line) + ")";
}

// Runs a block to its end; `order` is the order of its threads.
void run_block(Block& b, Random* random) {
  std::vector<u32> order(b.fibers.size());
  for (u32 i = 0; i < order.size(); ++i) order[i] = i;
  release(&b.start_tag);
  for (;;) {
    if (random) random->shuffle(order);
    for (u32 i : order) {
      if (b.fibers[i].state == State::Ready) enter(i);
      if (!b.error.empty()) return;
    }
    u32 done = 0, at_block = 0, line = 0;
    bool one_line = true;
    for (const Fiber& f : b.fibers) {
      done += f.state == State::Done;
      if (f.state != State::AtBlock) continue;
      one_line &= at_block == 0 || f.line == line;
      line = f.line;
      ++at_block;
    }
    if (done == b.fibers.size()) return;
    bool released = false;
    for (u32 first = 0; first < b.fibers.size(); first += WARP) {
      released |= release_warp(b, first);
      if (!b.error.empty()) return;
    }
    if (released) continue;
    if (at_block != b.fibers.size() || !one_line) {
      b.error = divergence(b);
      return;
    }
    for (Fiber& f : b.fibers) f.state = State::Ready;
  }
}

std::vector<Kernel>& kernels() {
  static std::vector<Kernel> all;
  return all;
}

const Kernel* find(const char* name) {
  for (const Kernel& k : kernels())
    if (strcmp(k.name, name) == 0) return &k;
  return nullptr;
}

// Stacks for all launches. One that a launch has ended with is ordered before the next launch, also to the race detector.
std::mutex stacks_mutex;
std::vector<char*> stacks;

char* new_stack() {
  {
    const std::lock_guard<std::mutex> lock(stacks_mutex);
    if (!stacks.empty()) {
      char* stack = stacks.back();
      stacks.pop_back();
      return stack;
    }
  }
  void* p = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::runtime_error("no memory for the stacks of the block's threads");
  return (char*)p;
}

// Fibers, stacks and shared memory of one block, or of all blocks one after the other. The race detector knows memory by
// its address, so under it nothing may be used again by another block.
void prepare(Block& b, u32 threads, bool fresh) {
  if (fresh || b.fibers.empty()) {
    b.fibers.resize(threads);
    for (Fiber& f : b.fibers) f.stack = new_stack(), f.sanitizer.create();
    b.arena.reset(new char[SHARED_BYTES]);
  }
  unpoison(b.arena.get(), SHARED_BYTES);
  memset(b.arena.get(), 0xff, SHARED_BYTES);
  poison(b.arena.get(), SHARED_BYTES);
  b.arrays.clear();
  b.used = 0;
  b.warp_tags.assign((threads + WARP - 1) / WARP, {});
}

void dispose(Block& b) {
  if (b.arena) unpoison(b.arena.get(), SHARED_BYTES);
  for (Fiber& f : b.fibers) {
    f.sanitizer.destroy();
    // Frames of fibers that an error left behind are gone now.
    unpoison(f.stack, STACK_BYTES);
    const std::lock_guard<std::mutex> lock(stacks_mutex);
    stacks.push_back(f.stack);
  }
}

std::string launch(const Kernel& kernel, const u32* grid, const u32* threads, void** arguments, u64 seed) {
  const u64 count = (u64)threads[0] * threads[1] * threads[2], blocks = (u64)grid[0] * grid[1] * grid[2];
  if (count == 0 || count > MAX_THREADS) return "a block of " + std::to_string(count) + " threads; want 1 to 1024";
  if (blocks == 0) return "a grid of no blocks";
  if (grid[1] > 65535 || grid[2] > 65535 || grid[0] > 0x7fffffffu) return "a grid beyond 2^31 - 1 x 65535 x 65535";
  if (EACH_BLOCK_ITS_OWN && blocks * count > 6000) return "the race detector follows at most 6000 threads a launch";
  Random random{seed};
  std::vector<u32> order;
  if (seed) {
    order.resize(blocks);
    for (u32 i = 0; i < order.size(); ++i) order[i] = i;
    random.shuffle(order);
  }
  std::vector<std::unique_ptr<Block>> all;
  std::string error;
  SanitizerFiber main;
  main.adopt();
  for (u64 i = 0; i < blocks && error.empty(); ++i) {
    const u64 index = seed ? order[i] : i;
    if (all.empty() || EACH_BLOCK_ITS_OWN) all.emplace_back(new Block);
    Block& b = *all.back();
    b.kernel = &kernel;
    b.arguments = arguments;
    b.scheduler_sanitizer = main;
    prepare(b, (u32)count, EACH_BLOCK_ITS_OWN);
    for (u32 t = 0; t < count; ++t) {
      Fiber& f = b.fibers[t];
      f.state = State::Ready;
      f.block_barriers = 0;
      f.warp_barriers.clear();
      f.place.threads = dim3{threads[0], threads[1], threads[2]};
      f.place.blocks = dim3{grid[0], grid[1], grid[2]};
      f.place.thread = dim3{t % threads[0], t / threads[0] % threads[1], t / (threads[0] * threads[1])};
      f.place.block = dim3{(u32)(index % grid[0]), (u32)(index / grid[0] % grid[1]),
                           (u32)(index / ((u64)grid[0] * grid[1]))};
      make_context(f.context, f.stack, STACK_BYTES, &fiber_main);
    }
    current = &b;
    run_block(b, seed ? &random : nullptr);
    current = nullptr;
    if (!b.error.empty())
      error = std::string(kernel.name) + ", block " + std::to_string(index) + ": " + b.error;
  }
  for (auto& b : all) acquire(&b->end_tag);
  for (auto& b : all) dispose(*b);
  return error;
}

}  // namespace

int add(const Kernel& kernel) {
  kernels().push_back(kernel);
  return 0;
}

u64 warp(u32 mask, Exchange exchange, u64 bits, int operand, u32 width, u32 line) {
  Fiber& f = running();
  f.mask = mask;
  f.exchange = exchange;
  f.bits = bits;
  f.operand = operand;
  f.width = width;
  f.line = line;
  f.state = State::AtWarp;
  // All lanes of a mask have passed the same number of barriers with that mask.
  char* tag = &current->warp_tags[index_in_block(f) / WARP][mask][f.warp_barriers[mask]++ % 2];
  release(tag);
  leave(false);
  acquire(tag);
  return f.bits;
}

void block(u32 line) {
  Fiber& f = running();
  f.line = line;
  f.state = State::AtBlock;
  char* tag = &current->block_tags[f.block_barriers++ % 2];
  release(tag);
  leave(false);
  acquire(tag);
}

void* shared(const void* key, size_t bytes) {
  Block& b = *current;
  for (const SharedArray& a : b.arrays)
    if (a.key == key) return a.at;
  const size_t size = (bytes + 15) / 16 * 16, at = b.used + REDZONE;
  if (at + size + REDZONE > SHARED_BYTES) trap("more than 48 KiB of shared memory");
  b.used = at + size;
  char* p = b.arena.get() + at;
  unpoison(p, bytes);
  b.arrays.push_back({key, p});
  return p;
}

void trap(const char* why) {
  current->error = why;
  leave(true);
  __builtin_trap();
}

}  // namespace emulator

extern "C" {

// Runs a kernel. 0: done; 1: refused or stopped, and `error` says why.
int emulator_launch(const char* name, const u32* grid, const u32* threads, void** arguments, u64 seed, char* error,
                    size_t capacity) {
  std::string why;
  const emulator::Kernel* kernel = emulator::find(name);
  try {
    why = kernel ? emulator::launch(*kernel, grid, threads, arguments, seed) : "no such kernel";
  } catch (const std::exception& e) {
    why = e.what();
  }
  snprintf(error, capacity, "%s", why.c_str());
  return why.empty() ? 0 : 1;
}

// Number of a kernel's parameters, or -1; kinds and sizes of the first `capacity`.
int emulator_signature(const char* name, int* kinds, size_t* bytes, size_t capacity) {
  const emulator::Kernel* kernel = emulator::find(name);
  if (!kernel) return -1;
  for (size_t i = 0; i < kernel->count && i < capacity; ++i) {
    kinds[i] = kernel->parameters[i].kind;
    bytes[i] = kernel->parameters[i].bytes;
  }
  return (int)kernel->count;
}

// Forbids and allows again what lies at `p`, under AddressSanitizer; nothing otherwise.
void emulator_poison(const void* p, size_t bytes) { emulator::poison(p, bytes); }
void emulator_unpoison(const void* p, size_t bytes) { emulator::unpoison(p, bytes); }
}
