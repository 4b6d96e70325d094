// The two sides of the list-major product: queries of one list's pairs, and rows of that list.
#pragma once
#include "scan.cuh"
#include "tile.cuh"

// The pairs of one tile: their queries, moved and scaled, as rows of the product.
struct TileQueries {
    const ScanArgs& a;
    const int* query;  // (TILE,) shared; -1 for none
    bool whole;        // four components may be loaded at once

    __device__ void load(int row, int d, float (&out)[4]) const {
        const int q = query[row];
        load_four(a.queries + (i64)q * a.dim + d, q < 0 ? 0 : a.dim - d, whole, out);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (a.shift != nullptr && q >= 0 && d + i < a.dim) {
                out[i] = __fsub_rn(out[i], a.shift[d + i]);
            }
            out[i] = a.inner ? out[i] : 2.0f * out[i];
        }
    }
};

// Note a row of query q. What does not fit is only counted; not much further, so that the count
// cannot overflow: it is looked at first, and only threads that looked at the same time go on.
__device__ __forceinline__ void add_survivor(const ScanArgs& a, int q, i64 row, float score) {
    if (*static_cast<volatile int*>(&a.n_survivors[q]) > a.survivor_places) {
        return;
    }
    const int place = atomicAdd(&a.n_survivors[q], 1);
    if (place < a.survivor_places) {
        const i64 at = (i64)q * a.survivor_places + place;
        a.survivors[at] = row;
        a.scores[at] = score;
    }
}

struct TileRows {
    StoredRows rows;
    i64 begin, end;

    __device__ void load(int row, int d, float (&out)[4]) const {
        if (begin + row < end) {
            rows.load(begin + row, d, out);
        } else {
            out[0] = out[1] = out[2] = out[3] = 0.0f;
        }
    }
};

// The smallest float32 at or above x.
__device__ __forceinline__ float rounded_up(double x) {
    const float nearest = __double2float_rn(x);
    return (double)nearest < x ? nextafterf(nearest, positive_infinity()) : nearest;
}
