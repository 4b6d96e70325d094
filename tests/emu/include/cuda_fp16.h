// The part of cuda_fp16.h that kernels may use, on GCC's _Float16.
// Every operation is done in float (the fused one in double) and rounded once to half.
#pragma once
#include "emu_bits.h"
#include "emu_math.h"

struct alignas(2) __half {
    _Float16 value;

    __half() = default;
    __half(_Float16 half) : value(half) {}
    __half(float number) : value(static_cast<_Float16>(number)) {}
    __half(double number) : value(static_cast<_Float16>(number)) {}
    __half(int number) : value(static_cast<_Float16>(number)) {}
    operator float() const { return static_cast<float>(value); }
};
typedef __half half;

struct alignas(4) __half2 {
    __half x, y;

    __half2() = default;
    __half2(__half low, __half high) : x(low), y(high) {}
};
typedef __half2 half2;

// ---- conversions
inline float __half2float(__half a) { return static_cast<float>(a.value); }
inline __half __float2half(float a) { return __half(a); }
inline __half __float2half_rn(float a) { return __half(a); }
inline __half __double2half(double a) { return __half(a); }
inline __half __int2half_rn(int a) { return __half(a); }
inline unsigned short __half_as_ushort(__half a) { return emu::same_bits<unsigned short>(a.value); }
inline __half __ushort_as_half(unsigned short a) { return __half(emu::same_bits<_Float16>(a)); }
inline __half2 __floats2half2_rn(float low, float high) {
    return __half2(__half(low), __half(high));
}
inline __half2 __float2half2_rn(float a) { return __half2(__half(a), __half(a)); }
inline __half2 __half2half2(__half a) { return __half2(a, a); }
inline __half2 __halves2half2(__half low, __half high) { return __half2(low, high); }
inline float2 __half22float2(__half2 a) { return {__half2float(a.x), __half2float(a.y)}; }
inline float __low2float(__half2 a) { return __half2float(a.x); }
inline float __high2float(__half2 a) { return __half2float(a.y); }
inline __half __low2half(__half2 a) { return a.x; }
inline __half __high2half(__half2 a) { return a.y; }

// ---- arithmetic, for one half and for a pair
#define EMU_HALF_OPERATION(name, expression) \
    inline __half name(__half a, __half b) { \
        float x = __half2float(a);           \
        float y = __half2float(b);           \
        return __half(expression);           \
    }                                        \
    inline __half2 name##2(__half2 a, __half2 b) { return __half2(name(a.x, b.x), name(a.y, b.y)); }
EMU_HALF_OPERATION(__hadd, x + y)
EMU_HALF_OPERATION(__hsub, x - y)
EMU_HALF_OPERATION(__hmul, (x * y))
EMU_HALF_OPERATION(__hmin, fminf(x, y))
EMU_HALF_OPERATION(__hmax, fmaxf(x, y))

inline __half __hdiv(__half a, __half b) { return __half(__half2float(a) / __half2float(b)); }
inline __half __hneg(__half a) { return __half(-__half2float(a)); }
inline __half __habs(__half a) { return __half(fabsf(__half2float(a))); }
inline __half hsqrt(__half a) { return __half(sqrtf(__half2float(a))); }
inline __half __hfma(__half a, __half b, __half c) {
    double product = static_cast<double>(__half2float(a)) * __half2float(b);
    return __half(product + __half2float(c));
}
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
    return __half2(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}

inline __half operator+(__half a, __half b) { return __hadd(a, b); }
inline __half operator-(__half a, __half b) { return __hsub(a, b); }
inline __half operator*(__half a, __half b) { return __hmul(a, b); }

// ---- comparisons
#define EMU_HALF_COMPARISON(name, symbol)                                                   \
    inline bool name(__half a, __half b) { return __half2float(a) symbol __half2float(b); } \
    inline bool operator symbol(__half a, __half b) { return name(a, b); }
EMU_HALF_COMPARISON(__hlt, <)
EMU_HALF_COMPARISON(__hle, <=)
EMU_HALF_COMPARISON(__hgt, >)
EMU_HALF_COMPARISON(__hge, >=)
EMU_HALF_COMPARISON(__heq, ==)
EMU_HALF_COMPARISON(__hne, !=)

inline bool __hisnan(__half a) { return isnan(__half2float(a)); }
