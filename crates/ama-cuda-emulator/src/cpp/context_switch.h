// Switching between stacks: a few instructions on x86-64, `ucontext` elsewhere.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace emulator {

#if defined(__x86_64__)

struct Context {
  void* stack_pointer = nullptr;
};

extern "C" void emulator_switch(void** from, void* to);
// System V ABI: what the callee must keep goes onto the old stack and comes from the new one.
asm(R"(
.text
.type emulator_switch,@function
emulator_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size emulator_switch,.-emulator_switch
)");

inline void switch_context(Context& from, Context& to) { emulator_switch(&from.stack_pointer, to.stack_pointer); }

inline void make_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
  // At `entry` the stack pointer is 8 past a multiple of 16, as after a call; the address above is that of no caller.
  void** top = (void**)(stack + bytes) - 1;
  *top = nullptr;
  *--top = (void*)entry;
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  context.stack_pointer = top;
}

#else

}  // namespace emulator
#include <ucontext.h>
namespace emulator {

struct Context {
  ucontext_t at;
};
inline void switch_context(Context& from, Context& to) { swapcontext(&from.at, &to.at); }
inline void make_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
  getcontext(&context.at);
  context.at.uc_stack.ss_sp = stack;
  context.at.uc_stack.ss_size = bytes;
  context.at.uc_link = nullptr;
  makecontext(&context.at, entry, 0);
}

#endif

}  // namespace emulator
