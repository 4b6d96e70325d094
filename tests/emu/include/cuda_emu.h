// CUDA C++ as plain C++17: this comes in front of a kernel's text.
#pragma once
#define __CUDA_ARCH__ 900

#include "cuda_fp16.h"
#include "emu_bits.h"
#include "emu_math.h"
#include "emu_memory.h"
#include "emu_threads.h"
#include "ptx_host.h"

extern "C" int printf(const char* format, ...) __attribute__((format(printf, 1, 2)));

inline void __trap(EMU_HERE) { emu::fail_at(EMU_SITE, "__trap()"); }

#define assert(condition) \
    ((condition)          \
         ? (void)0        \
         : emu::fail_at(emu::Site{__FILE__, __LINE__}, "assertion failed: %s", #condition))
