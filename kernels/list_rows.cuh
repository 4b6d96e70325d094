// Stored rows as the filter multiplies them: a warp's 32, as fragments of fp16.
#pragma once
#include "fragments.cuh"
#include "scan.cuh"

// At least |r| of any row of lists with this radius, from which their scale follows; with PQ of any
// row at all, from the longest entries of the codebooks. The whole warp.
__device__ __forceinline__ float length_of_rows(const ScanArgs& a, float radius) {
    if (a.book_reach == nullptr) {
        return radius;
    }
    double square = 0.0;
    for (int m = lane(); m < a.pq_dim; m += WARP) {
        square += (double)a.book_reach[m] * a.book_reach[m];
    }
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        square += __shfl_xor_sync(ALL_LANES, square, lanes);
    }
    return rounded_up(sqrt(square) * (1.0 + 1e-9));
}

// Rows of one list as the filter multiplies them; those behind `last` are the last once more. They
// are read as fp16 (ROWS_AS 1), taken from bytes (2), decoded from codes by codebooks in shared memory
// (PQ_LEN), or converted.
struct ListRows {
    const ScanArgs& a;
    const u32* books;  // codebooks in shared memory, or null
    i64 first;         // storage row
    int stride;        // from one to the next: 1, but in epoch 0 of an only list n / budget
    int last;
    float scale;

    __device__ ListRows(const ScanArgs& a_, const u32* books_, int list, int turn, float scale_)
        : a(a_), books(books_), scale(scale_) {
        first = a.offsets[list] + turn * a.row_step * ROWS;
        stride = a.epoch == 0 ? (int)a.row_step : 1;
        const i64 left = ceil_div(a.offsets[list + 1] - first, stride);
        last = (left < ROWS ? (int)left : ROWS) - 1;
    }

    __device__ __forceinline__ i64 at(int row) const {
        return first + (row < last ? row : last) * stride;
    }

#if ROWS_AS == 1
    template <int N>
    __device__ void load(int row, int d, Words<N>& out) const {
        // 31 strides of an index that fits a device are less than 2^31 words
        const u32* first_row = a.halves + first * a.words;
        out = *reinterpret_cast<const Words<N>*>(first_row + (row * (stride * a.words) + d / 2));
    }
#elif ROWS_AS == 2
    // Every byte is a half of its own. The shift is in the pair's term, see query_shift.
    template <int N>
    __device__ void load(int row, int d, Words<N>& out) const {
        const ROW* bytes = a.rows + at(row) * a.dim + d;
        Words<N / 2> four;  // bytes in each
        if (d + 2 * N <= a.dim && (reinterpret_cast<u64>(bytes) & (2 * N - 1)) == 0) {
            four = *reinterpret_cast<const Words<N / 2>*>(bytes);
        } else {
#pragma unroll
            for (int i = 0; i < N / 2; i++) {
                four.x[i] = 0;
                for (int j = 0; j < 4; j++) {
                    const bool inside = d + 4 * i + j < a.dim;
                    four.x[i] |= inside ? (u32)(u8)bytes[4 * i + j] << 8 * j : 0u;
                }
            }
        }
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            out.x[2 * i] = halves_of(four.x[i], 0x4140);
            out.x[2 * i + 1] = halves_of(four.x[i], 0x4342);
        }
    }

    // Two of four bytes: 0x6400 plus a byte is the half 1024 + byte, from which that is taken off.
    __device__ static u32 halves_of(u32 four, u32 which) {
        const bool is_signed = (ROW)-1 < (ROW)0;  // then 128 more
        const u32 both = __byte_perm(is_signed ? four ^ 0x80808080u : four, 0x64646464u, which);
        const __half2 large = *reinterpret_cast<const __half2*>(&both);
        const __half2 exact = __hsub2(large, __float2half2_rn(is_signed ? 1152.0f : 1024.0f));
        return *reinterpret_cast<const u32*>(&exact);
    }
#elif PQ_LEN > 0
    static constexpr int LEN = PQ_LEN;

    template <int N>
    __device__ void load(int row, int d, Words<N>& out) const {
        constexpr int CODES = 2 * N < LEN ? 1 : 2 * N / LEN;  // that these components come from
        const ROW* codes = a.rows + at(row) * a.code_bytes;
        const int m = d / LEN;
        u8 code[CODES];
        if (PACKED) {
#pragma unroll
            for (int i = 0; i < CODES; i++) {
                code[i] = (u8)code_of(codes, m + i < a.pq_dim ? m + i : 0, a.pq_bits);
            }
        } else if (a.pq_dim % CODES == 0 && m < a.pq_dim) {
            struct alignas(CODES) Codes {
                u8 x[CODES];
            };
            const Codes all = *reinterpret_cast<const Codes*>(codes + m);
#pragma unroll
            for (int i = 0; i < CODES; i++) {
                code[i] = all.x[i];
            }
        } else {  // the queries are zero behind the last code
#pragma unroll
            for (int i = 0; i < CODES; i++) {
                code[i] = codes[m + i < a.pq_dim ? m + i : 0];
            }
        }
#pragma unroll
        for (int i = 0; i < CODES; i++) {
            const int book = m + i < a.pq_dim ? m + i : 0;
            const int entry = (book * a.pq_book_size + code[i]) * LEN + d % LEN;
            if (LEN == 1) {
                const u32 half = reinterpret_cast<const unsigned short*>(books)[entry];
                out.x[i / 2] = i % 2 ? out.x[i / 2] | half << 16 : half;
            } else {
                constexpr int WORDS = LEN == 1 ? 1 : N / CODES;
                const Words<WORDS> found =
                    *reinterpret_cast<const Words<WORDS>*>(books + entry / 2);
#pragma unroll
                for (int j = 0; j < WORDS; j++) {
                    out.x[i * WORDS + j] = found.x[j];
                }
            }
        }
    }
#else
    template <int N>
    __device__ void load(int row, int d, Words<N>& out) const {
#pragma unroll
        for (int i = 0; i < N; i += 2) {
            float x[4];
            stored_rows(a).load(at(row), d + 2 * i, x);
            out.x[i] = two_halves(x[0] * scale, x[1] * scale);
            out.x[i + 1] = two_halves(x[2] * scale, x[3] * scale);
        }
    }
#endif
};

// e of the power of two that scales the rows of lists with this radius. The whole warp.
__device__ __forceinline__ int row_exponent(const ScanArgs& a, float radius) {
    return ROWS_AS == 2 ? 0 : half_exponent(length_of_rows(a, radius));  // bytes are as they are
}

// The codebooks as fp16, scaled: (pq_dim, pq_book_size, pq_len) halves. The whole block.
__device__ __forceinline__ void load_books(const ScanArgs& a, float scale, u32* books) {
    const int n = a.pq_dim * a.pq_book_size * a.pq_len;
    for (int i = 2 * threadIdx.x; i < n; i += 2 * BLOCK) {
        const float next = i + 1 < n ? a.codebooks[i + 1] : 0.0f;
        books[i / 2] = two_halves(a.codebooks[i] * scale, next * scale);
    }
}
