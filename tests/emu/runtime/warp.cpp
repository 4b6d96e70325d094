// Warp operations. The lanes of a mask leave what they bring; the last one to come computes the
// results of all.
#include "runtime.h"

namespace emu {

struct Kind {
    const char* name;
    void (*complete)(void** slots, unsigned arrived);
    bool orders_memory;
};

struct Operation {
    const Kind* kind;
    unsigned mask;
    unsigned arrived;
    Site site;
    void* slots[LANES];
};

struct Warp {
    unsigned alive;  // mask of the lanes that have not left the kernel
    unsigned open;   // how many operations wait for lanes
    Operation operations[LANES];
};

static Warp warps[MAX_THREADS / LANES];

static bool has_lane(unsigned mask, unsigned lane) { return (mask >> lane) & 1u; }

void start_warps() {
    for (unsigned warp = 0; warp * LANES < block_threads; warp++) {
        unsigned lanes = block_threads - warp * LANES;
        warps[warp].alive = lanes >= LANES ? ~0u : (1u << lanes) - 1;
        warps[warp].open = 0;
    }
}

// Gives all lanes their results and lets them go on.
static void finish(unsigned warp_number, Operation* operation) {
    Warp& warp = warps[warp_number];
    operation->kind->complete(operation->slots, operation->arrived);
    bool orders_memory = operation->kind->orders_memory;
    unsigned arrived = operation->arrived;
    *operation = warp.operations[--warp.open];
    if (orders_memory) {
        now++;
    }
    for (unsigned lane = 0; lane < LANES; lane++) {
        if (!has_lane(arrived, lane)) {
            continue;
        }
        Fiber* fiber = &fibers[warp_number * LANES + lane];
        if (orders_memory) {
            fiber->warp_sync = now;
        }
        if (fiber != current) {
            make_ready(fiber);
        }
    }
}

static void forbid_divergence(const Operation& open, const Kind& kind, unsigned mask, Site site) {
    if (open.mask == mask && open.kind == &kind && open.site.line == site.line) {
        return;
    }
    fail(
        "divergent warp operation: %s of mask %08x, while lanes %08x wait in %s of mask %08x at "
        "%s:%d",
        kind.name, mask, open.arrived, open.kind->name, open.mask, open.site.file, open.site.line);
}

static Operation* find_or_open(Warp& warp, const Kind& kind, unsigned mask, Site site) {
    Operation* found = nullptr;
    for (unsigned i = 0; i < warp.open; i++) {
        if (warp.operations[i].mask & mask) {
            forbid_divergence(warp.operations[i], kind, mask, site);
            found = &warp.operations[i];
        }
    }
    if (found) {
        return found;
    }
    Operation* opened = &warp.operations[warp.open++];
    opened->kind = &kind;
    opened->mask = mask;
    opened->arrived = 0;
    opened->site = site;
    return opened;
}

static void meet(const Kind& kind, unsigned mask, void* slot, Site site) {
    arrive_at(site);
    Fiber& fiber = *current;
    Warp& warp = warps[fiber.warp];
    if (!has_lane(mask, fiber.lane)) {
        fail("%s: the calling lane %u is not in its mask %08x", kind.name, fiber.lane, mask);
    }
    Operation* operation = find_or_open(warp, kind, mask, site);
    operation->slots[fiber.lane] = slot;
    operation->arrived |= 1u << fiber.lane;
    if (operation->arrived != (mask & warp.alive)) {
        wait_in(kind.name, site);
        return;
    }
    finish(fiber.warp, operation);
    if (request->schedule == RANDOM) {
        make_ready(&fiber);
        give_way();
    }
}

// A lane that leaves the kernel is waited for no longer.
void leave_warp(Fiber& fiber) {
    Warp& warp = warps[fiber.warp];
    warp.alive &= ~(1u << fiber.lane);
    unsigned i = 0;
    while (i < warp.open) {
        Operation& operation = warp.operations[i];
        if (operation.arrived == (operation.mask & warp.alive)) {
            finish(fiber.warp, &operation);  // puts the last open one in its place
        } else {
            i++;
        }
    }
}

// ---- __syncwarp
static void complete_nothing(void**, unsigned) {}
static const Kind SYNC_WARP{"__syncwarp", complete_nothing, true};

void sync_warp(unsigned mask, Site site) { meet(SYNC_WARP, mask, nullptr, site); }

// ---- shuffles
struct Shuffle {
    unsigned long long brought;
    unsigned long long result;
    int source_lane;  // negative: the own value
};

// What an absent lane gives is undefined: this value is easily seen.
constexpr unsigned long long ABSENT = 0xDEADBEEFDEADBEEFu;

static void complete_shuffle(void** slots, unsigned arrived) {
    for (unsigned lane = 0; lane < LANES; lane++) {
        if (!has_lane(arrived, lane)) {
            continue;
        }
        auto* mine = static_cast<Shuffle*>(slots[lane]);
        if (mine->source_lane < 0) {
            mine->result = mine->brought;
        } else if (has_lane(arrived, static_cast<unsigned>(mine->source_lane))) {
            mine->result = static_cast<Shuffle*>(slots[mine->source_lane])->brought;
        } else {
            mine->result = ABSENT;
        }
    }
}
static const Kind SHUFFLE{"shuffle", complete_shuffle, false};

unsigned long long shuffle(unsigned mask, unsigned long long bits, int source_lane, Site site) {
    Shuffle mine{bits, 0, source_lane};
    meet(SHUFFLE, mask, &mine, site);
    return mine.result;
}

// ---- votes
struct Vote {
    bool predicate;
    unsigned result;
};

static void complete_vote(void** slots, unsigned arrived) {
    unsigned yes = 0;
    for (unsigned lane = 0; lane < LANES; lane++) {
        if (has_lane(arrived, lane) && static_cast<Vote*>(slots[lane])->predicate) {
            yes |= 1u << lane;
        }
    }
    for (unsigned lane = 0; lane < LANES; lane++) {
        if (has_lane(arrived, lane)) {
            static_cast<Vote*>(slots[lane])->result = yes;
        }
    }
}
static const Kind VOTE{"vote", complete_vote, false};

unsigned ballot(unsigned mask, bool predicate, Site site) {
    Vote mine{predicate, 0};
    meet(VOTE, mask, &mine, site);
    return mine.result;
}

// ---- __match_any_sync
struct Match {
    unsigned long long brought;
    unsigned result;
};

static void complete_match(void** slots, unsigned arrived) {
    for (unsigned lane = 0; lane < LANES; lane++) {
        if (!has_lane(arrived, lane)) {
            continue;
        }
        auto* mine = static_cast<Match*>(slots[lane]);
        for (unsigned other = 0; other < LANES; other++) {
            bool equal = has_lane(arrived, other) &&
                         static_cast<Match*>(slots[other])->brought == mine->brought;
            mine->result |= equal ? 1u << other : 0u;
        }
    }
}
static const Kind MATCH{"match", complete_match, false};

unsigned match_any(unsigned mask, unsigned long long bits, Site site) {
    Match mine{bits, 0};
    meet(MATCH, mask, &mine, site);
    return mine.result;
}

// ---- tensor cores: fragments as the PTX manual lays them out, lane = 4 * group + place
static void need_all_lanes(const char* name, unsigned arrived) {
    if (arrived != ~0u) {
        fail("%s needs all lanes of the warp, %08x came", name, arrived);
    }
}

struct Product {
    float* d;
    const unsigned* a;
    const unsigned* b;
    const float* c;
};

static float half_of(unsigned word, unsigned which) {
    const unsigned short bits = static_cast<unsigned short>(word >> 16 * which);
    _Float16 value;
    __builtin_memcpy(&value, &bits, sizeof(value));
    return static_cast<float>(value);
}

// Nearest float32 to the sum that is not further from zero: hardware may cut off.
static float cut_off(double sum) {
    float nearest = static_cast<float>(sum);
    const bool is_further = __builtin_fabs(static_cast<double>(nearest)) > __builtin_fabs(sum);
    uint32_t bits;
    __builtin_memcpy(&bits, &nearest, sizeof(bits));
    bits -= is_further;  // the float32 before it, as seen from zero; no branch can foresee which
    __builtin_memcpy(&nearest, &bits, sizeof(bits));
    return nearest;
}

// d = a b + c of 16 x 16 and 16 x 8 halves, summed one product after the other: hardware keeps no
// promise on the order or the rounding; the interpreter of PTX sums in another way.
static void complete_product(void** slots, unsigned arrived) {
    need_all_lanes("mma", arrived);
    float a[16][16], b[16][8], d[16][8];
    for (unsigned lane = 0; lane < LANES; lane++) {
        auto* mine = static_cast<Product*>(slots[lane]);
        const unsigned group = lane / 4, place = lane % 4;
        for (unsigned i = 0; i < 4; i++) {
            for (unsigned half = 0; half < 2; half++) {
                const unsigned column = 2 * place + 8 * (i / 2) + half;
                a[group + 8 * (i % 2)][column] = half_of(mine->a[i], half);
                if (i < 2) {
                    b[2 * place + 8 * i + half][group] = half_of(mine->b[i], half);
                }
            }
            d[group + 8 * (i / 2)][2 * place + i % 2] = mine->c[i];
        }
    }
    for (unsigned i = 0; i < 16; i++) {
        for (unsigned k = 0; k < 16; k++) {
            for (unsigned j = 0; j < 8; j++) {  // inside: eight sums that wait for nobody
                const double product = static_cast<double>(a[i][k]) * static_cast<double>(b[k][j]);
                d[i][j] = cut_off(static_cast<double>(d[i][j]) + product);
            }
        }
    }
    for (unsigned lane = 0; lane < LANES; lane++) {
        auto* mine = static_cast<Product*>(slots[lane]);
        for (unsigned i = 0; i < 4; i++) {
            mine->d[i] = d[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
        }
    }
}
static const Kind PRODUCT{"mma", complete_product, false};

void multiply_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                  const float (&c)[4], Site site) {
    Product mine{d, a, b, c};
    meet(PRODUCT, ~0u, &mine, site);
}

// ---- reductions
struct Reduce {
    unsigned brought;
    unsigned result;
    Reduction reduction;
};

static unsigned reduced(unsigned a, unsigned b, Reduction reduction) {
    int signed_a = static_cast<int>(a);
    int signed_b = static_cast<int>(b);
    switch (reduction) {
        case Reduction::Add:
            return a + b;
        case Reduction::MinSigned:
            return signed_a < signed_b ? a : b;
        case Reduction::MinUnsigned:
            return a < b ? a : b;
        case Reduction::MaxSigned:
            return signed_a > signed_b ? a : b;
        case Reduction::MaxUnsigned:
            return a > b ? a : b;
        case Reduction::And:
            return a & b;
        case Reduction::Or:
            return a | b;
        default:
            return a ^ b;
    }
}

static void complete_reduce(void** slots, unsigned arrived) {
    unsigned first = static_cast<unsigned>(__builtin_ctz(arrived));
    auto* start = static_cast<Reduce*>(slots[first]);
    unsigned result = start->brought;
    for (unsigned lane = first + 1; lane < LANES; lane++) {
        if (has_lane(arrived, lane)) {
            result = reduced(result, static_cast<Reduce*>(slots[lane])->brought, start->reduction);
        }
    }
    for (unsigned lane = first; lane < LANES; lane++) {
        if (has_lane(arrived, lane)) {
            static_cast<Reduce*>(slots[lane])->result = result;
        }
    }
}
static const Kind REDUCE{"reduce", complete_reduce, false};

unsigned reduce(unsigned mask, unsigned bits, Reduction reduction, Site site) {
    Reduce mine{bits, 0, reduction};
    meet(REDUCE, mask, &mine, site);
    return mine.result;
}

}  // namespace emu
