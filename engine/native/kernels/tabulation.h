/* Items of a tile brought to the level `tables` in memory, for several queries to read.

   Every number comes from the same chain of additions as where `fuse` computes it for one query, so
   an item scores the same bits either way. */
#ifndef HFICMA_TABULATION_H
#define HFICMA_TABULATION_H
#include "fusion.h"
#include "projection.h"

/* What is needed beside the tables: cells of the values, and a panel of all items' tables. */
struct tabulation {
    struct projected projected; /* of items that come as tokens */
    cell *values; /* (tokens, row_stride(D)) */
    float *panel; /* (H tokens, PANEL) */
};

static struct tabulation lay_out_tabulation(const struct weights *weights, int64_t count,
                                            int64_t tokens, struct arena *arena)
{
    struct tabulation tabulation = {0};
    if (weights->projection)
        tabulation.projected = lay_out_projected(weights->width, count, tokens, arena);
    tabulation.values = take(arena, tokens * row_stride(weights->width) * 4);
    tabulation.panel = take(arena, weights->heads * tokens * PANEL * 4);
    return tabulation;
}

static int64_t tabulate_scratch_bytes(const struct weights *weights, int64_t count, int64_t tokens)
{
    struct arena arena = {0};
    lay_out_tabulation(weights, count, tokens, &arena);
    return (int64_t)(intptr_t)arena.next;
}

static int64_t tokens_of(const struct items *items)
{
    int64_t tokens = 0;
    for (int64_t item = 0; item < items->count; item++) tokens += items->lengths[item];
    return tokens;
}

/* Widen the rows of each item, one item after the other. */
static void widen_rows(const struct rows *rows, int64_t width, const struct items *items,
                       float *out)
{
    for (int64_t item = 0; item < items->count; item++)
        for (int64_t j = 0; j < items->lengths[item]; j++, out += width)
            for (int64_t n = 0; n < width; n += LANES)
                store_part(out + n,
                           load_stored(rows, width, items->first[item] + j, n, width - n),
                           width - n);
}

static void tabulate(const struct weights *weights, const struct items *items,
                     const struct tables *out, void *scratch)
{
    struct arena arena = {scratch};
    int64_t width = weights->width, heads = weights->heads, tokens = tokens_of(items);
    struct tabulation tabulation = lay_out_tabulation(weights, items->count, tokens, &arena);
    struct items projections = *items;
    if (items->tokens.values) projections = project(weights, items, &tabulation.projected);
    const struct rows *rows[PROJECTIONS] = {&projections.query, &projections.key,
                                            &projections.value, &projections.gate,
                                            &projections.fuse};
    float *copies[PROJECTIONS] = {out->query, out->key, out->value, out->gate, out->fuse};
    for (int array = 0; array < PROJECTIONS; array++)
        widen_rows(rows[array], width, &projections, copies[array]);
    struct tile tile = {.count = items->count, .tokens = tokens};
    tile.rows[1] = tabulation.values;
    int64_t row = 0;
    for (int64_t item = 0; item < items->count; row += items->lengths[item], item++) {
        memcpy(out->gate_bias + row, projections.gate_bias + projections.first[item],
               (size_t)items->lengths[item] * 4);
        memcpy(out->mean + item * width, projections.mean + projections.places[item] * width,
               (size_t)width * 4);
        copy_rows(&projections.value, width, projections.first[item], items->lengths[item],
                  tabulation.values + row * row_stride(width));
    }
    for (int64_t panel = 0; panel < panels_of(width); panel++) {
        computed_panels(weights, &projections, &tile, panel, tabulation.panel);
        int64_t column = panel * PANEL, n = width - column;
        for (row = 0; row < heads * tokens; row++)
            for (int half = 0; half < 2; half++)
                store_part(out->table + row * width + column + half * LANES,
                           load(tabulation.panel + row * PANEL + half * LANES),
                           n - half * LANES);
    }
}
#endif
