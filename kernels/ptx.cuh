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

__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Wait until at most `PENDING` of this thread's groups are still under way.
template <int PENDING>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
#endif
