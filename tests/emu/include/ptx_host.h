// Host versions of the inline PTX in the kernels' ptx.cuh.
//
// A copy is made when it is waited for, as late as the GPU may make it: a missing wait reads old
// data. cuda_emu.h includes this file before the text, whose own #include then adds nothing.
#pragma once
#include "emu_threads.h"

inline void cp_async_16(void* shared, const void* global, EMU_HERE) {
    emu::copy_async(shared, global, 16, EMU_SITE);
}

inline void cp_async_16_zfill(void* shared, const void* global, bool valid, EMU_HERE) {
    emu::copy_async(shared, global, valid ? 16 : 0, EMU_SITE);
}

inline void mma_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                    const float (&c)[4], EMU_HERE) {
    emu::multiply_f16(d, a, b, c, EMU_SITE);
}

inline void cp_async_commit() { emu::copy_async_commit(); }

template <int N>
inline void cp_async_wait() {
    emu::copy_async_wait(N);
}
