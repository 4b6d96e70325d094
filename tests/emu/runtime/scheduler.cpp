// Who runs next, the block barrier, and the life of a block.
#include "runtime.h"

namespace emu {

Fiber* current;
Fiber host;
Fiber fibers[MAX_THREADS];
uint3 block;
uint32_t now;
uint32_t launch_start;
uint32_t block_start;
uint32_t last_barrier;

// ---- random numbers (xorshift)
static uint64_t random_state;

void seed_random(uint64_t seed) { random_state = seed * 0x9E3779B97F4A7C15u + 0x1234567u; }

uint32_t random_number() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return static_cast<uint32_t>(random_state >> 16);
}

// ---- threads that can run, in a ring: each is in it once at most
static Fiber* ready[MAX_THREADS];
static unsigned ready_first;
static unsigned ready_count;

static Fiber*& ready_at(unsigned position) { return ready[(ready_first + position) % MAX_THREADS]; }

void make_ready(Fiber* fiber) {
    fiber->state = State::Ready;
    ready_at(ready_count++) = fiber;
}

static Fiber* take_first() {
    Fiber* fiber = ready_at(0);
    ready_first = (ready_first + 1) % MAX_THREADS;
    ready_count--;
    return fiber;
}

static Fiber* take_last() { return ready_at(--ready_count); }

static Fiber* take_any() {
    unsigned position = random_number() % ready_count;
    Fiber* fiber = ready_at(position);
    ready_at(position) = ready_at(ready_count - 1);
    ready_count--;
    return fiber;
}

static Fiber* take_next() {
    if (ready_count == 0) {
        return nullptr;
    }
    switch (request->schedule) {
        case IN_ORDER:
            return take_first();
        case REVERSE:
            return take_last();
        default:
            return take_any();
    }
}

// With nobody left to run, the host goes on: the block is done, or deadlocked.
void give_way() {
    Fiber* next = take_next();
    if (next == current) {
        return;
    }
    switch_to(next ? next : &host);
}

void wait_in(const char* what, Site site) {
    current->state = State::Waiting;
    current->waits_in = what;
    current->waits_at = site;
    give_way();
}

// In random schedules others come in between now and then; in the others only a thread that may be
// spinning on a value gives way.
void scheduling_point() {
    bool yields =
        request->schedule == RANDOM ? random_number() % 4 == 0 : ++current->points_passed > 1000;
    if (yields && ready_count > 0) {
        current->points_passed = 0;
        make_ready(current);
        give_way();
    }
}

long long ticks() {
    scheduling_point();
    return now++;
}

void fence(Site site) {
    arrive_at(site);
    if constexpr (CHECKED) {
        note_fence();
    }
    scheduling_point();
}

// ---- the barrier of the block
static struct {
    std::vector<Fiber*> waiting;
    unsigned arrived;
    Combine combine;
    int combined;
    int result;
    Site site;
} meeting;
static unsigned alive;

static int combine_with(int so_far, int predicate, Combine combine) {
    switch (combine) {
        case Combine::Count:
            return so_far + predicate;
        case Combine::And:
            return so_far & predicate;
        case Combine::Or:
            return so_far | predicate;
        default:
            return 0;
    }
}

static void open_barrier() {
    meeting.result = meeting.combined;
    meeting.arrived = 0;
    last_barrier = ++now;
    if (request->schedule == REVERSE) {
        for (size_t i = meeting.waiting.size(); i > 0; i--) {
            make_ready(meeting.waiting[i - 1]);
        }
    } else {
        for (Fiber* fiber : meeting.waiting) {
            make_ready(fiber);
        }
    }
    meeting.waiting.clear();
}

int barrier(int predicate, Combine combine, Site site) {
    arrive_at(site);
    if (meeting.arrived == 0) {
        meeting.combine = combine;
        meeting.combined = combine == Combine::And;
        meeting.site = site;
    } else if (meeting.site.line != site.line || meeting.combine != combine) {
        fail("divergent __syncthreads: %u other threads wait in the one at %s:%d", meeting.arrived,
             meeting.site.file, meeting.site.line);
    }
    meeting.combined = combine_with(meeting.combined, predicate, combine);
    meeting.arrived++;
    meeting.waiting.push_back(current);
    if (meeting.arrived == alive) {
        open_barrier();
        give_way();
    } else {
        wait_in("__syncthreads", site);
    }
    return meeting.result;
}

// ---- the life of a block
[[noreturn]] void leave_kernel() {
    current->state = State::Done;
    switch_to(&host);
    __builtin_unreachable();
}

static void run_thread() {
    request->call(request->argument);
    forbid_pending_copies(*current);
    current->state = State::Done;
    alive--;
    leave_warp(*current);
    if (meeting.arrived > 0 && meeting.arrived == alive) {
        open_barrier();
    }
    Fiber* next = take_next();
    switch_to(next ? next : &host);
    __builtin_unreachable();
}

static void start_thread(unsigned thread) {
    Fiber& fiber = fibers[thread];
    const unsigned* size = request->block;
    fiber.index = {thread % size[0], thread / size[0] % size[1], thread / size[0] / size[1]};
    fiber.thread = thread;
    fiber.warp = thread / LANES;
    fiber.lane = thread % LANES;
    fiber.waits_in = nullptr;
    fiber.warp_sync = 0;
    fiber.points_passed = 0;
    fiber.copy_group = 0;
    fiber.copies.clear();
    prepare_stack(fiber, request->stacks + STACK_BYTES * thread, run_thread);
    make_ready(&fiber);
}

void run_block(unsigned long number) {
    const unsigned* grid = request->grid;
    block = {static_cast<unsigned>(number % grid[0]),
             static_cast<unsigned>(number / grid[0] % grid[1]),
             static_cast<unsigned>(number / grid[0] / grid[1])};
    last_barrier = block_start = ++now;
    if constexpr (CHECKED) {
        begin_checked_block();
    }
    poison_shared();
    alive = block_threads;
    ready_first = ready_count = 0;
    meeting.arrived = 0;
    meeting.waiting.clear();
    start_warps();
    for (unsigned i = 0; i < block_threads; i++) {
        start_thread(i);
    }
    current = &host;
    switch_to(take_next());
    if (!failed && alive > 0) {
        report_deadlock();
    }
}

}  // namespace emu
