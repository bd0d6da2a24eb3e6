/* What products read: cells of four bytes, which are floats, or pairs of bfloat16 along the axis
   that is summed.

   In float32 a cell is one number, and `multiply` a fused multiply-add. In bfloat16 it is two
   numbers that stand one behind the other along the summed axis, the first in the low half; one
   instruction multiplies both pairs and adds both products to a float32. So all loops over cells
   are the same, and half as long in bfloat16. */
#ifndef HFICMA_CELLS_H
#define HFICMA_CELLS_H
#include "vectors.h"

#ifdef BF16
enum { DEPTH_PER_CELL = 2 };
typedef uint32_t cell;
typedef __m512bh cells;
INLINE cells load_cells(const cell *at) { return (cells)_mm512_loadu_si512(at); }
INLINE cells all_cells(cell x) { return (cells)_mm512_set1_epi32((int)x); }
INLINE vector multiply(vector sum, cells a, cells b)
{
    return (vector)_mm512_dpbf16_ps((__m512)sum, a, b);
}
/* Cells of two rows: the second above the first. */
INLINE void store_pairs(cell *at, vector low, vector high)
{
    __m512i lower = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)low));
    __m512i upper = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)high));
    _mm512_storeu_si512(at, _mm512_or_si512(lower, _mm512_slli_epi32(upper, 16)));
}
/* Sixteen neighbours of one row become eight cells. */
INLINE void store_row(cell *at, vector v)
{
    _mm256_storeu_si256((__m256i *)at, (__m256i)_mm512_cvtneps_pbh((__m512)v));
}
#else
enum { DEPTH_PER_CELL = 1 };
typedef float cell;
typedef vector cells;
INLINE cells load_cells(const cell *at) { return load(at); }
INLINE cells all_cells(cell x) { return all(x); }
INLINE vector multiply(vector sum, cells a, cells b) { return sum + a * b; }
INLINE void store_row(cell *at, vector v) { store(at, v); }
#endif

/* Cells that n numbers take along the summed axis. */
INLINE int64_t cells_of(int64_t n) { return (n + DEPTH_PER_CELL - 1) / DEPTH_PER_CELL; }
/* Cells from one row to the next of rows of n numbers. A line more than they need: rows that are a
   power of two apart would share few places of a cache. */
INLINE int64_t row_stride(int64_t n) { return (cells_of(n) + 15) / 16 * 16 + 16; }
#endif
