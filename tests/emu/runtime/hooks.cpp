// Where GCC's instrumentation of a kernel calls: the thread sanitizer's hooks at every access, the
// undefined-behaviour sanitizer's at what it found. The sanitizers themselves are not linked.
#include "runtime.h"

namespace emu {

// The return address of a hook lies behind the call: one less is in its line.
#define EMU_ARRIVE() \
    whereabouts = {static_cast<const char*>(__builtin_return_address(0)) - 1, Site{}}

#define EMU_HOOK(name, bytes, access)                 \
    extern "C" void __tsan_##name(void* address) {    \
        EMU_ARRIVE();                                 \
        check_access(address, bytes, Access::access); \
    }

// A volatile access may be a thread that waits for another one.
#define EMU_VOLATILE_HOOK(name, bytes, access)        \
    extern "C" void __tsan_##name(void* address) {    \
        EMU_ARRIVE();                                 \
        check_access(address, bytes, Access::access); \
        scheduling_point();                           \
    }

#define EMU_HOOKS(bytes)                                         \
    EMU_HOOK(read##bytes, bytes, Read)                           \
    EMU_HOOK(write##bytes, bytes, Write)                         \
    EMU_HOOK(unaligned_read##bytes, bytes, Read)                 \
    EMU_HOOK(unaligned_write##bytes, bytes, Write)               \
    EMU_VOLATILE_HOOK(volatile_read##bytes, bytes, VolatileRead) \
    EMU_VOLATILE_HOOK(volatile_write##bytes, bytes, VolatileWrite)

EMU_HOOKS(1)
EMU_HOOKS(2)
EMU_HOOKS(4)
EMU_HOOKS(8)
EMU_HOOKS(16)

extern "C" void __tsan_read_range(void* address, unsigned long bytes) {
    EMU_ARRIVE();
    check_access(address, bytes, Access::Read);
}
extern "C" void __tsan_write_range(void* address, unsigned long bytes) {
    EMU_ARRIVE();
    check_access(address, bytes, Access::Write);
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}

// ---- undefined behaviour; every report starts with its place in the source
struct SourceLocation {
    const char* file;
    uint32_t line;
    uint32_t column;
};

#define EMU_UNDEFINED(name, text)                                                              \
    extern "C" void __ubsan_handle_##name##_abort(const SourceLocation* where, void*, void*) { \
        fail_at(Site{where->file, static_cast<int>(where->line)}, text);                       \
    }

EMU_UNDEFINED(out_of_bounds, "array index out of bounds")
EMU_UNDEFINED(type_mismatch_v1, "misaligned access")
EMU_UNDEFINED(shift_out_of_bounds, "shift out of range")
EMU_UNDEFINED(divrem_overflow, "division by zero")

}  // namespace emu
