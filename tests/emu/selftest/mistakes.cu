// Kernels with one mistake each. "MISTAKE: words" stands where the checked build must report these
// words, "either" where one of several lines is right. "FATAL" is found by the fast build too.
#include "ptx_host.h"

struct Args {
    float* x;
    float* y;
    int* counter;
    int n;
};

// ---- bounds and alignment
extern "C" __global__ void __launch_bounds__(64) index_past_array(const Args a) {
    __shared__ float tile[64];
    __shared__ float other[64];
    tile[threadIdx.x] = 0;
    other[threadIdx.x] = 0;
    __syncthreads();
    a.x[threadIdx.x] = tile[threadIdx.x + 1] + other[0];  // MISTAKE: array index out of bounds
}
extern "C" __global__ void __launch_bounds__(64) pointer_past_array(const Args a) {
    __shared__ float tile[64];
    float* p = tile;
    p[threadIdx.x] = 0;
    __syncthreads();
    a.x[threadIdx.x] = p[threadIdx.x + 64 * a.n];  // MISTAKE: out-of-bounds read of 4 bytes
}
extern "C" __global__ void __launch_bounds__(64) past_dynamic(const Args a) {
    EXTERN_SHARED(float, tile);
    tile[threadIdx.x] = 0;  // MISTAKE: past the end of dynamic shared memory (128 bytes)
}
extern "C" __global__ void __launch_bounds__(64) past_buffer(const Args a) {
    a.x[threadIdx.x + 1] = 0;  // MISTAKE: write of 4 bytes, 0 bytes past the end of x (256 bytes)
}
extern "C" __global__ void __launch_bounds__(64) before_buffer(const Args a) {
    a.x[static_cast<int>(threadIdx.x) - 1] = 0;  // MISTAKE: 4 bytes before the start of x
}
extern "C" __global__ void __launch_bounds__(64) straddles_end(const Args a) {
    float4* quads = reinterpret_cast<float4*>(a.y);
    atomicAdd(reinterpret_cast<double*>(&quads[3].w), 1.0);  // MISTAKE: of 8 bytes at byte 60 of y
}
extern "C" __global__ void __launch_bounds__(64) null_pointer(const Args a) {
    if (a.n > 0) a.x[0] = *reinterpret_cast<float*>(threadIdx.x * 4ull);  // MISTAKE: no buffer is
}
extern "C" __global__ void __launch_bounds__(64) past_memcpy(const Args a) {
    float local[4];
    memcpy(local, a.x + 61 + (a.n & 0), 16);  // MISTAKE: out-of-bounds read of 16 bytes at byte 244
    a.y[0] = local[0];
}
extern "C" __global__ void __launch_bounds__(64) misaligned(const Args a) {
    float4 v = *reinterpret_cast<const float4*>(a.x + 1);  // MISTAKE: misaligned
    a.y[0] = v.x;
}
extern "C" __global__ void __launch_bounds__(64) others_local(const Args a) {
    __shared__ float* pointer;
    float local = threadIdx.x;
    if (threadIdx.x == 0) pointer = &local;
    __syncthreads();
    a.x[threadIdx.x] = *pointer;  // MISTAKE: local variable of another thread
}

// ---- shared memory between threads
extern "C" __global__ void __launch_bounds__(64) uninitialised(const Args a) {
    __shared__ float tile[64];
    if (threadIdx.x < 63) tile[threadIdx.x] = 1;
    __syncthreads();
    a.x[threadIdx.x] = tile[threadIdx.x];  // MISTAKE: uninitialised shared memory: __shared__ tile
}
extern "C" __global__ void __launch_bounds__(64) no_barrier_before_read(const Args a) {
    __shared__ float tile[64];
    for (int i = 0; i < 2; i++) {
        __syncthreads();
        tile[threadIdx.x] = i;  // MISTAKE either: race on __shared__ tile
        if (i == 0) __syncthreads();
        a.x[threadIdx.x] = tile[threadIdx.x ^ 32];  // MISTAKE either: race on __shared__ tile
    }
}
extern "C" __global__ void __launch_bounds__(64) no_barrier_after_read(const Args a) {
    EXTERN_SHARED(float, tile);
    for (int i = 0; i < 2; i++) {
        if (threadIdx.x < 32) tile[threadIdx.x] = i;  // MISTAKE either: race on dynamic
        __syncthreads();
        a.x[threadIdx.x] = tile[31 - threadIdx.x % 32];  // MISTAKE either: race on dynamic
    }
}
extern "C" __global__ void __launch_bounds__(64) write_after_read(const Args a) {
    __shared__ float tile[64];
    tile[threadIdx.x] = 1;
    __syncthreads();
    float v = tile[threadIdx.x ^ 1];  // MISTAKE either: race on __shared__ tile
    tile[threadIdx.x] = v + 1;        // MISTAKE either: race on __shared__ tile
}
extern "C" __global__ void __launch_bounds__(64) no_syncwarp(const Args a) {
    __shared__ float tile[64];
    tile[threadIdx.x] = 1;
    __syncthreads();
    tile[threadIdx.x] = threadIdx.x;           // MISTAKE either: race on __shared__ tile
    a.x[threadIdx.x] = tile[threadIdx.x ^ 1];  // MISTAKE either: race on __shared__ tile
}
extern "C" __global__ void __launch_bounds__(64) shuffle_as_fence(const Args a) {
    __shared__ float tile[64];
    tile[threadIdx.x] = threadIdx.x;
    int other = __shfl_xor_sync(~0u, static_cast<int>(threadIdx.x), 1);
    a.x[threadIdx.x] = tile[other];  // MISTAKE: with no barrier between
}
extern "C" __global__ void __launch_bounds__(64) global_race(const Args a) {
    a.x[threadIdx.x] = 1;             // MISTAKE either: race on x byte
    float v = a.x[63 - threadIdx.x];  // MISTAKE either: race on x byte
    a.x[threadIdx.x] = v + 1;         // MISTAKE either: race on x byte
}
extern "C" __global__ void __launch_bounds__(64) atomic_and_store(const Args a) {
    if (threadIdx.x == 0) {
        a.x[0] = 5;  // MISTAKE either: race on x byte 0
    } else {
        atomicAdd(&a.x[0], 1.0f);  // MISTAKE either: race on x byte 0
    }
}
extern "C" __global__ void __launch_bounds__(64) read_among_atomics(const Args a) {
    __shared__ int count;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    atomicAdd(&count, 1);      // MISTAKE either: race on __shared__ count
    a.x[threadIdx.x] = count;  // MISTAKE either: race on __shared__ count
}

// ---- blocks
extern "C" __global__ void __launch_bounds__(64) blocks_overlap(const Args a) {
    if (threadIdx.x < 33)
        a.x[threadIdx.x + 31 * blockIdx.x] = 1;  // MISTAKE: by another block, and nothing orders
}
extern "C" __global__ void __launch_bounds__(64) blocks_write_then_read(const Args a) {
    if (blockIdx.x == 0) {
        a.x[threadIdx.x] = 1;            // MISTAKE either: another block
    } else if (a.x[threadIdx.x] == 2) {  // MISTAKE either: another block
        a.y[threadIdx.x & 15] = 1;
    }
}
extern "C" __global__ void __launch_bounds__(64) blocks_read_counter(const Args a) {
    if (threadIdx.x == 0) {
        atomicAdd(a.counter, 1);       // MISTAKE either: race on counter byte 0
        a.x[blockIdx.x] = *a.counter;  // MISTAKE either: race on counter byte 0
    }
}
extern "C" __global__ void __launch_bounds__(64) blocks_without_fence(const Args a) {
    if (threadIdx.x == 0) {
        a.x[blockIdx.x] = 1;
        if (atomicAdd(a.counter, 1) == 1)
            a.y[0] = __ldcg(&a.x[0]) + __ldcg(&a.x[1]);  // MISTAKE: without a __threadfence since
    }
}
extern "C" __global__ void __launch_bounds__(64) ldg_of_written(const Args a) {
    a.x[threadIdx.x] = 1;
    a.x[threadIdx.x] = __ldg(&a.x[threadIdx.x]) + 1;  // MISTAKE: which was written in this launch
}

// ---- cp.async
extern "C" __global__ void __launch_bounds__(64) copy_not_waited_for(const Args a) {
    __shared__ float4 tile[64];
    if (threadIdx.x < 4) cp_async_16(&tile[threadIdx.x], a.y + 4 * threadIdx.x);
    cp_async_commit();
    __syncthreads();
    if (threadIdx.x < 4) a.x[threadIdx.x] = tile[threadIdx.x].x;  // MISTAKE: in flight
    cp_async_wait<0>();
}
extern "C" __global__ void __launch_bounds__(64) copy_waited_for_too_weakly(const Args a) {
    __shared__ float4 tile[64];
    cp_async_16(&tile[threadIdx.x], a.x + (threadIdx.x & 12));
    cp_async_commit();
    cp_async_wait<1>();
    a.y[threadIdx.x & 15] = tile[threadIdx.x].x;  // MISTAKE: in flight
    cp_async_wait<0>();
}
extern "C" __global__ void __launch_bounds__(64) copy_never_waited_for(const Args a) {
    __shared__ float4 tile[64];
    cp_async_16(&tile[threadIdx.x], a.x);  // FATAL: copies never waited for
    cp_async_commit();
}
extern "C" __global__ void __launch_bounds__(64) copy_overwritten(const Args a) {
    __shared__ float4 tile[64];
    cp_async_16_zfill(&tile[threadIdx.x], a.x, false);
    tile[threadIdx.x].y = 1;  // MISTAKE: write of __shared__ tile byte
    cp_async_commit();
    cp_async_wait<0>();
}
extern "C" __global__ void __launch_bounds__(64) copy_read_without_barrier(const Args a) {
    __shared__ float4 tile[64];
    cp_async_16(&tile[threadIdx.x], a.x);  // MISTAKE either: in flight
    cp_async_commit();
    cp_async_wait<0>();
    a.y[threadIdx.x & 15] = tile[threadIdx.x ^ 1].x;  // MISTAKE either: tile byte
}
extern "C" __global__ void __launch_bounds__(64) copy_misaligned(const Args a) {
    __shared__ float4 tile[64];
    cp_async_16(&tile[threadIdx.x], a.x + 1);  // FATAL: misaligned addresses
    cp_async_wait<0>();
}

// ---- threads that do not meet
extern "C" __global__ void __launch_bounds__(64) divergent_barrier(const Args a) {
    if (threadIdx.x < 32) {
        __syncthreads();  // FATAL either: divergent __syncthreads
    } else {
        __syncthreads();  // FATAL either: divergent __syncthreads
    }
}
extern "C" __global__ void __launch_bounds__(64) skipped_barrier(const Args a) {
    if (threadIdx.x < 40) {
        __syncthreads();  // FATAL: deadlock
    }
    __syncwarp();
}
extern "C" __global__ void __launch_bounds__(64) divergent_shuffle(const Args a) {
    if (threadIdx.x < 8) {
        a.x[threadIdx.x] = __shfl_sync(~0u, 1, 0);  // FATAL either: divergent warp operation
    } else {
        a.x[threadIdx.x] = __shfl_sync(~0u, 2, 0);  // FATAL either: divergent warp operation
    }
}
extern "C" __global__ void __launch_bounds__(64) lane_not_in_mask(const Args a) {
    a.x[threadIdx.x] = __shfl_sync(0xffu, 1, 0);  // FATAL: is not in its mask 000000ff
}

// ---- tensor cores
extern "C" __global__ void __launch_bounds__(64) lanes_missing(const Args a) {
    if (threadIdx.x % 32 >= 30) return;
    float d[4] = {};
    const unsigned left[4] = {}, right[2] = {};
    mma_f16(d, left, right, d);  // FATAL either: needs all lanes
    a.x[threadIdx.x] = d[0];
}

// ---- the rest
extern "C" __global__ void __launch_bounds__(64) endless_wait(const Args a) {
    volatile float* p = a.x;
    while (p[0] >= 0.0f) continue;  // FATAL: time limit
}
extern "C" __global__ void __launch_bounds__(64) endless_sum(const Args a) {
    unsigned i = 1;
    while (i != 0) i = i * 3u;  // FATAL: time limit
    a.x[0] = i;
}
__device__ __noinline__ int deep(int n) {
    volatile int local[256];
    local[n & 255] = n;
    return n <= 0 ? 0 : deep(n - 1) + local[n & 255];
}
extern "C" __global__ void __launch_bounds__(64) recursion(const Args a) {
    a.x[threadIdx.x] = deep(100000);
}
extern "C" __global__ void __launch_bounds__(64) division(const Args a) {
    a.x[threadIdx.x] = 100 / a.counter[0];  // FATAL: division by zero
}
extern "C" __global__ void __launch_bounds__(64) shift(const Args a) {
    a.x[threadIdx.x] = 1 << (threadIdx.x + 1);  // MISTAKE: shift out of range
}
extern "C" __global__ void __launch_bounds__(64) assertion(const Args a) {
    assert(threadIdx.x < 63);  // FATAL: assertion failed: threadIdx.x < 63
}
extern "C" __global__ void __launch_bounds__(64) trap(const Args a) {
    if (threadIdx.x == 5) __trap();  // FATAL: __trap()
}

// ---- no mistake
extern "C" __global__ void __launch_bounds__(64) control(const Args a) {
    __shared__ float tile[64];
    __shared__ float4 copied[64];
    int t = threadIdx.x;
    for (int i = 0; i < 3; i++) {
        tile[t] = i;
        __syncthreads();
        a.x[t] = tile[t ^ 33];
        __syncthreads();
    }
    tile[t] = t;
    __syncwarp();
    a.x[t] += tile[t ^ 1];
    cp_async_16_zfill(&copied[t], a.y, t < 32);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    a.x[t] += copied[t ^ 32].y;
}
