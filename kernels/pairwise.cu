// pairwise: all distances between two sets of rows.
//
//   out[i, j] = sum_d (x[i, d] - y[j, d])^2, or -sum_d x[i, d] * y[j, d] for inner product
//
// in      struct PairwiseArgs: x (Q, D) f32, y (N, D) f32
// out     out (Q, N) f32: products summed in float64, squares in float32, to rounding
// defines BLOCK 256; COMBINE SquareDifference or Multiply
// grid    (ceil(N / 64), ceil(Q / 64)); a block owns 64 x 64 distances, a thread 4 x 4
// shared  static: two tiles of 16 x 68 floats
// budget  pairwise: regs <= 128, spills 0, blocks/SM >= 2
// cost    2 or 3 * Q * N * D flop; reads each side once for every 64 rows of the other
// source  own; the tile as in any blocked matrix product
#include "common.cuh"
#include "tile.cuh"

struct PairwiseArgs {
    const float* x;  // (n_x, dim)
    const float* y;  // (n_y, dim)
    float* out;      // (n_x, n_y) out
    i64 n_x;         // Q
    i64 n_y;         // N
    int dim;         // D
    int negate;      // 1: write minus the sum
};

ENTRY(pairwise)(const PairwiseArgs a) {
    __shared__ TileMemory memory;
    for (i64 first_x = (i64)blockIdx.y * TILE; first_x < a.n_x; first_x += (i64)gridDim.y * TILE) {
        const i64 first_y = (i64)blockIdx.x * TILE;
        const MatrixRows x(a.x, first_x, a.n_x, a.dim);
        const MatrixRows y(a.y, first_y, a.n_y, a.dim);
        COMBINE::Sum sum[4][4] = {};
        tile_product(x, y, a.dim, memory, COMBINE{}, sum);
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const i64 row = first_x + 4 * tile_y() + i, column = first_y + 4 * tile_x() + j;
                if (row < a.n_x && column < a.n_y) {
                    a.out[row * a.n_y + column] = (float)(a.negate ? -sum[i][j] : sum[i][j]);
                }
            }
        }
    }
}
