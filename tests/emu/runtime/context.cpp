// Switching between the stacks of CUDA threads.
#include "runtime.h"

// Saves the registers a function must keep, swaps stacks, and jumps to where the other one left.
// The jump instead of a `ret` matters: a return into another stack is always mispredicted.
extern "C" __attribute__((visibility("hidden"))) void emu_switch_stack(void** save, void* load);
asm(R"(
.text
.globl emu_switch_stack
.hidden emu_switch_stack
.type emu_switch_stack,@function
emu_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    popq %rcx
    jmp *%rcx
.size emu_switch_stack, .-emu_switch_stack
)");

namespace emu {

constexpr int SAVED_REGISTERS = 6;

// Stacks start at different offsets, or their tops would all compete for the same cache lines.
static size_t stagger(unsigned thread) { return thread % 16 * 320; }

void prepare_stack(Fiber& fiber, char* stack, void (*body)()) {
    fiber.stack_low = stack;
    void** top = reinterpret_cast<void**>(stack + STACK_BYTES - stagger(fiber.thread));
    *--top = nullptr;  // body's return address: it never returns
    *--top = reinterpret_cast<void*>(body);
    for (int i = 0; i < SAVED_REGISTERS; i++) {
        *--top = nullptr;
    }
    fiber.stack_pointer = top;
}

void switch_to(Fiber* next) {
    Fiber* previous = current;
    current = next;
    emu_switch_stack(&previous->stack_pointer, next->stack_pointer);
}

}  // namespace emu
