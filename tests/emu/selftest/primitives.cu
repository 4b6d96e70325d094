// What kernels are made of, each used rightly. test_emulator.py computes the same with NumPy.
#include <cuda_fp16.h>

#include "ptx_host.h"

struct Args {
    const int* in;
    int* out;
    int n;
};

// Row `row` of the results, one column for each thread of a block of 64.
__device__ int& result(const Args& a, int row) { return a.out[row * 64 + threadIdx.x]; }

extern "C" __global__ void __launch_bounds__(64) shuffles(const Args a) {
    int v = a.in[threadIdx.x];
    long long wide = static_cast<long long>(v) << 32 | 77;
    result(a, 0) = __shfl_sync(~0u, v, 9, 16);
    result(a, 1) = __shfl_xor_sync(~0u, v, 5);
    result(a, 2) = __shfl_up_sync(~0u, v, 3);
    result(a, 3) = __shfl_down_sync(~0u, v, 3, 8);
    result(a, 4) = static_cast<int>(__shfl_xor_sync(~0u, wide, 1) >> 32);
    result(a, 5) = static_cast<int>(__shfl_up_sync(~0u, static_cast<double>(v), 1));
    result(a, 6) = threadIdx.x % 32 < 8 ? __shfl_sync(0xffu, v, 20) : 0;  // lane 20 is not there
}

extern "C" __global__ void __launch_bounds__(64) votes(const Args a) {
    int v = a.in[threadIdx.x];
    result(a, 0) = __ballot_sync(~0u, v & 1);
    result(a, 1) = __any_sync(~0u, v == 7);
    result(a, 2) = __all_sync(~0u, v > -1000);
    result(a, 3) = __match_any_sync(~0u, v & 3);
    result(a, 4) = __match_any_sync(~0u, static_cast<unsigned long long>(v & 3) << 40);
    result(a, 5) = __reduce_add_sync(~0u, v);
    result(a, 6) = __reduce_min_sync(~0u, v);
    result(a, 7) = __reduce_max_sync(~0u, static_cast<unsigned>(v));
    result(a, 8) = __reduce_and_sync(~0u, static_cast<unsigned>(v) | 7u);
    result(a, 9) = __reduce_or_sync(~0u, static_cast<unsigned>(v) & 7u);
    result(a, 10) = __reduce_xor_sync(~0u, static_cast<unsigned>(v));
    result(a, 11) = __syncthreads_count(v & 1);
    result(a, 12) = __syncthreads_or(v == a.in[3]);
    result(a, 13) = __syncthreads_and(v > 0);
}

extern "C" __global__ void __launch_bounds__(64) bits(const Args a) {
    int v = a.in[threadIdx.x];
    unsigned u = static_cast<unsigned>(v);
    result(a, 0) = __popc(u) + 100 * __popcll(static_cast<unsigned long long>(u) << 20);
    result(a, 1) = __clz(v) + 100 * __clzll(static_cast<long long>(u));
    result(a, 2) = __ffs(v) + 100 * __ffsll(static_cast<long long>(u) << 20);
    result(a, 3) = __brev(u);
    result(a, 4) = __byte_perm(u, ~u, 0x5140);
    result(a, 5) = __byte_perm(u, ~u, 0x89ab);
    result(a, 6) = __dp4a(v, v * 77, 3);
    result(a, 7) = __dp4a(u, u * 77u, 3u);
    result(a, 8) = __umulhi(u, 0x9e3779b9u);
    result(a, 9) = min(u, 5) + max(-1, v) + min(3ll, static_cast<long long>(v));
    result(a, 10) = __float_as_int(__fmaf_rn(v, 1.1f, 0.3f));
    result(a, 11) = __float2int_rn(v * 0.5f);
    result(a, 12) = __float_as_int(__double2float_rn(__dmul_rn(v, 0.1)));
    result(a, 13) = __double_as_longlong(__fma_rn(v, 0.1, 0.3)) >> 7;
    result(a, 14) = __float_as_int(min(__int_as_float(0x7fc00000), 2.0f));
    result(a, 15) = isnan(__int_as_float(0x7fc00000)) + 2 * isinf(__int_as_float(0x7f800000));
    result(a, 16) = __float_as_int(nextafterf(v, 1e30f));
}

struct Halves {
    const half* a;
    const half* b;
    half* out;
    float* as_float;
    int n;
};

extern "C" __global__ void __launch_bounds__(256) halves(const Halves h) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    half* row = h.out + i;
    h.as_float[i] = __half2float(h.a[i]);
    row[0 * h.n] = __hadd(h.a[i], h.b[i]);
    row[1 * h.n] = h.a[i] * h.b[i];
    row[2 * h.n] = __hsub(h.a[i], h.b[i]);
    row[3 * h.n] = __hfma(h.a[i], h.b[i], h.a[i]);
    half2 pair = __hadd2(__halves2half2(h.a[i], h.b[i]), __float2half2_rn(1.0f));
    row[4 * h.n] = __low2half(pair);
    row[5 * h.n] = __high2half(pair);
}

struct ToHalf {
    const float* in;
    half* out;
    int n;
};

extern "C" __global__ void __launch_bounds__(256) to_half(const ToHalf a) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < a.n) {
        a.out[i] = __float2half_rn(a.in[i]);
    }
}

// Each block reverses its elements through dynamic shared memory, four at a time.
extern "C" __global__ void __launch_bounds__(64) reverse(const Args a) {
    EXTERN_SHARED(int4, tile);
    int t = threadIdx.x;
    tile[t] = reinterpret_cast<const int4*>(a.in)[blockIdx.x * 64 + t];
    __syncthreads();
    int4 v = tile[63 - t];
    reinterpret_cast<int4*>(a.out)[blockIdx.x * 64 + t] = make_int4(v.w, v.z, v.y, v.x);
    if (reinterpret_cast<size_t>(tile) % 1024 != 0) {
        __trap();
    }
}

// All neighbours of a warp exchange through shared memory.
extern "C" __global__ void __launch_bounds__(64) warp_exchange(const Args a) {
    __shared__ int slots[64];
    int t = threadIdx.x;
    slots[t] = a.in[t];
    __syncwarp();
    a.out[t] = slots[t ^ 1];
}

extern "C" __global__ void __launch_bounds__(64) atomics(const Args a) {
    int v = a.in[blockIdx.x * 64 + threadIdx.x];
    unsigned u = static_cast<unsigned>(v);
    unsigned* bits = reinterpret_cast<unsigned*>(a.out);
    atomicAdd(&a.out[v & 7], v);
    atomicSub(&a.out[8], v);
    atomicMin(&a.out[9], v);
    atomicMax(&a.out[10], v);
    atomicAnd(&bits[11], u | 255u);
    atomicOr(&bits[12], u & 255u);
    atomicXor(&bits[13], u);
    atomicAdd(reinterpret_cast<unsigned long long*>(&a.out[14]), 1ull << 33);
    atomicAdd(reinterpret_cast<float*>(&a.out[16]), 0.5f);
}

struct Sum {
    const int* in;
    int* partial;
    unsigned* counter;
    int* out;
    int n;
};

// The block that counts last adds the sums of all blocks.
extern "C" __global__ void __launch_bounds__(64) last_block(const Sum a) {
    __shared__ int sums[64];
    __shared__ bool is_last;
    int t = threadIdx.x;
    int i = blockIdx.x * 64 + t;
    sums[t] = i < a.n ? a.in[i] : 0;
    __syncthreads();
    for (int half = 32; half > 0; half /= 2) {
        if (t < half) {
            sums[t] += sums[t + half];
        }
        __syncthreads();
    }
    if (t == 0) {
        a.partial[blockIdx.x] = sums[0];
        __threadfence();
        is_last = atomicAdd(a.counter, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (is_last && t == 0) {
        int sum = 0;
        for (int b = 0; b < gridDim.x; b++) {
            sum += __ldcg(&a.partial[b]);
        }
        a.out[0] = sum;
    }
}

// out[0] counts all threads under a lock in out[1].
extern "C" __global__ void __launch_bounds__(64) spin_lock(const Args a) {
    bool done = false;
    while (!done) {
        if (atomicCAS(&a.out[1], 0, 1) == 0) {
            volatile int* count = &a.out[0];
            *count = *count + 1;
            __threadfence();
            atomicExch(&a.out[1], 0);
            done = true;
        }
    }
}

// The sum of a.n tiles, the next one copied while the last one is added.
extern "C" __global__ void __launch_bounds__(64) copy_pipeline(const Args a) {
    __shared__ int4 tiles[2][64];
    int t = threadIdx.x;
    int sum = 0;
    cp_async_16(&tiles[0][t], a.in + 4 * t);
    cp_async_commit();
    for (int k = 0; k < a.n; k++) {
        bool more = k + 1 < a.n;
        cp_async_16_zfill(&tiles[(k + 1) % 2][t], a.in + ((k + 1) * 64 + t) * 4, more);
        cp_async_commit();
        cp_async_wait<1>();
        __syncthreads();
        int4 v = tiles[k % 2][63 - t];
        sum += v.x + v.y + v.z + v.w;
        __syncthreads();
    }
    cp_async_wait<0>();
    a.out[t] = sum + tiles[a.n % 2][t].x;
}

extern "C" __global__ void __launch_bounds__(64)
    parameters(char c, const int* in, short s, double d, float f, int* out, long long l) {
    out[0] = c + in[0] + s + static_cast<int>(d) + static_cast<int>(f) + static_cast<int>(l);
}

extern "C" __global__ void __launch_bounds__(64) where(const Args a) {
    int blocks = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    int t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    a.out[blocks * (blockDim.x * blockDim.y * blockDim.z) + t] = blocks * 1000 + t;
}

struct Fragments {
    const half* a;   // (16, 16)
    const half* b;   // (8, 16), rows are the columns of the product
    const float* c;  // (16, 8)
    float* d;        // (16, 8)
};

// One product of a warp.
extern "C" __global__ void __launch_bounds__(32) tensor_product(const Fragments f) {
    const int lane = threadIdx.x, group = lane / 4, place = lane % 4;
    const unsigned* a = reinterpret_cast<const unsigned*>(f.a);  // two a word
    const unsigned* b = reinterpret_cast<const unsigned*>(f.b);
    unsigned left[4], right[2];
    float product[4];
    for (int i = 0; i < 4; i++) {
        left[i] = a[(group + 8 * (i % 2)) * 8 + place + 4 * (i / 2)];
        product[i] = f.c[(group + 8 * (i / 2)) * 8 + 2 * place + i % 2];
    }
    for (int i = 0; i < 2; i++) {
        right[i] = b[group * 8 + place + 4 * i];
    }
    mma_f16(product, left, right, product);
    for (int i = 0; i < 4; i++) {
        f.d[(group + 8 * (i / 2)) * 8 + 2 * place + i % 2] = product[i];
    }
}
