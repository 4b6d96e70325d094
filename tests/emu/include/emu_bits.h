// Bits: counting, reinterpreting, permuting, and the integer dot product.
#pragma once
#include "emu_keywords.h"

namespace emu {

template <class To, class From>
EMU_UNCHECKED inline To same_bits(From value) {
    static_assert(sizeof(To) == sizeof(From), "as many bits on both sides");
    To result;
    __builtin_memcpy(&result, &value, sizeof(To));
    return result;
}

// Byte `index` of `word`, counted from the lowest.
inline unsigned byte_of(unsigned long long word, unsigned index) {
    return static_cast<unsigned>(word >> (8 * index)) & 255u;
}

}  // namespace emu

// ---- reinterpretation
inline int __float_as_int(float a) { return emu::same_bits<int>(a); }
inline unsigned __float_as_uint(float a) { return emu::same_bits<unsigned>(a); }
inline float __int_as_float(int a) { return emu::same_bits<float>(a); }
inline float __uint_as_float(unsigned a) { return emu::same_bits<float>(a); }
inline long long __double_as_longlong(double a) { return emu::same_bits<long long>(a); }
inline double __longlong_as_double(long long a) { return emu::same_bits<double>(a); }
inline int __double2hiint(double a) {
    return static_cast<int>(emu::same_bits<unsigned long long>(a) >> 32);
}
inline int __double2loint(double a) {
    return static_cast<int>(emu::same_bits<unsigned long long>(a));
}

// ---- counting; zero is defined on a GPU where GCC's builtins leave it open
inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __popcll(unsigned long long a) { return __builtin_popcountll(a); }
inline int __clz(int a) { return a == 0 ? 32 : __builtin_clz(static_cast<unsigned>(a)); }
inline int __clzll(long long a) {
    return a == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(a));
}
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __ffsll(long long a) { return __builtin_ffsll(a); }

// ---- permuting
inline unsigned __brev(unsigned a) {
    unsigned reversed = 0;
    for (int i = 0; i < 32; i++) {
        reversed |= ((a >> i) & 1u) << (31 - i);
    }
    return reversed;
}

inline unsigned long long __brevll(unsigned long long a) {
    unsigned long long low = __brev(static_cast<unsigned>(a));
    return (low << 32) | __brev(static_cast<unsigned>(a >> 32));
}

// Each nibble of the selector takes one of the eight bytes; its top bit takes the sign instead.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    unsigned long long bytes = (static_cast<unsigned long long>(b) << 32) | a;
    unsigned result = 0;
    for (int i = 0; i < 4; i++) {
        unsigned nibble = (selector >> (4 * i)) & 15u;
        unsigned byte = emu::byte_of(bytes, nibble & 7u);
        if (nibble & 8u) {
            byte = (byte & 128u) ? 255u : 0u;
        }
        result |= byte << (8 * i);
    }
    return result;
}

inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    unsigned long long both = (static_cast<unsigned long long>(high) << 32) | low;
    return static_cast<unsigned>((both << (shift & 31u)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    unsigned long long both = (static_cast<unsigned long long>(high) << 32) | low;
    return static_cast<unsigned>(both >> (shift & 31u));
}

// ---- products
inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32);
}
inline int __mulhi(int a, int b) { return static_cast<int>((static_cast<long long>(a) * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}

inline int __dp4a(int a, int b, int c) {
    unsigned sum = static_cast<unsigned>(c);
    for (unsigned i = 0; i < 4; i++) {
        int left = static_cast<signed char>(emu::byte_of(static_cast<unsigned>(a), i));
        int right = static_cast<signed char>(emu::byte_of(static_cast<unsigned>(b), i));
        sum += static_cast<unsigned>(left * right);
    }
    return static_cast<int>(sum);
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
    for (unsigned i = 0; i < 4; i++) {
        c += emu::byte_of(a, i) * emu::byte_of(b, i);
    }
    return c;
}
