// Stored rows, whole or quantised: what a scan multiplies, and what counts in the end.
//
// defines CODEC 0 for rows stored whole, ROW float, __half, i8 or u8; 1 for PQ codes, ROW u8; 2 for
// scalar codes, ROW i8.
//     scanned(row, d)  r(v): whole rows scaled and shifted, or what the codes stand for
//     decoded(row, d)  v, as the canonical distance sees it, rounded to float32 as NumPy does
#pragma once
#include <cuda_fp16.h>

#include "common.cuh"

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }
__device__ __forceinline__ float to_float(i8 x) { return (float)x; }
__device__ __forceinline__ float to_float(u8 x) { return (float)x; }

// Code m of a row, `bits` each side by side; a byte behind the last code is not read.
__device__ __forceinline__ int code_of(const u8* row, int m, int bits) {
    const int first = m * bits, shift = first % 8;
    int found = row[first / 8] >> shift;
    if (shift + bits > 8) {
        found |= row[first / 8 + 1] << (8 - shift);
    }
    return found & ((1 << bits) - 1);
}

struct alignas(4 * sizeof(ROW)) FourOfRow {
    ROW x[4];
};

struct StoredRows {
    const ROW* rows;         // (n_rows, dim), or codes (n_rows, code_bytes)
    const float* scale;      // (n_rows,) or null
    const float* shift;      // (dim,) or null
    const float* codebooks;  // (pq_dim, pq_book_size, pq_len), PQ only
    const float* step;       // (dim,), scalar codes only
    const float* middle;     // (dim,), scalar codes only
    const float* centers;    // (n_lists, dim), or null where none is added
    int dim, pq_book_size, pq_len, pq_bits, code_bytes;

    // Numbers d .. d + 3 of a row as they are stored, zero beyond the last.
    __device__ void load_four(i64 row, int d, float (&out)[4]) const {
        const ROW* from = rows + row * dim + d;
        if (d + 4 <= dim && (reinterpret_cast<u64>(from) & (sizeof(FourOfRow) - 1)) == 0) {
            const FourOfRow four = *reinterpret_cast<const FourOfRow*>(from);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                out[i] = to_float(four.x[i]);
            }
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                out[i] = d + i < dim ? to_float(from[i]) : 0.0f;
            }
        }
    }

#if CODEC == 1
    __device__ float scanned(i64 row, int d) const {
        const int m = d / pq_len;
        const i64 entry = (i64)m * pq_book_size + code_of(rows + row * code_bytes, m, pq_bits);
        return codebooks[entry * pq_len + (d - m * pq_len)];
    }

    __device__ float decoded(i64 row, int list, int d) const {
        return __fadd_rn(scanned(row, d), centers[(i64)list * dim + d]);
    }

    __device__ bool without_direction(i64) const { return false; }

    __device__ void load(i64 row, int d, float (&out)[4]) const {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            out[i] = d + i < dim ? scanned(row, d + i) : 0.0f;
        }
    }
#elif CODEC == 2
    __device__ float value(float code, int d) const {
        return __fadd_rn(__fmul_rn(code, step[d]), middle[d]);
    }

    __device__ float decoded(i64 row, int list, int d) const {
        const float x = value(to_float(rows[row * dim + d]), d);
        return centers == nullptr ? x : __fadd_rn(x, centers[(i64)list * dim + d]);
    }

    __device__ bool without_direction(i64) const { return false; }

    __device__ void load(i64 row, int d, float (&out)[4]) const {
        load_four(row, d, out);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            out[i] = d + i < dim ? value(out[i], d + i) : 0.0f;
        }
    }
#else
    __device__ float scaled(i64 row, float x) const {
        return scale == nullptr ? x : __fmul_rn(x, scale[row]);
    }

    __device__ float decoded(i64 row, int, int d) const {
        return scaled(row, to_float(rows[row * dim + d]));
    }

    // Under cosine a zero row has no direction: it counts as orthogonal to every query.
    __device__ bool without_direction(i64 row) const {
        return scale != nullptr && scale[row] == 0.0f;
    }

    // Components d .. d + 3 as the scan multiplies them, zero beyond the last.
    __device__ void load(i64 row, int d, float (&out)[4]) const {
        load_four(row, d, out);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            out[i] = scaled(row, out[i]);
            if (shift != nullptr && d + i < dim) {
                out[i] = __fsub_rn(out[i], shift[d + i]);
            }
        }
    }
#endif
};
