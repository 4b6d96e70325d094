// Barriers, fences and warp operations.
#pragma once
#include "emu_core.h"

// ---- block
inline void __syncthreads(EMU_HERE) { emu::barrier(0, emu::Combine::Nothing, EMU_SITE); }
inline int __syncthreads_count(int predicate, EMU_HERE) {
    return emu::barrier(predicate != 0, emu::Combine::Count, EMU_SITE);
}
inline int __syncthreads_and(int predicate, EMU_HERE) {
    return emu::barrier(predicate != 0, emu::Combine::And, EMU_SITE);
}
inline int __syncthreads_or(int predicate, EMU_HERE) {
    return emu::barrier(predicate != 0, emu::Combine::Or, EMU_SITE);
}

// ---- fences and time
inline void __threadfence(EMU_HERE) { emu::fence(EMU_SITE); }
inline void __threadfence_system(EMU_HERE) { emu::fence(EMU_SITE); }
inline void __threadfence_block() { emu::scheduling_point(); }
inline void __nanosleep(unsigned) { emu::scheduling_point(); }
inline long long clock64() { return emu::ticks(); }

// ---- warp
inline void __syncwarp(unsigned mask = ~0u, EMU_HERE) { emu::sync_warp(mask, EMU_SITE); }
inline unsigned __ballot_sync(unsigned mask, int predicate, EMU_HERE) {
    return emu::ballot(mask, predicate != 0, EMU_SITE);
}
inline int __any_sync(unsigned mask, int predicate, EMU_HERE) {
    return emu::ballot(mask, predicate != 0, EMU_SITE) != 0;
}
inline int __all_sync(unsigned mask, int predicate, EMU_HERE) {
    return emu::ballot(mask, predicate == 0, EMU_SITE) == 0;
}

// Legal and the least helpful answer: no kernel may rely on more.
inline unsigned __activemask() { return 1u << emu::lane_index(); }

namespace emu {

template <class T>
EMU_UNCHECKED inline unsigned long long to_bits(T value) {
    static_assert(sizeof(T) <= 8 && __is_trivially_copyable(T), "a warp moves 2, 4 or 8 bytes");
    unsigned long long bits = 0;
    __builtin_memcpy(&bits, &value, sizeof(T));
    return bits;
}

template <class T>
EMU_UNCHECKED inline T from_bits(unsigned long long bits) {
    T value;
    __builtin_memcpy(&value, &bits, sizeof(T));
    return value;
}

template <class T>
inline T shuffled(unsigned mask, T value, int source_lane, Site site) {
    return from_bits<T>(shuffle(mask, to_bits(value), source_lane, site));
}

constexpr int OWN_LANE = -1;

// The first lane of the group of `width` lanes that `lane` belongs to.
inline int group_start(int lane, int width) { return lane & ~(width - 1); }

}  // namespace emu

template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMU_HERE) {
    int start = emu::group_start(emu::lane_index(), width);
    return emu::shuffled(mask, value, start + (source & (width - 1)), EMU_SITE);
}

template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, EMU_HERE) {
    int lane = emu::lane_index();
    int source = lane - static_cast<int>(delta);
    bool inside = source >= emu::group_start(lane, width);
    return emu::shuffled(mask, value, inside ? source : emu::OWN_LANE, EMU_SITE);
}

template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, EMU_HERE) {
    int lane = emu::lane_index();
    int source = lane + static_cast<int>(delta);
    bool inside = source < emu::group_start(lane, width) + width;
    return emu::shuffled(mask, value, inside ? source : emu::OWN_LANE, EMU_SITE);
}

// Earlier groups may be read, later ones may not.
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, EMU_HERE) {
    int lane = emu::lane_index();
    int source = lane ^ lane_mask;
    bool allowed = source < emu::group_start(lane, width) + width;
    return emu::shuffled(mask, value, allowed ? source : emu::OWN_LANE, EMU_SITE);
}

template <class T>
inline unsigned __match_any_sync(unsigned mask, T value, EMU_HERE) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "__match_any_sync compares 4 or 8 bytes");
    return emu::match_any(mask, emu::to_bits(value), EMU_SITE);
}

#define EMU_REDUCE(name, Type, reduction)                                                          \
    inline Type name(unsigned mask, Type value, EMU_HERE) {                                        \
        return static_cast<Type>(                                                                  \
            emu::reduce(mask, static_cast<unsigned>(value), emu::Reduction::reduction, EMU_SITE)); \
    }
EMU_REDUCE(__reduce_add_sync, int, Add)
EMU_REDUCE(__reduce_add_sync, unsigned, Add)
EMU_REDUCE(__reduce_min_sync, int, MinSigned)
EMU_REDUCE(__reduce_min_sync, unsigned, MinUnsigned)
EMU_REDUCE(__reduce_max_sync, int, MaxSigned)
EMU_REDUCE(__reduce_max_sync, unsigned, MaxUnsigned)
EMU_REDUCE(__reduce_and_sync, unsigned, And)
EMU_REDUCE(__reduce_or_sync, unsigned, Or)
EMU_REDUCE(__reduce_xor_sync, unsigned, Xor)
