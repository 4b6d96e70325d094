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

// The row of 16 bytes is read by the lane that names it, where the checker sees it.
inline void ldmatrix_x4(unsigned (&words)[4], const void* row, EMU_HERE) {
    if (reinterpret_cast<unsigned long long>(row) % 16) {
        emu::fail_at(EMU_SITE, "ldmatrix from a misaligned address: %p", row);
    }
    const uint4 own = *static_cast<const uint4*>(row);
    emu::distribute_rows({own.x, own.y, own.z, own.w}, words, EMU_SITE);
}

inline void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                     const float (&c)[4], EMU_HERE) {
    emu::multiply_tf32(d, a, b, c, EMU_SITE);
}

inline void mma_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                    const float (&c)[4], EMU_HERE) {
    emu::multiply_f16(d, a, b, c, EMU_SITE);
}

// To the nearest number of 10 mantissa bits, halves away from zero.
inline unsigned to_tf32(float x) {
    const unsigned bits = static_cast<unsigned>(emu::to_bits(x));
    return x != x ? 0x7fffffffu : (bits + 0x1000u) & 0xffffe000u;
}

inline void cp_async_commit() { emu::copy_async_commit(); }

template <int N>
inline void cp_async_wait() {
    emu::copy_async_wait(N);
}
