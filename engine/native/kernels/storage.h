/* Reads stored rows into float32: float32, float16, or int8 times the row's scale. */
#ifndef HFICMA_STORAGE_H
#define HFICMA_STORAGE_H
#include "kernels.h"
#include "cells.h"

typedef uint16_t halves __attribute__((vector_size(VECTOR_BYTES / 2), aligned(2), may_alias));
typedef int8_t bytes __attribute__((vector_size(VECTOR_BYTES / 4), aligned(1), may_alias));

INLINE vector load_half(const uint16_t *at)
{
#if defined(__AVX512F__) && VECTOR_BYTES == 64
    return (vector)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)at));
#elif defined(__F16C__) && VECTOR_BYTES == 32
    return (vector)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)at));
#else
    /* Shifted by 13, exponent and fraction stand where float32 has its own, with an exponent that
       is 127 - 15 = 112 too small: exact, for subnormals too. */
    integers wide = __builtin_convertvector(*(const halves *)at, integers);
    integers magnitude = (wide & 0x7fff) << 13;
    integers sign = (wide & 0x8000) << 16;
    return (vector)((integers)((vector)magnitude * all(0x1p112f)) | sign);
#endif
}

/* LANES numbers of a row from a column on; n of them are there. */
INLINE vector load_stored(const struct rows *rows, int64_t width, int64_t row, int64_t column,
                          int64_t n)
{
    int64_t at = row * width + column;
    if (n <= 0) return (vector){0};
    if (rows->type == FLOAT32) return load_part((const float *)rows->values + at, n);
    if (rows->type == FLOAT16) {
        const uint16_t *half = (const uint16_t *)rows->values + at;
        if (n >= LANES) return load_half(half);
        uint16_t part[LANES] = {0};
        memcpy(part, half, (size_t)n * 2);
        return load_half(part);
    }
    int8_t part[LANES] = {0};
    memcpy(part, (const int8_t *)rows->values + at, (size_t)(n < LANES ? n : LANES));
    integers wide = __builtin_convertvector(*(const bytes *)part, integers);
    return __builtin_convertvector(wide, vector) * all(rows->scales[row]);
}

INLINE int64_t stored_bytes(const struct rows *rows, int64_t numbers)
{
    return numbers * (rows->type == FLOAT32 ? 4 : rows->type == FLOAT16 ? 2 : 1);
}

/* Where a number lies, to ask for it before it is read. */
INLINE const char *stored_address(const struct rows *rows, int64_t width, int64_t row,
                                  int64_t column)
{
    return (const char *)rows->values + stored_bytes(rows, row * width + column);
}

/* Copy rows [first, first + count) as cells, `row_stride(width)` from one to the next. */
static void copy_rows(const struct rows *rows, int64_t width, int64_t first, int64_t count,
                      cell *out)
{
    int64_t stride = row_stride(width);
    for (int64_t row = 0; row < count; row++)
        for (int64_t column = 0; column < width; column += LANES)
            /* The stride leaves room for a whole vector behind the last number. */
            store_row(out + row * stride + column / DEPTH_PER_CELL,
                      load_stored(rows, width, first + row, column, width - column));
}
#endif
