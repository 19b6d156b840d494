// What AddressSanitizer and ThreadSanitizer have to be told about fibers, barriers and shared memory.
//
// EMULATOR_ADDRESS: fibers' stacks and poisoned memory. EMULATOR_THREAD: every CUDA thread is a thread of its own to the race
// detector, and switching orders nothing; a barrier is a release by all who arrive and an acquire by all who leave.
#pragma once
#include <stddef.h>

#if defined(EMULATOR_ADDRESS)
extern "C" {
void __asan_poison_memory_region(const volatile void*, size_t);
void __asan_unpoison_memory_region(const volatile void*, size_t);
void __sanitizer_start_switch_fiber(void** save, const void* bottom, size_t bytes);
void __sanitizer_finish_switch_fiber(void* save, const void** bottom, size_t* bytes);
}
#elif defined(EMULATOR_THREAD)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned flags);
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#endif

namespace emulator {

#if defined(EMULATOR_ADDRESS)

const bool EACH_BLOCK_ITS_OWN = false;
struct SanitizerFiber {
  void* fake_stack = nullptr;
  const void* bottom = nullptr;
  size_t bytes = 0;
  void create() {}
  void adopt() {}
  void destroy() {}
  // From here, the scheduler, to a fiber.
  void enter(SanitizerFiber&, const void* stack, size_t size) {
    __sanitizer_start_switch_fiber(&fake_stack, stack, size);
  }
  // From here, a fiber, to the scheduler.
  void leave(SanitizerFiber& scheduler, bool for_good) {
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_stack, scheduler.bottom, scheduler.bytes);
  }
  // Here; `from` is told the stack that we came from.
  void arrived(SanitizerFiber* from) {
    __sanitizer_finish_switch_fiber(fake_stack, from ? &from->bottom : nullptr, from ? &from->bytes : nullptr);
    fake_stack = nullptr;
  }
};
inline void acquire(void*) {}
inline void release(void*) {}
inline void poison(const void* p, size_t bytes) { __asan_poison_memory_region(p, bytes); }
inline void unpoison(const void* p, size_t bytes) { __asan_unpoison_memory_region(p, bytes); }

#elif defined(EMULATOR_THREAD)

const bool EACH_BLOCK_ITS_OWN = true;
const unsigned NO_SYNCHRONISATION = 1;
struct SanitizerFiber {
  void* handle = nullptr;
  void create() { handle = __tsan_create_fiber(0); }
  void adopt() { handle = __tsan_get_current_fiber(); }
  void destroy() { __tsan_destroy_fiber(handle); }
  void enter(SanitizerFiber& fiber, const void*, size_t) { __tsan_switch_to_fiber(fiber.handle, NO_SYNCHRONISATION); }
  void leave(SanitizerFiber& scheduler, bool) { __tsan_switch_to_fiber(scheduler.handle, NO_SYNCHRONISATION); }
  void arrived(SanitizerFiber*) {}
};
inline void acquire(void* tag) { __tsan_acquire(tag); }
inline void release(void* tag) { __tsan_release(tag); }
inline void poison(const void*, size_t) {}
inline void unpoison(const void*, size_t) {}

#else

const bool EACH_BLOCK_ITS_OWN = false;
struct SanitizerFiber {
  void create() {}
  void adopt() {}
  void destroy() {}
  void enter(SanitizerFiber&, const void*, size_t) {}
  void leave(SanitizerFiber&, bool) {}
  void arrived(SanitizerFiber*) {}
};
inline void acquire(void*) {}
inline void release(void*) {}
inline void poison(const void*, size_t) {}
inline void unpoison(const void*, size_t) {}

#endif

}  // namespace emulator
