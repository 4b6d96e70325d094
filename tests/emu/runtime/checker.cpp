// The checker: is an access within bounds and aligned, was the byte written before, and is the
// access ordered with the others of that byte?
//
// Within a block two accesses are ordered by a __syncthreads between them, within a warp also by a
// __syncwarp. Nothing orders two blocks: there both accesses must be deliberate (atomic, volatile,
// __ldcg), or a plain write must be followed by a __threadfence and read deliberately.
#include "regions.h"

namespace emu {

// ---- fences, for the question whether a block made its writes visible
struct BlockFences {
    uint32_t start;
    uint32_t last_fence;
};
static std::vector<BlockFences> fences;  // of the blocks run so far, in their order

void begin_checked_launch() {
    set_regions();
    fences.clear();
}

void begin_checked_block() { fences.push_back({block_start, 0}); }

void end_checked_launch() { release_large_cells(); }

void note_fence() { fences.back().last_fence = ++now; }

// Blocks run one after another, so the time of a write tells its block.
static bool was_fenced(uint32_t write_time) {
    size_t low = 0;
    size_t high = fences.size();
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        (fences[middle].start <= write_time ? low : high) = middle;
    }
    return fences[low].last_fence > write_time;
}

// ---- traces
static bool is_live(const Trace& trace, bool shared) {
    return trace.time() >= (shared ? block_start : launch_start);
}

static uint16_t warp_of(uint16_t actor) {
    if (actor & LANES_OF_WARP) {
        return actor & ~LANES_OF_WARP;
    }
    return actor == SEVERAL_WARPS ? SEVERAL_WARPS : actor / LANES;
}

static bool from_earlier_block(const Trace& trace) {
    return trace.earlier_block() || trace.time() < block_start;
}

// Is everything in the trace ordered before what the current thread does now?
static bool is_ordered(const Trace& trace) {
    if (from_earlier_block(trace)) {
        return false;
    }
    if (trace.time() < last_barrier || trace.actor() == current->thread) {
        return true;
    }
    return warp_of(trace.actor()) == current->warp && trace.time() < current->warp_sync;
}

static uint16_t together(uint16_t actor, const Fiber& fiber) {
    if (actor == fiber.thread) {
        return actor;
    }
    return warp_of(actor) == fiber.warp ? LANES_OF_WARP | fiber.warp : SEVERAL_WARPS;
}

// The trace once the current thread has added its own access.
static Trace extended(const Trace& before, bool live, bool deliberate) {
    const auto actor = static_cast<uint16_t>(current->thread);
    if (!live || is_ordered(before)) {
        return trace_of(now, actor, deliberate, false);
    }
    const bool own_block = before.time() >= block_start;
    return trace_of(now, own_block ? together(before.actor(), *current) : actor, deliberate,
                    from_earlier_block(before));
}

// ---- reports
struct Step {
    Access access;
    const Region& region;
    long offset;
};

static bool is_write(Access access) {
    return access == Access::Write || access == Access::VolatileWrite || access == Access::Atomic;
}

static bool is_deliberate(Access access) {
    return access == Access::VolatileRead || access == Access::VolatileWrite ||
           access == Access::Atomic;
}

static const char* verb_of(Access access) {
    if (access == Access::Atomic) {
        return "atomic";
    }
    return is_write(access) ? "write" : "read";
}

static std::string actor_text(const Trace& trace) {
    if (from_earlier_block(trace)) {
        return "another block";
    }
    if (trace.actor() == SEVERAL_WARPS || trace.actor() & LANES_OF_WARP) {
        return "several threads";
    }
    return "thread " + std::to_string(trace.actor());
}

[[noreturn]] static void fail_race(const Step& step, const Trace& other, const char* other_verb) {
    fail("race on %s byte %ld: %s after %s by %s, %s", describe(step.region).c_str(), step.offset,
         verb_of(step.access), other_verb, actor_text(other).c_str(),
         from_earlier_block(other) ? "and nothing orders two blocks" : "with no barrier between");
}

// ---- one byte
static void check_against_writes(const Step& step, const Trace& write) {
    const char* other = write.deliberate() ? "an atomic or volatile write" : "a write";
    if (!is_deliberate(step.access)) {
        if (!is_ordered(write)) {
            fail_race(step, write, other);
        }
        return;
    }
    if (is_write(step.access)) {
        if (!write.deliberate() && !is_ordered(write)) {
            fail_race(step, write, other);
        }
        return;
    }
    if (!write.deliberate() && from_earlier_block(write) && !was_fenced(write.time())) {
        fail("race on %s byte %ld: read of what another block wrote without a __threadfence since",
             describe(step.region).c_str(), step.offset);
    }
}

static void check_byte(const Step& step, Cell& cell) {
    bool written = is_live(cell.write, step.region.shared);
    bool read = is_live(cell.read, step.region.shared);
    if (step.region.shared && !written && step.access != Access::Write &&
        step.access != Access::VolatileWrite) {
        fail("%s of uninitialised shared memory: %s byte %ld", verb_of(step.access),
             describe(step.region).c_str(), step.offset);
    }
    if (written && cell.write.in_flight()) {
        fail("%s of %s byte %ld while a cp.async into it is in flight", verb_of(step.access),
             describe(step.region).c_str(), step.offset);
    }
    if (written && step.access == Access::ReadOnly) {
        fail("__ldg of %s byte %ld, which was written in this launch",
             describe(step.region).c_str(), step.offset);
    }
    if (written) {
        check_against_writes(step, cell.write);
    }
    if (is_write(step.access)) {
        if (read && !is_ordered(cell.read)) {
            fail_race(step, cell.read, "a read");
        }
        cell.write = extended(cell.write, written, is_deliberate(step.access));
    } else if (!is_deliberate(step.access)) {
        cell.read = extended(cell.read, read, false);
    }
}

// ---- one access
static bool is_same(const Cell& a, const Cell& b) {
    return ((a.write.bits ^ b.write.bits) | (a.read.bits ^ b.read.bits)) == 0;
}

// Bytes of one word mostly share their past: what held for the first holds for its equals.
static void check_bytes(const Region& region, const char* address, unsigned long bytes,
                        Access access) {
    long offset = region.offset_of(address);
    Cell* cells = region.cells + offset;
    const Cell before = cells[0];
    Cell after = before;
    check_byte({access, region, offset}, after);
    cells[0] = after;
    for (unsigned long i = 1; i < bytes; i++) {
        if (is_same(cells[i], before)) {
            cells[i] = after;
        } else {
            check_byte({access, region, offset + static_cast<long>(i)}, cells[i]);
        }
    }
}

static bool is_power_of_two(unsigned long bytes) { return (bytes & (bytes - 1)) == 0; }

// Its own local variables concern nobody; those of another thread do not exist on a GPU.
static bool is_own_stack(const char* byte) {
    if (static_cast<size_t>(byte - current->stack_low) < STACK_BYTES) {
        return true;
    }
    size_t offset = static_cast<size_t>(byte - request->stacks);
    if (byte >= request->stacks && offset < STACK_BYTES * block_threads) {
        fail("access to a local variable of another thread");
    }
    return false;
}

static Region& region_of(const char* address, unsigned long bytes, const char* verb) {
    Region* region = find_region(address);
    if (!region) {
        fail_outside(address, bytes, verb);
    }
    if (bytes > static_cast<unsigned long>(region->high - address)) {
        fail("out-of-bounds %s of %lu bytes at byte %ld of %s (%ld bytes)", verb, bytes,
             region->offset_of(address), describe(*region).c_str(),
             static_cast<long>(region->high - region->low));
    }
    return *region;
}

void check_access(const void* address, unsigned long bytes, Access access) {
    const char* byte = static_cast<const char*>(address);
    if (bytes == 0 || is_own_stack(byte) || (!is_write(access) && is_constant(byte))) {
        return;
    }
    Region& region = region_of(byte, bytes, verb_of(access));
    bool one_word = bytes <= 16 && is_power_of_two(bytes);
    if (one_word && (reinterpret_cast<uintptr_t>(address) & (bytes - 1)) != 0) {
        fail("misaligned %s of %lu bytes at byte %ld of %s", verb_of(access), bytes,
             region.offset_of(address), describe(region).c_str());
    }
    check_bytes(region, byte, bytes, access);
}

void check(const void* address, unsigned long bytes, Access access, Site site) {
    arrive_at(site);
    check_access(address, bytes, access);
}

// ---- cp.async
constexpr unsigned COPIED_BYTES = 16;

static void set_in_flight(const Region& region, const char* target, bool in_flight) {
    Cell* cells = region.cells + region.offset_of(target);
    for (unsigned i = 0; i < COPIED_BYTES; i++) {
        cells[i].write.set_in_flight(in_flight);
    }
}

void check_copy_issued(void* target, const void* source, unsigned source_bytes) {
    check_access(source, source_bytes, Access::Read);
    check_access(target, COPIED_BYTES, Access::Write);
    const Region* to = find_region(target);
    if (!to || !to->shared) {
        fail("cp.async into memory that is not shared");
    }
    set_in_flight(*to, static_cast<const char*>(target), true);
    const Region* from = source_bytes > 0 ? find_region(source) : nullptr;
    if (from && from->shared) {
        fail("cp.async from shared memory");
    }
}

void check_copy_done(void* target, const void* source, unsigned source_bytes) {
    set_in_flight(*find_region(target), static_cast<const char*>(target), false);
    check_access(source, source_bytes, Access::Read);
    check_access(target, COPIED_BYTES, Access::Write);
}

}  // namespace emu
