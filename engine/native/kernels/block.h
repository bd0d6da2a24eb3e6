/* The one product that everything is made of: a few rows by a panel of columns, in registers.

                      panel (depth, PANEL), cells
                     ┌──────────┬──────────┐
                     │ vector 0 │ vector 1 │  one line after the other: read in order
                     └──────────┴──────────┘
    a (rows, depth)   ┌──────────┬──────────┐
    one cell to all   │ sum[0]   │ sum[0]   │  2 x ROWS vectors of sums stay in registers for the
    lanes             │ ...      │ ...      │  whole depth; memory sees each of them once
                      └──────────┴──────────┘

   ROWS is as many as there are registers for: of 32, 24 for sums, 2 for the panel, 1 for a; of 16,
   12, 2 and 1. Each sum runs over the depth in order, so it does not depend on the rows beside. */
#ifndef HFICMA_BLOCK_H
#define HFICMA_BLOCK_H
#include "cells.h"

enum { PANEL = 2 * LANES, ROWS = VECTOR_BYTES == 64 ? 12 : 6 };

/* Where the rows of a lie. */
struct left {
    const cell *at;
    int64_t row_step; /* cells from a row to the next; 0: rows are neighbours, see depth_step */
    int64_t depth_step; /* cells along the depth where rows are neighbours */
};

/* What a block asks memory for on its way, for whoever comes after it: `step` bytes each step. */
struct ahead {
    const char *at;
    int64_t step;
};

/* A block whose number of rows is a constant, so that its sums have registers. One step of a is a
   constant 1 too, whichever it is: its products fold into addresses. */
INLINE void unrolled_block(const int rows, int64_t depth, const cell *a, int64_t row_step,
                           int64_t depth_step, const cell *panel, struct ahead ahead, float *out,
                           int64_t out_stride)
{
    vector sum[ROWS][2];
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++) sum[i][0] = sum[i][1] = (vector){0};
    for (int64_t k = 0; k < depth; k++) {
        cells left = load_cells(panel), right = load_cells(panel + LANES);
        __builtin_prefetch(ahead.at, 0, 2);
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            cells x = all_cells(a[i * row_step + k * depth_step]);
            sum[i][0] = multiply(sum[i][0], x, left);
            sum[i][1] = multiply(sum[i][1], x, right);
        }
        panel += PANEL;
        ahead.at += ahead.step;
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++) {
        store(out + i * out_stride, sum[i][0]);
        store(out + i * out_stride + LANES, sum[i][1]);
    }
}

/* Compute out (rows, PANEL) = a (rows, depth) panel (depth, PANEL), for 1 to ROWS rows. */
static void block(int rows, int64_t depth, struct left a, const cell *panel, struct ahead ahead,
                  float *out, int64_t out_stride)
{
#define CASE(n)                                                                             \
    case n:                                                                                 \
        if (a.row_step)                                                                     \
            unrolled_block(n, depth, a.at, a.row_step, 1, panel, ahead, out, out_stride);   \
        else                                                                                \
            unrolled_block(n, depth, a.at, 1, a.depth_step, panel, ahead, out, out_stride); \
        return;
    switch (rows) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if VECTOR_BYTES == 64
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
    }
#undef CASE
}

/* Rows are cut into blocks of equal height: 49 into 10, 10, 10, 10, 9, not 12, 12, 12, 12, 1. */
INLINE int64_t blocks_of(int64_t rows) { return (rows + ROWS - 1) / ROWS; }
INLINE int64_t block_start(int64_t rows, int64_t number) { return rows * number / blocks_of(rows); }

INLINE int64_t panels_of(int64_t columns) { return (columns + PANEL - 1) / PANEL; }

static int64_t packed_cells(int64_t depth, int64_t columns)
{
    return panels_of(columns) * cells_of(depth) * PANEL;
}

/* Cut a matrix into panels, one after the other, zeros behind its last column and depth.

   A few lines of a panel at a time, in the first cache: rows are read along whichever axis lies in
   one piece, since a matrix and a transposed one are both packed. */
static void pack(const float *values, int64_t depth, int64_t columns, int64_t depth_step,
                 int64_t column_step, void *packed)
{
    enum { LINES = 32 };
    cell *out = packed;
    for (int64_t start = 0; start < columns; start += PANEL)
        for (int64_t top = 0; top < depth; top += LINES) {
            float lines[LINES][PANEL] = {{0}};
            int64_t rows = depth - top < LINES ? depth - top : LINES;
            int64_t wide = columns - start < PANEL ? columns - start : PANEL;
            const float *from = values + top * depth_step + start * column_step;
            if (column_step == 1)
                for (int64_t k = 0; k < rows; k++)
                    memcpy(lines[k], from + k * depth_step, (size_t)wide * 4);
            else
                for (int64_t n = 0; n < wide; n++)
                    for (int64_t k = 0; k < rows; k++)
                        lines[k][n] = from[k * depth_step + n * column_step];
            for (int64_t k = 0; k < rows; k += DEPTH_PER_CELL, out += PANEL) {
#ifdef BF16
                store_pairs(out, load(lines[k]), load(lines[k + 1]));
                store_pairs(out + LANES, load(lines[k] + LANES), load(lines[k + 1] + LANES));
#else
                memcpy(out, lines[k], sizeof lines[k]);
#endif
            }
        }
}
#endif
