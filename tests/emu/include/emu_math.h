// Arithmetic: the mathematical functions, and the intrinsics that fix a rounding.
#pragma once
#include "emu_keywords.h"

// ---- the C library's, declared here because its header would bring INFINITY and more with it
extern "C" {
#define EMU_UNARY(name)           \
    double name(double) noexcept; \
    float name##f(float) noexcept;
EMU_UNARY(sqrt)
EMU_UNARY(fabs)
EMU_UNARY(floor)
EMU_UNARY(ceil)
EMU_UNARY(rint)
EMU_UNARY(round)
EMU_UNARY(trunc)
EMU_UNARY(exp)
EMU_UNARY(exp2)
EMU_UNARY(expm1)
EMU_UNARY(log)
EMU_UNARY(log2)
EMU_UNARY(log10)
EMU_UNARY(log1p)
EMU_UNARY(sin)
EMU_UNARY(cos)
EMU_UNARY(tanh)
#undef EMU_UNARY
#define EMU_BINARY(name)                  \
    double name(double, double) noexcept; \
    float name##f(float, float) noexcept;
EMU_BINARY(fmin)
EMU_BINARY(fmax)
EMU_BINARY(fmod)
EMU_BINARY(pow)
EMU_BINARY(copysign)
EMU_BINARY(nextafter)
EMU_BINARY(hypot)
#undef EMU_BINARY
double fma(double, double, double) noexcept;
float fmaf(float, float, float) noexcept;
double ldexp(double, int) noexcept;
float ldexpf(float, int) noexcept;
int abs(int) noexcept;
long labs(long) noexcept;
long long llabs(long long) noexcept;
}

// ---- C++ overloads for float
inline float sqrt(float a) { return sqrtf(a); }
inline float fabs(float a) { return fabsf(a); }
inline float floor(float a) { return floorf(a); }
inline float ceil(float a) { return ceilf(a); }
inline float fma(float a, float b, float c) { return fmaf(a, b, c); }
inline float abs(float a) { return fabsf(a); }
inline double abs(double a) { return fabs(a); }
inline long abs(long a) { return labs(a); }
inline long long abs(long long a) { return llabs(a); }
inline float rsqrtf(float a) { return 1.0f / sqrtf(a); }
inline double rsqrt(double a) { return 1.0 / sqrt(a); }
inline bool isnan(float a) { return __builtin_isnan(a); }
inline bool isnan(double a) { return __builtin_isnan(a); }
inline bool isinf(float a) { return __builtin_isinf(a) != 0; }
inline bool isinf(double a) { return __builtin_isinf(a) != 0; }
inline bool isfinite(float a) { return __builtin_isfinite(a); }
inline bool isfinite(double a) { return __builtin_isfinite(a); }
inline bool signbit(float a) { return __builtin_signbit(a) != 0; }
inline bool signbit(double a) { return __builtin_signbit(a) != 0; }

// ---- min and max: exactly CUDA's overloads, so that what is ambiguous there is ambiguous here
#define EMU_MIN_MAX(Left, Right, Result)       \
    inline Result min(Left a, Right b) {       \
        Result left = static_cast<Result>(a);  \
        Result right = static_cast<Result>(b); \
        return right < left ? right : left;    \
    }                                          \
    inline Result max(Left a, Right b) {       \
        Result left = static_cast<Result>(a);  \
        Result right = static_cast<Result>(b); \
        return left < right ? right : left;    \
    }
#define EMU_MIN_MAX_INTEGER(Type)                            \
    EMU_MIN_MAX(Type, Type, Type)                            \
    EMU_MIN_MAX(unsigned Type, unsigned Type, unsigned Type) \
    EMU_MIN_MAX(Type, unsigned Type, unsigned Type)          \
    EMU_MIN_MAX(unsigned Type, Type, unsigned Type)
EMU_MIN_MAX_INTEGER(int)
EMU_MIN_MAX_INTEGER(long)
EMU_MIN_MAX_INTEGER(long long)

#define EMU_MIN_MAX_REAL(Left, Right, Result, suffix)                 \
    inline Result min(Left a, Right b) { return fmin##suffix(a, b); } \
    inline Result max(Left a, Right b) { return fmax##suffix(a, b); }
EMU_MIN_MAX_REAL(float, float, float, f)
EMU_MIN_MAX_REAL(double, double, double, )
EMU_MIN_MAX_REAL(float, double, double, )
EMU_MIN_MAX_REAL(double, float, double, )

// ---- operations with a fixed rounding; nothing is contracted, so plain operators are these
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float a) { return expf(a); }
inline float __logf(float a) { return logf(a); }
inline float __saturatef(float a) { return fminf(fmaxf(a, 0.0f), 1.0f); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

// ---- conversions. Out of range a GPU saturates, and NaN becomes 0 (32 bits).
namespace emu {

inline int saturated_int(double rounded) {
    if (rounded != rounded) {
        return 0;
    }
    if (rounded >= 2147483647.0) {
        return 2147483647;
    }
    return rounded <= -2147483648.0 ? -2147483647 - 1 : static_cast<int>(rounded);
}

inline unsigned saturated_unsigned(double rounded) {
    if (!(rounded > 0.0)) {
        return 0;
    }
    return rounded >= 4294967295.0 ? 4294967295u : static_cast<unsigned>(rounded);
}

}  // namespace emu

inline int __float2int_rn(float a) { return emu::saturated_int(rintf(a)); }
inline int __float2int_rz(float a) { return emu::saturated_int(truncf(a)); }
inline int __float2int_rd(float a) { return emu::saturated_int(floorf(a)); }
inline int __float2int_ru(float a) { return emu::saturated_int(ceilf(a)); }
inline unsigned __float2uint_rn(float a) { return emu::saturated_unsigned(rintf(a)); }
inline int __double2int_rn(double a) { return emu::saturated_int(rint(a)); }
inline int __double2int_rz(double a) { return emu::saturated_int(trunc(a)); }
inline float __double2float_rn(double a) { return static_cast<float>(a); }
inline float __int2float_rn(int a) { return static_cast<float>(a); }
inline float __uint2float_rn(unsigned a) { return static_cast<float>(a); }
inline float __ll2float_rn(long long a) { return static_cast<float>(a); }
inline double __ll2double_rn(long long a) { return static_cast<double>(a); }
