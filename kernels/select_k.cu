// select_k: the k smallest of every row of a matrix, by (distance, id).
//
//   (out, names)[q] = the k smallest (dists[q, i], ids[q, i]); NaN and id -1 are never selected
//
// Also the merge of several results: a row may lie in pieces of `width`, `stride` apart.
//
// in      struct SelectArgs: dists (Q, N) f32, ids (Q, N) i64 or null for column numbers
// out     out (Q, k) f32, names (Q, k) i64, padded with (+inf, -1)
// defines BLOCK 256
// grid    (Q); a block owns a row, a thread looks at every 256th entry
// shared  dynamic: 24 * capacity bytes, the selection
// budget  select_k: regs <= 64, spills 0, blocks/SM >= 4
// cost    reads the matrix once
// source  see select.cuh
#include "common.cuh"
#include "ptx.cuh"
#include "select.cuh"

struct SelectArgs {
    const float* dists;  // (n_rows, n), or (n / width, n_rows, width)
    const i64* ids;      // (n_rows, n) as dists; or null: the column is the id
    float* out;          // (n_rows, k) out
    i64* names;          // (n_rows, k) out
    i64 n_rows;          // Q
    i64 n;               // entries of a row
    i64 width;           // entries of a row that lie together
    i64 stride;          // entries from one piece of a row to the next
    int k;               // wanted
    int capacity;        // of the selection, see select.cuh
};

ENTRY(select_k)(const SelectArgs a) {
    EXTERN_SHARED(unsigned char, bytes);
    __shared__ int arrived;
    const i64 row = blockIdx.x;  // [0, Q)
    Selection best;
    best.begin(bytes, &arrived, a.capacity, a.k);
    for (i64 start = 0; start < a.n; start += BLOCK) {
        best.make_room(BLOCK);
        const i64 i = start + threadIdx.x;  // [0, N)
        if (i < a.n) {
            const i64 at = i / a.width * a.stride + row * a.width + i % a.width;
            const i64 id = a.ids == nullptr ? i : a.ids[at];
            if (id >= 0) {
                best.push(a.dists[at], id);
            }
        }
    }
    best.finish(a.out + row * a.k, a.names + row * a.k);
}
