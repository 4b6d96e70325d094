// A tile of dot products: 64 rows of one matrix times 64 rows of another, by 256 threads.
//
// Sixteen components at a time go through shared memory; thread (y, x) of 16 x 16 keeps the 4 x 4
// products of its rows 4y.. and columns 4x... Both sides come from functors with
//     void load(int row, int d, float (&x)[4])
// that give components d .. d + 3 of a row, zero where there is none.
#pragma once
#include "common.cuh"

constexpr int TILE = 64;         // rows of either side
constexpr int STEP = 16;         // components at a time
constexpr int PITCH = TILE + 4;  // floats; a multiple of 4, and columns start in different banks

struct TileMemory {
    float a[STEP][PITCH];
    float b[STEP][PITCH];
};

__device__ __forceinline__ int tile_x() { return threadIdx.x % 16; }
__device__ __forceinline__ int tile_y() { return threadIdx.x / 16; }

// acc[i][j] += sum over d of combine(a(4 tile_y + i, d), b(4 tile_x + j, d)).
template <class A, class B, class Combine>
__device__ __forceinline__ void tile_product(const A& a, const B& b, int dim, TileMemory& memory,
                                             const Combine& combine,
                                             typename Combine::Sum (&acc)[4][4]) {
    static_assert(BLOCK == 256, "a tile is worked on by 16 x 16 threads");
    const int row = threadIdx.x / 4, first = threadIdx.x % 4 * 4;  // what this thread loads
    for (int d = 0; d < dim; d += STEP) {
        float x[4], y[4];
        a.load(row, d + first, x);
        b.load(row, d + first, y);
        __syncthreads();  // the last step has been read
#pragma unroll
        for (int i = 0; i < 4; i++) {
            memory.a[first + i][row] = x[i];
            memory.b[first + i][row] = y[i];
        }
        __syncthreads();  // the step is there
        const int end = dim - d < STEP ? dim - d : STEP;
#pragma unroll 4
        for (int s = 0; s < end; s++) {
            const float4 u = *reinterpret_cast<const float4*>(&memory.a[s][4 * tile_y()]);
            const float4 v = *reinterpret_cast<const float4*>(&memory.b[s][4 * tile_x()]);
            const float left[4] = {u.x, u.y, u.z, u.w}, right[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    acc[i][j] = combine(left[i], right[j], acc[i][j]);
                }
            }
        }
    }
}

// Exact where 53 bits hold every partial sum, as they do for rotations.
struct Multiply {
    typedef double Sum;
    __device__ double operator()(float a, float b, double sum) const {
        return fma((double)a, (double)b, sum);
    }
};

struct SquareDifference {
    typedef float Sum;
    __device__ float operator()(float a, float b, float sum) const {
        const float difference = __fsub_rn(a, b);
        return fmaf(difference, difference, sum);
    }
};

// out = from[0 .. 3], zero from `left` on; at once where `whole`: multiples of 16 bytes then.
__device__ __forceinline__ void load_four(const float* from, int left, bool whole,
                                          float (&out)[4]) {
    if (whole && left >= 4) {
        const float4 four = *reinterpret_cast<const float4*>(from);
        out[0] = four.x, out[1] = four.y, out[2] = four.z, out[3] = four.w;
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            out[i] = i < left ? from[i] : 0.0f;
        }
    }
}

// Whether every row of a float32 matrix begins at a multiple of 16 bytes.
__device__ __forceinline__ bool rows_are_aligned(const float* x, int dim) {
    return dim % 4 == 0 && (reinterpret_cast<u64>(x) & 15) == 0;
}

// Rows of a row-major float32 matrix, from row `first` on, `n` of them.
struct MatrixRows {
    const float* x;  // (.., dim)
    i64 first;
    int n, dim;
    bool whole;  // four components may be loaded at once

    __device__ MatrixRows(const float* x_, i64 first_, i64 end, int dim_)
        : x(x_), first(first_), dim(dim_) {
        n = end - first < TILE ? (int)(end - first) : TILE;
        whole = rows_are_aligned(x, dim);
    }

    __device__ void load(int row, int d, float (&out)[4]) const {
        load_four(x + (first + row) * dim + d, row < n ? dim - d : 0, whole, out);
    }
};
