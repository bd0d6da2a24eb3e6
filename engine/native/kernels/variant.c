/* The functions for one kind of processor: compiled once for each, with its flags.

   VARIANT names the kind, VECTOR_BYTES is the width of its vectors, and BF16 stands where products
   read bfloat16. */
#include "attention.h"
#include "fusion.h"
#include "kernels.h"
#include "matching.h"
#include "projection.h"
#include "tabulation.h"

static int64_t packed_bytes(int64_t depth, int64_t columns)
{
    return packed_cells(depth, columns) * 4;
}

/* Cut a tile's memory; with an arena from 0, its end is the size. */
static void lay_out_tile(const struct weights *weights, int64_t query_length, int64_t count,
                         int64_t tokens, int64_t longest, struct arena *arena, struct tile *tile,
                         struct fusion *fusion)
{
    int64_t heads = weights->heads, width = weights->width;
    int64_t lanes = panels_of(query_length) * PANEL;
    *tile = (struct tile){.count = count, .tokens = tokens, .lanes = lanes};
    for (int product = 0; product < PRODUCTS; product++) {
        tile->rows[product] = take(arena, tokens * row_stride(width) * 4);
        tile->products[product] = take(arena, tokens * lanes * 4);
    }
    tile->query_shares = take(arena, heads * tokens * lanes * 4);
    tile->item_shares = take(arena, tokens * share_stride(heads, query_length) * 4);
    tile->query_gates = take(arena, count * lanes * 4);
    tile->item_gates = take(arena, tokens * LANES * 4);
    fusion->panel = take(arena, STORED_PANELS * cells_of(heads * longest) * PANEL * 4);
    fusion->table = take(arena, weights->table ? heads * tokens * PANEL * 4 : 0);
    fusion->query_shares = fusion->item_shares = NULL;
#ifdef BF16
    fusion->query_shares = take(arena, (heads * tokens / 2 + count) * lanes * 4);
    fusion->item_shares = take(arena, tokens * row_stride(heads * query_length) * 4);
#endif
}

static int64_t scratch_bytes(const struct weights *weights, int64_t query_length, int64_t count,
                             int64_t tokens, int64_t longest)
{
    struct arena arena = {0};
    struct tile tile;
    struct fusion fusion;
    if (weights->projection) lay_out_projected(weights->width, count, tokens, &arena);
    lay_out_tile(weights, query_length, count, tokens, longest, &arena, &tile, &fusion);
    return (int64_t)(intptr_t)arena.next;
}

static void fuse(const struct weights *weights, const void *query, const struct items *items,
                 float *means, void *scratch)
{
    struct arena query_arena = {(char *)query}, arena = {scratch};
    int64_t length = *(const int64_t *)query, tokens = 0, longest = 0;
    query_arena.next += 64;
    struct packed_query packed = lay_out_query(weights, length, &query_arena);
    for (int64_t item = 0; item < items->count; item++) {
        tokens += items->lengths[item];
        if (items->lengths[item] > longest) longest = items->lengths[item];
    }
    struct items projections = *items;
    if (items->tokens.values) {
        struct projected projected =
            lay_out_projected(weights->width, items->count, tokens, &arena);
        projections = project(weights, items, &projected);
        items = &projections;
    }
    struct tile tile;
    struct fusion fusion;
    lay_out_tile(weights, length, items->count, tokens, longest, &arena, &tile, &fusion);
    const struct rows *arrays[PRODUCTS] = {&items->key, &items->value, &items->query,
                                           &items->gate};
    int64_t stride = row_stride(weights->width), row = 0;
    for (int64_t item = 0; item < items->count; row += items->lengths[item], item++)
        for (int product = 0; product < PRODUCTS; product++)
            copy_rows(arrays[product], weights->width, items->first[item], items->lengths[item],
                      tile.rows[product] + row * stride);
    attend(weights, &packed, items, &tile);
    fuse_tile(weights, &packed, items, &tile, &fusion, means, means_stride(weights->width));
}

/* A packed query begins with its length, on a line of its own. */
static int64_t whole_query_bytes(const struct weights *weights, int64_t length)
{
    return 64 + query_bytes(weights, length);
}

static void pack_whole_query(const struct weights *weights, const struct query *query, void *packed)
{
    *(int64_t *)packed = query->length;
    pack_query(weights, query, (char *)packed + 64);
}

#define JOIN(a, b) a##b
#define NAME(variant) JOIN(hficma_, variant)

const struct functions NAME(VARIANT) = {
    packed_bytes, pack,         whole_query_bytes, pack_whole_query, scratch_bytes,
    fuse,         means_stride, match_parts,       match,            match_scratch_bytes,
    finish,       tabulate,     tabulate_scratch_bytes,
};
