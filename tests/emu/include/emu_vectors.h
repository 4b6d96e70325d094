// CUDA's vector types, with CUDA's sizes and alignments.
#pragma once

#define EMU_VECTORS(Type, name, align_of_two, align_of_four)                    \
    struct name##1 { Type x; };                                                 \
    struct alignas(align_of_two) name##2 { Type x, y; };                        \
    struct name##3 { Type x, y, z; };                                           \
    struct alignas(align_of_four) name##4 { Type x, y, z, w; };                 \
    inline name##1 make_##name##1(Type x) { return {x}; }                       \
    inline name##2 make_##name##2(Type x, Type y) { return {x, y}; }            \
    inline name##3 make_##name##3(Type x, Type y, Type z) { return {x, y, z}; } \
    inline name##4 make_##name##4(Type x, Type y, Type z, Type w) { return {x, y, z, w}; }

EMU_VECTORS(float, float, 8, 16)
EMU_VECTORS(double, double, 16, 16)
EMU_VECTORS(int, int, 8, 16)
EMU_VECTORS(unsigned, uint, 8, 16)
EMU_VECTORS(long long, longlong, 16, 16)
EMU_VECTORS(unsigned long long, ulonglong, 16, 16)
EMU_VECTORS(short, short, 4, 8)
EMU_VECTORS(unsigned short, ushort, 4, 8)
EMU_VECTORS(signed char, char, 2, 4)
EMU_VECTORS(unsigned char, uchar, 2, 4)

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
