// All inline PTX of the project, one small function each; nothing else is written twice.
//
// On the CPU emulator (GPUANN_EMU) functions of the same names come from its ptx_host.h.
#pragma once
#ifdef GPUANN_EMU
#include "ptx_host.h"
#else
#define EXTERN_SHARED(T, name)                                            \
    extern __shared__ __align__(16) unsigned char dynamic_shared_bytes[]; \
    T* name = reinterpret_cast<T*>(dynamic_shared_bytes)

__device__ __forceinline__ u32 shared_address(const void* p) {
    return static_cast<u32>(__cvta_generic_to_shared(p));
}

// Copy 16 bytes from global to shared memory without a register; both 16-byte aligned. The bytes
// are there after cp_async_wait and a barrier.
__device__ __forceinline__ void cp_async_16(void* to_shared, const void* from_global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to_shared)),
                 "l"(from_global)
                 : "memory");
}

// d = a b + c on tensor cores: a 16 x 16 and b 16 x 8 of fp16, two a word, c and d 16 x 8 float32; of
// lane 4 g + t   a[i] is row g + 8 (i % 2), columns 2 t + 8 (i / 2) and the next;
//                b[i] is rows 2 t + 8 i and the next, column g;
//                c[i] and d[i] are row g + 8 (i / 2), column 2 t + i % 2.
__device__ __forceinline__ void mma_f16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2],
                                        const float (&c)[4]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
          "f"(c[2]), "f"(c[3]));
}

__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Wait until at most `PENDING` of this thread's groups are still under way.
template <int PENDING>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
#endif
