"""Faults to be put into the kernels, at least three for every entry: each must be caught.

A mutant is a piece of a kernel's text and what stands there instead. `test_mutants` runs the case
that should notice it in the checked emulator: a report of the checker or a wrong answer counts.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One fault."""

    op: str
    entry: str
    case: str
    old: str
    new: str


MUTANTS: list[Mutant] = []


def into(op, entry, case, *faults):
    MUTANTS.extend(Mutant(op, entry, case, old, new) for old, new in faults)


def without(line):
    """The line left out."""
    return line, ""


into(
    "group",
    "group_count",
    "group two passes",
    without("__syncthreads();  // the counts are clear"),
    ("i < begin + a.run && i < a.n; i += BLOCK", "i < begin + a.run; i += BLOCK"),
    ("key_at(a, i) >> a.shift & (DIGITS - 1)], 1", "key_at(a, i) & (DIGITS - 1)], 1"),
    (
        "atomicAdd(&counts[key_at(a, i) >> a.shift & (DIGITS - 1)], 1)",
        "counts[key_at(a, i) >> a.shift & (DIGITS - 1)] += 1",
    ),
)
into(
    "group",
    "group_scan",
    "group two passes",
    without("__syncthreads();  // sums over `stride` counts are there"),
    without("__syncthreads();  // everyone has read them"),
    ("before += sums[BLOCK - 1];", "before = sums[BLOCK - 1] + 1;"),
    ("before + sums[threadIdx.x] - mine", "before + sums[threadIdx.x]"),
)
into(
    "group",
    "group_scatter",
    "group two passes",
    without("__syncthreads();  // the warps' counts are there"),
    without("__syncthreads();  // every place is taken"),
    ("w < warp; w++", "w < warp - 1; w++"),
    ("inside && rank == 0", "inside && rank == 1"),
    ("(1u << lane) - 1", "(2u << lane) - 1"),
)
into(
    "group",
    "group_offsets",
    "group two passes",
    ("group > a.n_groups", "group > a.n_groups + 1"),
    ("a.to_keys[middle] < group", "a.to_keys[middle] <= group"),
    ("low = middle + 1;", "low = middle;"),
)
into(
    "accumulate",
    "accumulate",
    "accumulate",
    ("cluster >= a.n_clusters", "cluster > a.n_clusters"),
    ("double sum = 0.0;", "float sum = 0.0f;"),
    ("i = begin; i < end; i++", "i = begin; i + 1 < end; i++"),
    ("a.counts[cluster] = end - begin;", "a.counts[cluster] = end;"),
)
into(
    "assign",
    "assign_origin",
    "assign lattice",
    ("problem >= a.n_problems", "problem > a.n_problems"),
    ("c < a.n_centers; c += step", "c <= a.n_centers; c += step"),
    ("a.origin[problem * a.dim + d] =", "a.origin[problem * a.dim + d + 1] ="),
    ("a.n_unsure[problem] = 0;", ""),
)
into(
    "assign",
    "assign_centers",
    "assign lattice",
    ("const i64 safe = inside ? center : 0;", "const i64 safe = center;"),
    ("a.halves[center * a.words + i] =", "a.halves[center * a.words + i + 1] ="),
    ("(float)(square - error)", "(float)(-square - error)"),
    ("-2.0f * power_of_two(-exponent)", "-power_of_two(-exponent)"),
)
into(
    "assign",
    "assign",
    "assign many centers",
    without("__syncthreads();  // the rows are listed, the part before has been multiplied"),
    without("__syncthreads();  // the part is there"),
    without("__syncthreads();  // the warps' best two are there"),
    without("__syncthreads();  // the rows that are sure are known"),
    ("threadIdx.x / WARP * ROWS", "threadIdx.x / WARP * TILE"),
    ("lanes < 4; lanes *= 2) {  // four", "lanes < 2; lanes *= 2) {  // four"),
    ("int warp = 1; warp < WARPS", "int warp = 1; warp < WARPS - 1"),
    ("a.lower[centers + scores.center(j)] : positive", "0.0f : positive"),
    ("first_row + r < a.n ?", "first_row + r <= a.n ?"),
    ("16 * m + lane() / 4 + 8 * (i / 2)", "16 * m + lane() / 4 + 8 * (i % 2)"),
)
into(
    "assign",
    "assign",
    "assign wide parts",
    ("start == 0 || dim > a.depth", "start == 0"),
    ("memory, d, tile, pitch", "memory, 0, tile, pitch"),
    ("packed_word(first / 2 + i,", "packed_word(i,"),
)
into(
    "assign",
    "assign",
    "assign split ties",
    ("SPLIT && third == (right ? 1 : 2)", "SPLIT && third == 2"),
    ("return SPLIT ? 3 * dim : dim;", "return dim;"),
)
into(
    "assign",
    "assign",
    "assign long rows tensor",
    ("memory.own[r] = 2.0 * score_error(a.dim, square);", "memory.own[r] = 0.0;"),
)
into(
    "assign",
    "assign",
    "assign twins",
    ("second = fminf(second, fmaxf(best, score));", ""),
)
into(
    "assign",
    "assign_unsure",
    "assign duplicates",
    without("__syncthreads();  // the pairs are listed"),
    without("__syncthreads();  // the rows are settled"),
    ("(double)scores.of[j] <= highest && there", "(double)scores.of[j] < highest - 1.0 && there"),
    ("<< 32 | (u32)center", "<< 32 | (u32)~center"),
    ("first < n_unsure; first += gridDim.x * TILE", "first + TILE < n_unsure; first += TILE"),
)
into(
    "assign",
    "assign_unsure",
    "assign sentinel",
    ("1.0 + 8.0 * (dim + 16)", "1.0 - 8e3 * (dim + 16)"),
    without("__syncthreads();  // the least distances of the unsure rows are there"),
    ("best = may_win && both < best ? both : best;", "best = both < best ? best : both;"),
    ("if (place < PAIRS)", "if (place <= PAIRS)"),
    ("if (memory.n_pairs <= PAIRS)", "if (memory.n_pairs <= 64 * PAIRS)"),
)
into(
    "assign",
    "assign_centers",
    "assign long centers tensor",
    ("const double error = score_error(a.dim, square);", "const double error = 0.0;"),
)
into(
    "pairwise",
    "pairwise",
    "pairwise product",
    ("row < a.n_x && column < a.n_y", "row < a.n_x && column <= a.n_y"),
    ("a.negate ? -sum[i][j] : sum[i][j]", "sum[i][j]"),
    ("dim - d < STEP ? dim - d : STEP", "STEP - 1"),
    without("__syncthreads();  // the step is there"),
)
into(
    "select_k",
    "select_k",
    "select_k random",
    ("best.make_room(BLOCK);", "best.make_room(1);"),
    without("__syncthreads();  // the next stride reads what this one moved"),
    without("__syncthreads();  // everyone has read the counter"),
    ("(low & size) == 0", "true"),
    ("!before(key, id, keys[k - 1], ids[k - 1])", "key >= keys[0]"),
)
into(
    "select_k",
    "select_k",
    "select_k odd",
    ("id >= 0) {", "id >= -1) {"),
    ("i < a.n) {", "i <= a.n) {"),
    ("key == other_key && id < other_id", "key == other_key && id > other_id"),
    ("if (x != x) {", "if (false) {"),
)
into(
    "build_lut",
    "build_lut",
    "build_lut wide float32",
    ("j >= a.pq_book_size", "j > a.pq_book_size"),
    ("q < first + QUERIES && q < a.n_queries", "q < first + QUERIES"),
    ("l < a.pq_len; l++", "l < a.pq_len - 1; l++"),
)
into(
    "refine",
    "refine",
    "refine int8",
    ("j < i; j += GROUP", "j < i - 1; j += GROUP"),
    ("rows.without_direction(row) ? 1.0 : 0.0", "0.0"),
    ("counts && lane_in_group() == 0", "counts"),
    ("const i64 row = counts ? candidates[i] : 0;", "const i64 row = candidates[i];"),
    ("seen = row < 0 || row >= n_rows", "seen = false"),
)
into(
    "refine",
    "refine",
    "refine order 700",
    ("const int first = length / 2 - length / 2 % GROUP;", "const int first = length / 2;"),
    ("sum = __dadd_rn(waiting[0], sum);", "sum = __dadd_rn(waiting[1], sum);"),
    ("__shfl_xor_sync(ALL_LANES, sum, 2)", "__shfl_xor_sync(ALL_LANES, sum, 1)"),
    ("i = whole; i < n; i++", "i = whole + 1; i < n; i++"),
    ("constexpr int LEAF = 128;", "constexpr int LEAF = 64;"),
)
into(
    "scan_lists",
    "scan_tighten",
    "scan_lists far epochs",
    ("(double)float_of(key) + 2.0 * a.slack[query]", "(double)float_of(key)"),
)
into(
    "scan_lists",
    "scan_queries",
    "scan_lists walk far",
    ("scale.slack = rounding(a.dim, size);", "scale.slack = 0.0;"),
)
into(
    "scan_lists",
    "scan_queries",
    "scan_lists walk shift limit",
    ("if (shift != nullptr && d + i < dim) {", "if (false) {"),
)
into(
    "scan_lists",
    "scan_finish",
    "scan_lists cosine",
    ("scale == nullptr ? x : __fmul_rn(x, scale[row])", "x"),
)
into(
    "scan_lists",
    "scan_finish",
    "scan_lists cosine all",
    ("rows.without_direction(row) ? 1.0 : 0.0", "0.0"),
)
into(
    "scan_lists",
    "scan_finish",
    "scan_lists inner product tiny",
    ("__float_as_uint(__fadd_rn(x, 0.0f))", "__float_as_uint(x)"),
)
into(
    "scan_lists",
    "scan_group",
    "scan_lists tiles",
    ("pair < (i64)a.n_queries * a.n_probes", "pair <= (i64)a.n_queries * a.n_probes"),
    ("atomicSub(&a.list_pairs[key], 1) - 1", "atomicSub(&a.list_pairs[key], 1)"),
    (
        "a.pair_order[a.pair_first[key] + place] = pair;",
        "a.pair_order[a.pair_first[key]] = pair;",
    ),
)
into(
    "scan_lists",
    "scan_measure",
    "scan_lists tiles",
    ("atomicAdd(&a.list_pairs[key_of_pair(a, list, p)], 1);", "a.list_pairs[2 * list]++;"),
    (
        "a.query_halves[(i64)query * a.words + i] =",
        "a.query_halves[(i64)query * a.words + i + 1] =",
    ),
    ("a.tickets[threadIdx.x] = 0;", ""),
    ("threadIdx.x <= a.n_epochs", "threadIdx.x < a.n_epochs"),
)
into(
    "scan_lists",
    "scan_measure",
    "scan_lists far",
    ("scale.slack + rounding_error", "scale.slack"),
)
into(
    "scan_lists",
    "scan_measure",
    "scan_lists sq to the bit",
    ("return {(float)-product, longest", "return {(float)product, longest"),
    ("__fadd_rn(__fmul_rn(code, step[d]), middle[d])", "__fmul_rn(code, step[d])"),
    ("centers == nullptr ? x : __fadd_rn(x, centers[(i64)list * dim + d])", "x"),
)
into(
    "scan_lists",
    "scan_measure",
    "scan_lists sq uneven",
    ("return CODEC == 2 && d < a.dim ? x * a.step[d] : x;", "return x;"),
)
into(
    "scan_lists",
    "scan_measure",
    "scan_lists sq near ties",
    ("sum * half_relative(a.dim) + small + 0x1p-20 * length * away", "0.0"),
)
into(
    "scan_lists",
    "scan_measure",
    "scan_lists inner product short queries",
    ("dim * 0x1p-98 * (left + right)", "0.0"),
)
into(
    "scan_lists",
    "scan_measure",
    "scan_lists inner product short rows",
    ("dim * 0x1p-98 * (left + right)", "0.0"),
)
into(
    "scan_lists",
    "scan_bound",
    "scan_lists tiles",
    without("__syncthreads();  // the digit is found, the histogram has been read"),
    ("left = found[1], own = 0;", "left = 1, own = 0;"),
    ("sum += threadIdx.x >= lanes ? before : 0;", "sum += before;"),
    ("lanes = 1; lanes < WARP; lanes *= 2", "lanes = 1; lanes < 2; lanes *= 2"),
    ("            __syncwarp();  // every lane has read how many are left\n", ""),
    ("(double)bound + 2.0 * a.slack[query]", "(double)bound - 1.0"),
    ("a.n_survivors[query] = 0;\n    }\n}", "}\n}"),
)
into(
    "scan_lists",
    "scan_bound",
    "scan_lists near lists short",
    ("first_bound(a, query, 0,", "0.0f * first_bound(a, query, 0,"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists near lists",
    ("2 * item.list + (a.epoch == 0 ? 1 : 2)", "2 * item.list + 1"),
)
into(
    "scan_lists",
    "scan_plan",
    "scan_lists near lists",
    ("(epoch == 0 ? 0 : a.list_pairs[2 * list + 1])", "0"),
)
into(
    "scan_lists",
    "scan_begin",
    "scan_lists many lists",
    ("at < 2 * (i64)a.n_lists", "at < a.n_lists"),
    ("at < 2 * (i64)a.n_lists", "at <= 2 * (i64)a.n_lists"),
)
into(
    "scan_lists",
    "scan_begin",
    "scan_lists pq 4",
    without("__syncthreads();  // no entry was seen"),
    without("__syncthreads();  // all entries were seen"),
    ("i < a.pq_book_size; i += BLOCK", "i <= a.pq_book_size; i += BLOCK"),
    ("a.book_reach[m] =", "a.book_reach[m + 1] ="),
)
into(
    "scan_lists",
    "scan_plan",
    "scan_lists tiles",
    ("__syncthreads();  // everyone has read them\n            sums", "sums"),
    ("        first[0] = 0;", ""),
    ("ceil_div(n_pairs, TILE) * ceil_div", "n_pairs / TILE * ceil_div"),
    ("list < n_lists ? count(list) : 0", "count(list)"),
)
into(
    "scan_lists",
    "scan_plan",
    "scan_lists many lists",
    ("before += sums[BLOCK - 1];", ""),
    without("__syncthreads();  // the sums are read: the next lists may come"),
)
into(
    "scan_lists",
    "scan_plan",
    "scan_lists epochs",
    ("row_step *= a.growth;", ""),
    ("epoch = a.n_epochs; epoch", "epoch = a.n_epochs - 1; epoch"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists tiles",
    without("__syncthreads();  // the first item and the codebooks are there"),
    without(
        "__syncthreads();  // the tile is there, and the survivors of the item before are noted"
    ),
    without("__syncthreads();  // all survivors are staged"),
    ("atomicAdd(&a.tickets[a.epoch], 1ull) : 0", "a.tickets[a.epoch]++ : 0"),
    ("at < item.n_pairs() && factor", "at <= item.n_pairs() && factor"),
    ("rounded_up(a.ceiling[q] - term)", "rounded_up(a.ceiling[q] - 1e3)"),
    ("factor * power_of_two(-item.exponent)", "0.5f * factor * power_of_two(-item.exponent)"),
    ("number % n_tiles * TILE", "number % n_tiles"),
    ("row <= rows.last) {", "true) {"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists tiles",
    ("a.inner ? x : 2.0f * x", "x"),
    ("tile + (16 * m + group) * pitch", "tile + (8 * m + group) * pitch"),
    ("at + 8 * pitch", "at + 7 * pitch"),
    ("{right[n].x[s], right[n].x[s + 1]}", "{right[n].x[s], right[n].x[s]}"),
    ("16 * m + lane() / 4 + 8 * (i / 2)", "16 * m + lane() / 4 + 8 * (i % 2)"),
    ("8 * n + lane() % 4 * 2 + i % 2", "8 * n + lane() % 4 * 2 + i / 2"),
    ("left &= left - 1;", "left &= left - 2;"),
)
into(  # what is fetched ahead
    "scan_lists",
    "scan_filter",
    "scan_lists remainders",
    without("__syncthreads();  // the tile has been multiplied, and the next item is there"),
    (
        "cp_async_wait<0>();\n        __syncthreads();  // the tile is",
        "cp_async_wait<1>();\n        __syncthreads();  // the tile is",
    ),
    ("find_work(a, next);  // while", "find_work(a, memory.works[now]);  // while"),
    ("copy_tile(a, next, 0, tiles, pitch);", "copy_tile(a, work, 0, tiles, pitch);"),
    ("keep_survivors(a, memory, work, rows, acc);", "keep_survivors(a, memory, next, rows, acc);"),
    ("note_staged(a, memory, work);", "note_staged(a, memory, next);"),
    ("memory.n_staged[pair] = 0;", ""),
    ("row < 16 * work.item.n_blocks(); row", "row < 8 * work.item.n_blocks(); row"),
    without("__syncwarp();  // every lane has read how many they are"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists wide remainders",
    ("if (first > 0 && first >= work.item.n_blocks())", "if (first > 0)"),
    ("const int pair = tile_row(first + place / 16", "const int pair = tile_row(place / 16"),
    ("work.highest[tile_row(first + m, i)]", "work.highest[tile_row(m, i)]"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists many lists",
    ("    number -= first[item.list];", ""),
    ("(__popc(__ballot_sync(ALL_LANES, before)) - 1)", "__popc(__ballot_sync(ALL_LANES, before))"),
    ("first[low + lane() * step] <= at;", "first[low + lane() * step] < at;"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists pq 1 odd",
    ("a.pq_dim % CODES == 0 && m < a.pq_dim", "m < a.pq_dim"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists far epochs",
    ("quarter[m] = place & 8 ? high : low;", "quarter[m] = place & 8 ? low : high;"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists halves wide",
    (
        "multiply_step<4>(tile + d / 2, pitch, n_blocks, rows, first + d",
        "multiply_step<4>(tile + d / 2, pitch, n_blocks, rows, d",
    ),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists epochs one list",
    ("return place & 32 ? high : low;", "return low;"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists wide pieces",
    ("(!is_last || start + WARPS < item.end_turn)", "!is_last"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists wide",
    ("tiles + (part + 1) % 2 * TILE * pitch", "tiles"),
    ("is_last ? 0 : d + a.depth", "is_last ? 0 : d"),
    ("part++;", ""),
    without("__syncthreads();  // the part is there, and the other tile has been multiplied"),
    (
        "cp_async_wait<0>();\n                    __syncthreads();  // the part",
        "cp_async_wait<1>();\n                    __syncthreads();  // the part",
    ),
    ("multiply_step<2>(tile + d / 2, pitch, n_blocks, rows, first + d, acc);", ""),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists halves lattice",
    ("row * (stride * a.words)", "row * stride"),
    ("depth - d > STEP / 2; d += STEP", "d < depth; d += STEP"),
    ("query * a.words + i", "query * a.words + i + 1"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists pq 2",
    ("a.rows + at(row) * a.code_bytes", "a.rows + first * a.code_bytes"),
    ("(book * a.pq_book_size + code[i]) * LEN", "(book * a.pq_book_size + code[i])"),
    ("const int book = m + i < a.pq_dim ? m + i : 0;", "const int book = m;"),
    ("a.codebooks[i] * scale, next * scale", "a.codebooks[i], next"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists pq 5 bits 2 long",
    ("if (shift + bits > 8) {", "if (shift + bits > 9) {"),
    ("found & ((1 << bits) - 1)", "found"),
    ("m + i < a.pq_dim ? m + i : 0, a.pq_bits", "m, a.pq_bits"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists pq 1",
    ("i % 2 ? out.x[i / 2] | half << 16 : half", "half"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists pq 8 epochs",
    ("* LEN + d % LEN", "* LEN"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists bytes 36 int8",
    ("halves_of(four.x[i], 0x4140)", "halves_of(four.x[i], 0x4342)"),
    ("is_signed ? four ^ 0x80808080u : four", "four"),
    ("(u32)(u8)bytes[4 * i + j] << 8 * j", "(u32)bytes[4 * i + j] << 8 * j"),
    ("& (2 * N - 1)) == 0", "& (2 * N - 1)) >= 0"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists bytes limit int8",
    ("is_signed ? 1152.0f : 1024.0f", "1024.0f"),
    ("term += a.query_shift[q];", "term += a.query_shift[q] + 1e3f;"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists filter each",
    ("q < 0 || !allowed(a, q, a.ids[row])", "q < 0"),
    ("a.keep + query * a.keep_words : a.keep", "a.keep : a.keep"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists epochs",
    ("(a.is_first || turn % a.growth != 0)", "(turn % a.growth != 0)"),
    ("turn * a.row_step * ROWS", "turn * ROWS"),
    ("turn % a.growth != 0)", "turn % 3 != 0)"),
)
into(
    "scan_lists",
    "scan_filter",
    "scan_lists cosine all",
    ("if (staged < STAGED) {", "if (true) {"),
    ("memory.n_staged[pair] < STAGED ? memory.n_staged[pair] : STAGED", "memory.n_staged[pair]"),
    ("const int place = take_places(a, q, 1);", "const int place = -1;"),
    ("list_begin + memory.row[pair][lane()]", "list_begin"),
    ("return atomicAdd(&a.n_survivors[q], n);", "return a.n_survivors[q] += n;"),
)
into(
    "scan_lists",
    "scan_tighten",
    "scan_lists epochs",
    ("+ 2.0 * a.slack[query]);", "- 1e3);"),
    ("const int place = atomicAdd(&n_kept, 1);", "const int place = i;"),
    ("a.n_survivors[query] = n_kept;", ""),
    ("a.kept_scores[first + place] = a.scores[first + i];", ""),
)
into(
    "scan_lists",
    "scan_tighten",
    "scan_lists epochs limit",
    without("__syncthreads();  // the keys and the counter are there"),
)
into(
    "scan_lists",
    "scan_finish",
    "scan_lists overflow",
    ("if (n > a.survivor_places) {  // overflow", "if (false) {  // overflow"),
    ("if (place < a.survivor_places) {", "if (true) {"),
)
into(
    "scan_lists",
    "scan_finish",
    "scan_lists limit to the bit",
    ("i < n && lane_in_group() == 0 && distance <= limit", "i < n && lane_in_group() == 0"),
    ("i < n && lane_in_group() == 0 && distance <= limit", "i < n && distance <= limit"),
    ("(i < n ? i : start)", "i"),
)
into(
    "scan_lists",
    "scan_finish",
    "scan_lists equal rows",
    ("best.make_room(GROUPS);", ""),
)
into(
    "scan_lists",
    "scan_queries",
    "scan_lists walk one query",
    ("turn == split && !visit", "turn >= split && !visit"),
    ("passes && lane_in_group() == 0 &&", "passes &&"),
)
into(
    "scan_lists",
    "scan_queries",
    "scan_lists walk equal rows",
    ("best.make_room(CHUNK);", ""),
    ("(double)best.bound() + slack", "(double)best.bound() - 1.0"),
)
into(
    "scan_lists",
    "scan_queries",
    "scan_lists walk more than all",
    without("__syncthreads();  // every score is written"),
    ("const bool passes = inside && !above &&", "const bool passes = !above &&"),
)
into(
    "scan_lists",
    "scan_queries",
    "scan_lists walk limit to the bit",
    (
        "if (passes && lane_in_group() == 0 && distance <= limit)",
        "if (passes && lane_in_group() == 0)",
    ),
)
into(
    "scan_lists",
    "scan_bound",
    "scan_lists by list float16",
    ("(sizeof(FourOfRow) - 1)) == 0", "(sizeof(FourOfRow) - 1)) >= 0"),
    ("out[i] = d + i < dim ? to_float(from[i]) : 0.0f;", "out[i] = to_float(from[i]);"),
)
into(
    "scan_lists",
    "scan_queries",
    "scan_lists pq walk",
    ("(i64)m * pq_book_size + code_of", "(i64)m + code_of"),
    ("scanned(row, d), centers[(i64)list * dim + d]", "scanned(row, d), centers[d]"),
)
into(
    "scan_lut",
    "scan_lut",
    "scan_lut more float32",
    ("cp_async_wait<0>();", "cp_async_wait<1>();"),
    ("table[m * pq_book_size + code_of", "table[m + code_of"),
    ("m < pq_dim; m += GROUP", "m < pq_dim - 1; m += GROUP"),
    ("cp_async_16(static_cast<char*>(to) + i,", "cp_async_16(static_cast<char*>(to) + i + 16,"),
)
into(
    "scan_lut",
    "scan_lut",
    "scan_lut far",
    ("scale.slack = rounding(a.dim, size);", "scale.slack = 0.0;"),
)
into(
    "scan_lut",
    "scan_lut",
    "scan_lut near ties float16",
    ("sum += 2.0 * 4.8828125e-4 * largest + 5.9604644775390625e-8;", ""),
)
into(
    "scan_lut",
    "scan_lut",
    "scan_lut overflow",
    ("inside && !above &&", "inside && term + (a.norms[row] - product) <= highest &&"),
)
into(
    "scan_lut",
    "scan_lut",
    "scan_lut more float16",
    ("sum += 2.0 * 4.8828125e-4 * largest", "sum -= 2000.0 * largest"),
    ("__syncthreads();  // everyone has it\n    return all;", "return all;"),
)
