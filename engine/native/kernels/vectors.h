/* Vectors of VECTOR_BYTES, by the compiler's own vector types: one text for every processor.

   Intrinsics stand only where the types have no operator, or compilers miss the instruction. */
#ifndef HFICMA_VECTORS_H
#define HFICMA_VECTORS_H
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

enum { LANES = VECTOR_BYTES / 4 };

typedef float vector __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t integers __attribute__((vector_size(VECTOR_BYTES)));
typedef float unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE vector load(const float *at) { return *(const unaligned *)at; }
INLINE void store(float *at, vector v) { *(unaligned *)at = v; }
INLINE vector all(float x) { return x - (vector){0}; }

/* The first n lanes, and zeros behind them: memory behind a row's end may not be ours to read. */
INLINE vector load_part(const float *at, int64_t n)
{
    vector v = {0};
    if (n >= LANES) return load(at);
    if (n > 0) memcpy(&v, at, (size_t)n * 4);
    return v;
}

INLINE void store_part(float *at, vector v, int64_t n)
{
    if (n >= LANES) store(at, v);
    else if (n > 0) memcpy(at, &v, (size_t)n * 4);
}

INLINE vector choose(integers mask, vector yes, vector no)
{
    return (vector)(((integers)yes & mask) | ((integers)no & ~mask));
}

/* The second where one of them is no number, as x86's instruction has it. */
INLINE vector larger(vector a, vector b)
{
#if defined(__x86_64__) && VECTOR_BYTES == 64
    return (vector)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__x86_64__) && VECTOR_BYTES == 32
    return (vector)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__x86_64__)
    return (vector)_mm_max_ps((__m128)a, (__m128)b);
#elif defined(__aarch64__)
    return (vector)vmaxq_f32((float32x4_t)a, (float32x4_t)b);
#else
    return choose((integers)(a > b), a, b);
#endif
}

/* Over the lanes of a vector, as a tree: half the lanes onto the others until one is left. */
INLINE float sum_lanes(vector v)
{
    float x[LANES];
    memcpy(x, &v, sizeof x);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0];
}

INLINE float largest_lane(vector v)
{
    float x[LANES];
    memcpy(x, &v, sizeof x);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) x[i] = x[i] > x[i + half] ? x[i] : x[i + half];
    return x[0];
}

/* e^x to 1 or 2 units in the last place, for x up to 88; 0 < e^x < 2e-38 below -87. What is no number
   stays none: a damaged array must not become a score.

   x = n ln 2 + r with |r| <= ln 2 / 2. Adding 1.5 x 2^23 rounds n to a whole number, which then
   stands in the low bits, ready to be shifted into an exponent. ln 2 is subtracted in two parts:
   the first has zeros behind it, so that n times it is exact. */
INLINE vector exponential(vector x)
{
    const vector shift = all(12582912.0f);
    const vector limited = larger(x, all(-87.0f));
    vector n = limited * all(1.44269504f) + shift;
    integers power = (integers)n << 23;
    n = n - shift;
    vector r = limited - n * all(0.693359375f);
    r = r - n * all(-2.12194440e-4f);
    vector p = all(1.9875691500e-4f);
    p = p * r + all(1.3981999507e-3f);
    p = p * r + all(8.3334519073e-3f);
    p = p * r + all(4.1665795894e-2f);
    p = p * r + all(1.6666665459e-1f);
    p = p * r + all(5.0000001201e-1f);
    p = p * r * r + r + all(1.0f);
    return choose((integers)(x == x), (vector)((integers)p + power), x);
}

/* 1 / (1 + e^-x), between 0 and 1 for every x. */
INLINE vector logistic(vector x)
{
    vector limited = larger(all(-80.0f), (vector)(-larger(all(-80.0f), (vector)-x)));
    return all(1.0f) / (all(1.0f) + exponential((vector)-limited));
}
#endif
