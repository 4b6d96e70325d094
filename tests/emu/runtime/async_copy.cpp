// cp.async: a copy is queued by its thread and made when that thread waits for its group.
#include <cstring>

#include "runtime.h"

namespace emu {

constexpr unsigned COPY_BYTES = 16;

static bool is_aligned(const void* address) {
    return reinterpret_cast<uintptr_t>(address) % COPY_BYTES == 0;
}

void copy_async(void* shared, const void* global, unsigned source_bytes, Site site) {
    arrive_at(site);
    if (!is_aligned(shared) || (source_bytes > 0 && !is_aligned(global))) {
        fail("cp.async between misaligned addresses: %p from %p", shared, global);
    }
    if constexpr (CHECKED) {
        check_copy_issued(shared, global, source_bytes);
    }
    current->copies.push_back({shared, global, source_bytes, current->copy_group, site});
}

void copy_async_commit() { current->copy_group++; }

static void make_copy(const PendingCopy& copy) {
    arrive_at(copy.site);
    if constexpr (CHECKED) {
        check_copy_done(copy.target, copy.source, copy.source_bytes);
    }
    char* target = static_cast<char*>(copy.target);
    std::memcpy(target, copy.source, copy.source_bytes);
    std::memset(target + copy.source_bytes, 0, COPY_BYTES - copy.source_bytes);
}

// Copies never committed belong to no group yet, and stay.
void copy_async_wait(int groups_left) {
    std::vector<PendingCopy>& copies = current->copies;
    size_t kept = 0;
    for (size_t i = 0; i < copies.size(); i++) {
        if (copies[i].group < current->copy_group - groups_left) {
            make_copy(copies[i]);
        } else {
            copies[kept++] = copies[i];
        }
    }
    copies.resize(kept);
}

void forbid_pending_copies(const Fiber& fiber) {
    if (!fiber.copies.empty()) {
        arrive_at(fiber.copies.front().site);
        fail("the thread ends with %zu cp.async copies never waited for, the first one issued",
             fiber.copies.size());
    }
}

}  // namespace emu
