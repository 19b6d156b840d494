// CUDA C as host C++: what a kernel source needs in front of it to compile with an ordinary C++17 compiler.
//
// A CUDA thread is a fiber, blocks run one after the other. `emulator.cpp` is the scheduler; this file is what the kernels
// see of it: built-in variables, barriers, shuffles, shared memory, bit casts, vector types, and the registry that turns a
// list of untyped arguments into a call.
#pragma once
#define CUDA_HOST_EMU 1
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <type_traits>
#include <utility>

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
  u32 x, y, z;
};

namespace emulator {

struct Place {
  dim3 thread, block, threads, blocks;
};
// Where the CUDA thread that runs at present is. One operating-system thread runs one kernel at a time.
extern thread_local Place place;

// What a lane does in a warp-wide operation.
enum class Exchange : u32 { None, Xor, Down, Up, Index, Ballot };

// Waits for the lanes in `mask`, gives them `bits`, returns those of the lane that `exchange` and `operand` name.
u64 warp(u32 mask, Exchange exchange, u64 bits, int operand, u32 width, u32 line);
// Waits for all threads of the block.
void block(u32 line);
// The block's array that belongs to `key`: aligned to 16 bytes, NaN (all bits set) until it is written.
void* shared(const void* key, size_t bytes);
// An error of the kernel itself, as `asm("trap;")`.
[[noreturn]] void trap(const char* why);

template <typename T>
T exchange(u32 mask, Exchange kind, T value, int operand, u32 width, u32 line) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles take 4 or 8 bytes");
  u64 bits = 0;
  memcpy(&bits, &value, sizeof(T));
  bits = warp(mask, kind, bits, operand, width, line);
  memcpy(&value, &bits, sizeof(T));
  return value;
}

// Kind of a kernel's parameter: pointer, integer or floating-point number.
enum Kind : int { Pointer = 0, Integer = 1, Float = 2 };
struct Parameter {
  int kind;
  size_t bytes;
};
struct Kernel {
  const char* name;
  void (*call)(void (*)(), void**);
  void (*function)();
  const Parameter* parameters;
  size_t count;
};
int add(const Kernel& kernel);

template <typename... A>
struct Signature {
  template <size_t... I>
  static void spread(void (*f)(A...), void** arguments, std::index_sequence<I...>) {
    f(*(A*)arguments[I]...);
  }
  static void call(void (*f)(), void** arguments) {
    spread((void (*)(A...))f, arguments, std::index_sequence_for<A...>{});
  }
};
template <typename... A>
int add(const char* name, void (*f)(A...)) {
  static const Parameter parameters[] = {
      {std::is_pointer<A>::value ? Pointer : std::is_integral<A>::value ? Integer : Float, sizeof(A)}...};
  return add(Kernel{name, &Signature<A...>::call, (void (*)())f, parameters, sizeof...(A)});
}

}  // namespace emulator

#define REGISTER_KERNEL(name) static const int registered_##name = emulator::add(#name, &name)

#define threadIdx (emulator::place.thread)
#define blockIdx (emulator::place.block)
#define blockDim (emulator::place.threads)
#define gridDim (emulator::place.blocks)

// One array per declaration and function, as `__shared__` is.
#define SHARED_ARRAY(T, name, n)  \
  static const char name##_key = 0; \
  T* const name = (T*)emulator::shared(&name##_key, sizeof(T) * (n))

// `line` is that of the call: two barriers are the same one if they stand in the same line.
inline void __syncthreads(u32 line = __builtin_LINE()) { emulator::block(line); }
inline void __syncwarp(u32 mask = 0xffffffffu, u32 line = __builtin_LINE()) {
  emulator::warp(mask, emulator::Exchange::None, 0, 0, 32, line);
}
template <typename T>
T __shfl_xor_sync(u32 mask, T value, int lanes, int width = 32, u32 line = __builtin_LINE()) {
  return emulator::exchange(mask, emulator::Exchange::Xor, value, lanes, (u32)width, line);
}
template <typename T>
T __shfl_down_sync(u32 mask, T value, u32 delta, int width = 32, u32 line = __builtin_LINE()) {
  return emulator::exchange(mask, emulator::Exchange::Down, value, (int)delta, (u32)width, line);
}
template <typename T>
T __shfl_up_sync(u32 mask, T value, u32 delta, int width = 32, u32 line = __builtin_LINE()) {
  return emulator::exchange(mask, emulator::Exchange::Up, value, (int)delta, (u32)width, line);
}
template <typename T>
T __shfl_sync(u32 mask, T value, int lane, int width = 32, u32 line = __builtin_LINE()) {
  return emulator::exchange(mask, emulator::Exchange::Index, value, lane, (u32)width, line);
}
inline u32 __ballot_sync(u32 mask, int predicate, u32 line = __builtin_LINE()) {
  return (u32)emulator::warp(mask, emulator::Exchange::Ballot, predicate ? 1 : 0, 0, 32, line);
}

namespace emulator {
template <typename To, typename From>
To bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "a bit cast keeps the size");
  To to;
  memcpy(&to, &value, sizeof(To));
  return to;
}
}  // namespace emulator

inline float __uint_as_float(u32 v) { return emulator::bits<float>(v); }
inline float __int_as_float(int v) { return emulator::bits<float>(v); }
inline u32 __float_as_uint(float v) { return emulator::bits<u32>(v); }
inline int __float_as_int(float v) { return emulator::bits<int>(v); }
inline double __longlong_as_double(long long v) { return emulator::bits<double>(v); }
inline long long __double_as_longlong(double v) { return emulator::bits<long long>(v); }

// Kernels read and write memory of any type through these, as device compilers let them.
struct __attribute__((may_alias, aligned(16))) float4 {
  float x, y, z, w;
};
struct __attribute__((may_alias, aligned(16))) uint4 {
  u32 x, y, z, w;
};
struct __attribute__((may_alias, aligned(8))) float2 {
  float x, y;
};
struct __attribute__((may_alias, aligned(8))) uint2 {
  u32 x, y;
};

inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
template <typename T>
T __ldg(const T* p) {
  return *p;
}

template <typename T>
T atomicAdd(T* p, T value) {
  T old, sum;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  do sum = old + value;
  while (!__atomic_compare_exchange(p, &old, &sum, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}
