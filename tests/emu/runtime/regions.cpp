// Which memory lies where.
#include "regions.h"

#include <sys/mman.h>

#include <algorithm>

// Set by the linker: the library starts with code and constants; zeroed variables end it.
extern "C" {
__attribute__((visibility("hidden"))) extern char __ehdr_start[];
__attribute__((visibility("hidden"))) extern char __bss_start[];
}

namespace emu {

static std::vector<Region> regions;  // by address

// Where addresses were found lately, by page; kernels alternate between a few buffers.
constexpr size_t RECENT = 64;
static Region nowhere;
static Region* recent[RECENT];

bool is_constant(const void* address) { return address >= __ehdr_start && address < __bss_start; }

static bool is_lower(const Region& a, const Region& b) { return a.low < b.low; }

static size_t cell_bytes(const Region& region) {
    size_t bytes = static_cast<size_t>(region.high - region.low);
    return std::max<size_t>(bytes, 1) * sizeof(Cell);
}

// Zero, and no memory until it is touched.
static Cell* make_cells(const Region& region) {
    void* cells = mmap(nullptr, cell_bytes(region), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return cells == MAP_FAILED ? nullptr : static_cast<Cell*>(cells);
}

static void add(std::vector<Region>& list, char* address, long bytes, long buffer,
                const char* name) {
    list.push_back({address, address + bytes, nullptr, buffer < 0, buffer, name});
}

static std::vector<Region> wanted_regions() {
    std::vector<Region> wanted;
    for (const SharedVariable& variable : shared_variables) {
        add(wanted, variable.address, variable.bytes, -1, variable.name);
    }
    if (request->shared_bytes > 0) {
        add(wanted, dynamic_memory, request->shared_bytes, -1, "dynamic shared memory");
    }
    for (long i = 0; i < request->buffer_count; i++) {
        add(wanted, request->buffers[i].address, request->buffers[i].bytes, i, nullptr);
    }
    std::sort(wanted.begin(), wanted.end(), is_lower);
    return wanted;
}

// Takes over the cells of a former region at the same place: traces tell their age.
static Cell* take_former_cells(const Region& region) {
    auto former = std::lower_bound(regions.begin(), regions.end(), region, is_lower);
    if (former == regions.end() || former->low != region.low || former->high != region.high) {
        return nullptr;
    }
    Cell* cells = former->cells;
    former->cells = nullptr;
    return cells;
}

static void drop_cells(std::vector<Region>& list) {
    for (Region& region : list) {
        if (region.cells) {
            munmap(region.cells, cell_bytes(region));
        }
    }
    list.clear();
}

void set_regions() {
    constexpr uint32_t LATE = 0xE0000000u;  // before time runs out, start anew
    if (now > LATE) {
        drop_cells(regions);
        now = 0;
    }
    std::vector<Region> wanted = wanted_regions();
    for (Region& region : wanted) {
        region.cells = take_former_cells(region);
        if (!region.cells) {
            region.cells = make_cells(region);
        }
    }
    drop_cells(regions);
    regions = std::move(wanted);
    std::fill_n(recent, RECENT, &nowhere);
}

// Cells take sixteen times the memory they watch: those of large buffers are given back.
void release_large_cells() {
    constexpr size_t LARGE = 32u << 20;
    for (const Region& region : regions) {
        if (cell_bytes(region) > LARGE) {
            madvise(region.cells, cell_bytes(region), MADV_DONTNEED);
        }
    }
}

// The first region that starts above the address.
static std::vector<Region>::iterator first_above(const char* address) {
    auto starts_above = [](const char* byte, const Region& region) { return byte < region.low; };
    return std::upper_bound(regions.begin(), regions.end(), address, starts_above);
}

Region* find_region(const void* address) {
    const char* byte = static_cast<const char*>(address);
    Region*& found = recent[reinterpret_cast<uintptr_t>(address) / 4096 % RECENT];
    if (byte >= found->low && byte < found->high) {
        return found;
    }
    auto above = first_above(byte);
    if (above == regions.begin() || byte >= (above - 1)->high) {
        return nullptr;
    }
    found = &*(above - 1);
    return found;
}

// Python puts the labels of the buffers in.
std::string describe(const Region& region) {
    if (region.buffer >= 0) {
        return "{buffer " + std::to_string(region.buffer) + "}";
    }
    return region.name;
}

void fail_outside(const void* address, unsigned long bytes, const char* verb) {
    constexpr long NEAR = 1 << 20;
    const char* byte = static_cast<const char*>(address);
    auto above = first_above(byte);
    long behind = above == regions.begin() ? NEAR : byte - (above - 1)->high;
    long before = above == regions.end() ? NEAR : above->low - byte;
    if (behind >= NEAR && before >= NEAR) {
        fail("out-of-bounds %s of %lu bytes at %p, where no buffer is", verb, bytes, address);
    }
    const Region& nearest = behind <= before ? *(above - 1) : *above;
    std::string where = behind <= before ? std::to_string(behind) + " bytes past the end"
                                         : std::to_string(before) + " bytes before the start";
    fail("out-of-bounds %s of %lu bytes, %s of %s (%ld bytes)", verb, bytes, where.c_str(),
         describe(nearest).c_str(), static_cast<long>(nearest.high - nearest.low));
}

}  // namespace emu
