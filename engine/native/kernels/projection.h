/* Items that are stored as tokens: their projections, equation (1) and steps (a) and (b). */
#ifndef HFICMA_PROJECTION_H
#define HFICMA_PROJECTION_H
#include "packed_query.h"
#include "storage.h"

enum { PROJECTIONS = 5 };

/* Projections of a tile's items, in the order of the weights. */
struct projected {
    cell *tokens; /* (tokens, row_stride(D)) */
    float *arrays[PROJECTIONS]; /* (tokens, D): query, key, value, gate, fuse */
    float *gate_bias; /* (tokens,) */
    float *mean; /* (count, D) */
    int64_t *first, *places; /* (count,) where each item's rows begin, and its mean */
};

static struct projected lay_out_projected(int64_t width, int64_t count, int64_t tokens,
                                          struct arena *arena)
{
    struct projected projected;
    projected.tokens = take(arena, tokens * row_stride(width) * 4);
    for (int array = 0; array < PROJECTIONS; array++)
        /* A panel more: the last one may be wider than what is left of the last row. */
        projected.arrays[array] = take(arena, (tokens * width + PANEL) * 4);
    projected.gate_bias = take(arena, tokens * 4);
    projected.mean = take(arena, count * width * 4);
    projected.first = take(arena, count * 8);
    projected.places = take(arena, count * 8);
    return projected;
}

/* The mean of an item's tokens, and what each gives to its gate. */
static void token_sums(const struct weights *weights, const struct items *items, int64_t item,
                       float *gate_bias, float *mean)
{
    int64_t width = weights->width, length = items->lengths[item], first = items->first[item];
    for (int64_t n = 0; n < width; n += LANES) {
        vector sum = {0};
        for (int64_t j = 0; j < length; j++)
            sum = sum + load_stored(&items->tokens, width, first + j, n, width - n);
        store_part(mean + n, sum * all(1.0f / (float)length), width - n);
    }
    for (int64_t j = 0; j < length; j++) {
        vector sum = {0};
        for (int64_t n = 0; n < width; n += LANES)
            sum = sum + load_stored(&items->tokens, width, first + j, n, width - n)
                * load_part(weights->gate_bias + n, width - n);
        gate_bias[j] = sum_lanes(sum);
    }
}

/* Return the items of a tile at the level `projections`, computed into `projected`. */
static struct items project(const struct weights *weights, const struct items *items,
                            struct projected *projected)
{
    int64_t width = weights->width, stride = row_stride(width), depth = cells_of(width);
    int64_t tokens = 0;
    for (int64_t item = 0; item < items->count; item++) {
        projected->first[item] = tokens, projected->places[item] = item;
        token_sums(weights, items, item, projected->gate_bias + tokens,
                   projected->mean + item * width);
        copy_rows(&items->tokens, width, items->first[item], items->lengths[item],
                  projected->tokens + tokens * stride);
        tokens += items->lengths[item];
    }
    const cell *panel = weights->projection;
    for (int array = 0; array < PROJECTIONS; array++)
        for (int64_t column = 0; column < width; column += PANEL, panel += depth * PANEL) {
            const float *bias = weights->projection_bias + array * width + column;
            int64_t n = width - column;
            for (int64_t b = 0; b < blocks_of(tokens); b++) {
                float sums[ROWS * PANEL];
                int64_t row = block_start(tokens, b), stop = block_start(tokens, b + 1);
                block((int)(stop - row), depth,
                      (struct left){projected->tokens + row * stride, stride, 0}, panel,
                      (struct ahead){(const char *)panel, 0}, sums, PANEL);
                for (int64_t i = 0; i < stop - row; i++)
                    for (int half = 0; half < 2; half++) {
                        int64_t there = n - half * LANES;
                        store_part(projected->arrays[array] + (row + i) * width + column
                                       + half * LANES,
                                   load(sums + i * PANEL + half * LANES)
                                       + load_part(bias + half * LANES, there), there);
                    }
            }
        }
    struct items out = {.count = items->count, .lengths = items->lengths,
                        .first = projected->first, .places = projected->places,
                        .gate_bias = projected->gate_bias, .mean = projected->mean};
    struct rows *names[PROJECTIONS] = {&out.query, &out.key, &out.value, &out.gate, &out.fuse};
    for (int array = 0; array < PROJECTIONS; array++)
        *names[array] = (struct rows){projected->arrays[array], NULL, FLOAT32};
    return out;
}
#endif
