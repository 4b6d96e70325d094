// Atomics, loads with a cache hint, and copies of bytes.
#pragma once
#include "emu_keywords.h"

// One OS thread runs all CUDA threads, so an atomic is a plain read and write between two
// scheduling points. The types are those CUDA has, no more.
namespace emu {

inline void begin_atomic(const void* address, unsigned long bytes, Site site) {
    scheduling_point();
    check_if_built(address, bytes, Access::Atomic, site);
}

}  // namespace emu

#define EMU_ATOMIC(name, Type, changed)                                   \
    EMU_UNCHECKED inline Type name(Type* address, Type value, EMU_HERE) { \
        emu::begin_atomic(address, sizeof(Type), EMU_SITE);               \
        Type old = *address;                                              \
        *address = (changed);                                             \
        return old;                                                       \
    }

EMU_ATOMIC(atomicAdd, int, old + value)
EMU_ATOMIC(atomicAdd, unsigned, old + value)
EMU_ATOMIC(atomicAdd, unsigned long long, old + value)
EMU_ATOMIC(atomicAdd, float, old + value)
EMU_ATOMIC(atomicAdd, double, old + value)
EMU_ATOMIC(atomicSub, int, old - value)
EMU_ATOMIC(atomicSub, unsigned, old - value)
EMU_ATOMIC(atomicInc, unsigned, old >= value ? 0u : old + 1)

#define EMU_INTEGER_ATOMICS(Type)                          \
    EMU_ATOMIC(atomicMin, Type, value < old ? value : old) \
    EMU_ATOMIC(atomicMax, Type, value > old ? value : old) \
    EMU_ATOMIC(atomicAnd, Type, (old & value))             \
    EMU_ATOMIC(atomicOr, Type, old | value)                \
    EMU_ATOMIC(atomicXor, Type, old ^ value)
EMU_INTEGER_ATOMICS(int)
EMU_INTEGER_ATOMICS(unsigned)
EMU_INTEGER_ATOMICS(long long)
EMU_INTEGER_ATOMICS(unsigned long long)

EMU_ATOMIC(atomicExch, int, value)
EMU_ATOMIC(atomicExch, unsigned, value)
EMU_ATOMIC(atomicExch, unsigned long long, value)
EMU_ATOMIC(atomicExch, float, value)

#define EMU_COMPARE_AND_SWAP(Type)                                                            \
    EMU_UNCHECKED inline Type atomicCAS(Type* address, Type expected, Type value, EMU_HERE) { \
        emu::begin_atomic(address, sizeof(Type), EMU_SITE);                                   \
        Type old = *address;                                                                  \
        *address = old == expected ? value : old;                                             \
        return old;                                                                           \
    }
EMU_COMPARE_AND_SWAP(int)
EMU_COMPARE_AND_SWAP(unsigned)
EMU_COMPARE_AND_SWAP(unsigned long long)
EMU_COMPARE_AND_SWAP(unsigned short)

// ---- loads and stores with a cache hint
// __ldg promises that nobody writes there during the launch. __ldcg reads past the first cache:
// what another block wrote before its __threadfence can be read so.
#define EMU_LOAD(name, access)                                                  \
    template <class T>                                                          \
    EMU_UNCHECKED inline T name(const T* address, EMU_HERE) {                   \
        emu::check_if_built(address, sizeof(T), emu::Access::access, EMU_SITE); \
        return *address;                                                        \
    }
EMU_LOAD(__ldg, ReadOnly)
EMU_LOAD(__ldca, Read)
EMU_LOAD(__ldcs, Read)
EMU_LOAD(__ldcg, VolatileRead)
EMU_LOAD(__ldcv, VolatileRead)

#define EMU_STORE(name)                                                        \
    template <class T>                                                         \
    EMU_UNCHECKED inline void name(T* address, T value, EMU_HERE) {            \
        emu::check_if_built(address, sizeof(T), emu::Access::Write, EMU_SITE); \
        *address = value;                                                      \
    }
EMU_STORE(__stcg)
EMU_STORE(__stcs)
EMU_STORE(__stwt)

// ---- memcpy and memset: the compiler does not instrument calls of these
namespace emu {

inline void* copy_bytes(void* target, const void* source, size_t bytes, EMU_HERE) {
    check_if_built(source, bytes, Access::Read, EMU_SITE);
    check_if_built(target, bytes, Access::Write, EMU_SITE);
    return __builtin_memcpy(target, source, bytes);
}

inline void* fill_bytes(void* target, int value, size_t bytes, EMU_HERE) {
    check_if_built(target, bytes, Access::Write, EMU_SITE);
    return __builtin_memset(target, value, bytes);
}

}  // namespace emu

#define memcpy(target, source, bytes) emu::copy_bytes(target, source, bytes)
#define memset(target, value, bytes) emu::fill_bytes(target, value, bytes)
