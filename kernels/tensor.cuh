// A tile of dot products on tensor cores: 64 rows of one matrix times 64 rows of another, by 256
// threads. Both sides come from functors as in tile.cuh and are rounded to TF32 in shared memory;
// products are summed in float32.
//
// Warp w has rows 16 (w % 4) .. + 15 of the left and rows 32 (w / 4) .. + 31 of the right. Of lane
// 4 g + t, acc[j][i] is the product of rows
//     left    16 (w % 4) + g + 8 (i / 2)            tensor_left(i)
//     right   32 (w / 4) + 8 j + 2 t + i % 2        tensor_right(j, i)
#pragma once
#include "ptx.cuh"
#include "tile.cuh"

constexpr int TENSOR_STEP = 32;                // components at a time
constexpr int TENSOR_PITCH = TENSOR_STEP + 4;  // words: the 8 rows of a matrix in different banks
constexpr int MMA_DEPTH = 8;                   // components of one mma

struct TensorMemory {
    alignas(16) u32 a[TILE][TENSOR_PITCH];
    alignas(16) u32 b[TILE][TENSOR_PITCH];
};

__device__ __forceinline__ int tensor_left(int i) {
    return threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4 + i / 2 * 8;
}

__device__ __forceinline__ int tensor_right(int j, int i) {
    return threadIdx.x / 128 * 32 + 8 * j + threadIdx.x % 4 * 2 + i % 2;
}

// Eight components of a row, rounded: word `at` of `to` on.
template <class Rows>
__device__ __forceinline__ void store_rounded(const Rows& rows, int row, int d, u32* to) {
#pragma unroll
    for (int half = 0; half < 8; half += 4) {
        float x[4];
        rows.load(row, d + half, x);
        *reinterpret_cast<uint4*>(to + half) =
            make_uint4(to_tf32(x[0]), to_tf32(x[1]), to_tf32(x[2]), to_tf32(x[3]));
    }
}

// acc[j][i] += sum over d of a(tensor_left(i), d) * b(tensor_right(j, i), d).
template <class A, class B>
__device__ __forceinline__ void tensor_product(const A& a, const B& b, int dim,
                                               TensorMemory& memory, float (&acc)[4][4]) {
    static_assert(BLOCK == 256, "a tile is worked on by 8 warps");
    const int row = threadIdx.x / 4, first = threadIdx.x % 4 * 8;  // what this thread loads
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const u32* left = &memory.a[warp % 4 * 16 + lane % 16][lane / 16 * 4];
    const u32* right = &memory.b[warp / 4 * 32 + lane / 16 * 8 + lane % 8][lane / 8 % 2 * 4];
    for (int d = 0; d < dim; d += TENSOR_STEP) {
        __syncthreads();  // the step before has been multiplied
        store_rounded(a, row, d + first, &memory.a[row][first]);
        store_rounded(b, row, d + first, &memory.b[row][first]);
        __syncthreads();  // both sides of the step are there
        const int end = dim - d < TENSOR_STEP ? dim - d : TENSOR_STEP;
#pragma unroll 2
        for (int s = 0; s < end; s += MMA_DEPTH) {
            u32 x[4];
            ldmatrix_x4(x, left + s);
#pragma unroll
            for (int j = 0; j < 4; j += 2) {
                u32 y[4];
                ldmatrix_x4(y, right + j * 8 * TENSOR_PITCH + s);
                mma_tf32(acc[j], x, {y[0], y[1]}, acc[j]);
                mma_tf32(acc[j + 1], x, {y[2], y[3]}, acc[j + 1]);
            }
        }
    }
}

// What rounding to TF32 and the sums of the tensor cores add to the error of a product whose terms
// come to at most `size`, in modulus: 2^-11 of either factor, and 2^-22 for each sum, for tensor
// cores may cut off instead of rounding.
__device__ __forceinline__ double tensor_rounding(int dim, double size) {
    return size * (1.002 / 1024 + (dim + 16) * (1.0 / (1 << 22)));
}

// The same for vectors of these lengths. Components under 2^-126 have fewer bits or count as zero:
// they are lost times the other vector's, however long that is.
__device__ __forceinline__ double product_rounding(int dim, double left, double right) {
    return tensor_rounding(dim, left * right) + dim * 0x1p-126 * (left + right);
}
