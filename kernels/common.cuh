// Types, constants and the few lines that every kernel needs.
//
// Each operation is one text: this header and the others are spliced in by gpuann/cuda/source.py,
// which also writes out ENTRY(name) and puts the constants of the variant in front. NVRTC has no
// standard headers, so the types and constants below are ours.
#pragma once

typedef long long i64;
typedef unsigned u32;
typedef unsigned long long u64;
typedef signed char i8;
typedef unsigned char u8;

constexpr int WARP = 32;
constexpr u32 ALL_LANES = 0xffffffffu;

__device__ __forceinline__ float positive_infinity() { return __int_as_float(0x7f800000); }

__device__ __forceinline__ i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }

constexpr double UNIT = 5.9604644775390625e-8;   // 2^-24, half a unit in the last place
constexpr double TINY = 1.1754943508222875e-38;  // 2^-126, what underflow can take
constexpr int MARGIN = 16;                       // roundings beside those of the sum

// How far a float32 score over `dim` components, whose products sum to at most `size`, can lie from
// the canonical distance: see numpy_ops/_slack.py.
__device__ __forceinline__ double rounding(int dim, double size) {
    return (dim + MARGIN) * (UNIT * size + TINY);
}

// The smallest float32 at or above x.
__device__ __forceinline__ float rounded_up(double x) {
    const float nearest = __double2float_rn(x);
    return (double)nearest < x ? nextafterf(nearest, positive_infinity()) : nearest;
}

// Which thread of the whole grid this is; grids of such kernels have one axis.
__device__ __forceinline__ i64 global_thread() { return (i64)blockIdx.x * BLOCK + threadIdx.x; }

// The last i in [0, n) with first[i] <= at, for ascending first[0] <= at.
__device__ __forceinline__ int last_at_or_before(const i64* first, int n, i64 at) {
    int low = 0, high = n - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (first[middle] <= at) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

// Sum over the 8 lanes of a group (see canonical.cuh); every lane gets it.
__device__ __forceinline__ float group_sum(float x) {
    x += __shfl_xor_sync(ALL_LANES, x, 4);
    x += __shfl_xor_sync(ALL_LANES, x, 2);
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x;
}
