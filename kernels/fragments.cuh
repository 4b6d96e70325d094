// Products on tensor cores: TILE rows in shared memory times 32 rows that a warp reads by itself, in
// fp16, summed in float32. What errs is allowed for by whoever compares: canonical distances decide.
//
// A product is a sum over components in any order. So a lane takes the same components of both
// sides, wherever `mma` says that they belong: of every STEP lane 4 g + t takes 8 t .. 8 t + 7, one
// load of 16 bytes, which is what two mma need of a row. Rows stay in the order they are stored in.
// Of a last step with 16 components or less it takes 4 t .. 4 t + 3, which is one mma.
//
//     acc[m][n][i] is row 16 m + g + 8 (i / 2) of the tile     tile_row(m, i)
//               times row 8 n + 2 t + i % 2 of the warp's      warp_row(n, i)
#pragma once
#include <cuda_fp16.h>

#include "common.cuh"
#include "ptx.cuh"

constexpr int ROWS = 32;             // rows of a warp
constexpr int STEP = 32;             // components at a time
constexpr int DEPTH = 256;           // components of the tile that are in shared memory at a time
constexpr int WARPS = BLOCK / WARP;  // of a block, which share the tile
constexpr int LONGEST = 15;          // fp16 ends at 65504: components are scaled to less than 2^15
constexpr int MOST_SCALED = 74;      // and by no more than 2^74, so that two scales have an inverse

typedef float Product[TILE / 16][ROWS / 8][4];

template <int N>
struct alignas(4 * N) Words {
    u32 x[N];
};

__device__ __forceinline__ int lane() { return threadIdx.x % WARP; }

__device__ __forceinline__ int tile_row(int m, int i) { return 16 * m + lane() / 4 + 8 * (i / 2); }

__device__ __forceinline__ int warp_row(int n, int i) { return 8 * n + lane() % 4 * 2 + i % 2; }

__device__ __forceinline__ u32 two_halves(float low, float high) {
    const __half2 both = __floats2half2_rn(low, high);
    return *reinterpret_cast<const u32*>(&both);
}

// e so that rows of this length, times 2^e, are fit for fp16.
__device__ __forceinline__ int half_exponent(float length) {
    const int above =
        (int)(__float_as_uint(length) >> 23 & 255) - 126;  // the length is under 2^above
    return LONGEST - above < MOST_SCALED ? LONGEST - above : MOST_SCALED;
}

__device__ __forceinline__ float power_of_two(int e) {
    return __uint_as_float((u32)(e + 127) << 23);
}

// What a product of two vectors loses of the product of their lengths: 2^-11 for either side's
// components, 2^-22 for each sum, for tensor cores may cut off.
__device__ __forceinline__ double half_relative(int dim) {
    return 1.002 / 1024 + (dim + MARGIN) * (1.0 / (1 << 22));
}

// By how much a product of two vectors of these lengths, scaled so, may err. A component that is far
// smaller than the longest loses 2^-25 of fp16's unit instead: 2^-39 of the length, for which 1.002
// has room, or 2^-99 where the scale is limited.
__device__ __forceinline__ double half_rounding(int dim, double left, double right) {
    return left * right * half_relative(dim) + dim * 0x1p-98 * (left + right);
}

// Words from a row of the tile to the next: 64 bytes more than a multiple of 128, so that the eight
// lanes which read at the same time, four of each of two rows, find 32 different banks.
__device__ __forceinline__ int tile_pitch(int depth) { return depth / 2 + (depth % 64 ? 0 : 16); }

// acc += products over 8 N components from `d` on, which the tile has from `tile` on.
//     rows.load(r, d, words)   components d .. d + 2 N - 1 of the warp's row r, two a word
template <int N, class Rows>
__device__ __forceinline__ void multiply_step(const u32* tile, int pitch, int n_blocks,
                                              const Rows& rows, int d, Product& acc) {
    const int group = lane() / 4, place = lane() % 4;
    Words<N> right[ROWS / 8];
#pragma unroll
    for (int n = 0; n < ROWS / 8; n++) {
        rows.load(8 * n + group, d + 2 * N * place, right[n]);
    }
#pragma unroll
    for (int m = 0; m < TILE / 16; m++) {
        if (m < n_blocks) {
            const u32* at = tile + (16 * m + group) * pitch + N * place;
            const Words<N> upper = *reinterpret_cast<const Words<N>*>(at);
            const Words<N> lower = *reinterpret_cast<const Words<N>*>(at + 8 * pitch);
#pragma unroll
            for (int s = 0; s < N; s += 2) {
                const u32 left[4] = {upper.x[s], lower.x[s], upper.x[s + 1], lower.x[s + 1]};
#pragma unroll
                for (int n = 0; n < ROWS / 8; n++) {
                    mma_f16(acc[m][n], left, {right[n].x[s], right[n].x[s + 1]}, acc[m][n]);
                }
            }
        }
    }
}

// acc += products over `depth` components from `first` on; the tile begins with them. The upper
// 16 n_blocks rows of the tile take part.
template <class Rows>
__device__ __forceinline__ void multiply(const u32* tile, int pitch, int n_blocks, const Rows& rows,
                                         int first, int depth, Product& acc) {
    int d = 0;
#pragma unroll 1
    for (; depth - d > STEP / 2; d += STEP) {
        multiply_step<4>(tile + d / 2, pitch, n_blocks, rows, first + d, acc);
    }
    if (d < depth) {
        multiply_step<2>(tile + d / 2, pitch, n_blocks, rows, first + d, acc);
    }
}
