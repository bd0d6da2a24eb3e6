/* Attention of a tile's items with the query, both ways: equations (2) and (a).

   The query's regions stand on the lanes, the tokens of all items below each other. So a softmax
   over an item's tokens runs down the lanes without crossing them, and the four products

       row of an item    times    column of the query       for
       key    Y                   query  Q                  logits of the query reading the item
       value  U                   gate   P                  what opens the query's gates
       query  Q                   key    Y                  logits of the item reading the query
       gate   P                   value  U                  what opens the item's gates

   read the items' rows as they lie, and panels of the query that were packed once, head by head. */
#ifndef HFICMA_ATTENTION_H
#define HFICMA_ATTENTION_H
#include "packed_query.h"
#include "storage.h"

/* Memory of one tile, cut out of the caller's. */
struct tile {
    int64_t count, tokens; /* items, and their tokens together */
    int64_t lanes; /* L_q, padded to whole panels */
    cell *rows[PRODUCTS]; /* (tokens, row_stride(D)): key, value, query, gate of all items */
    float *products[PRODUCTS]; /* (tokens, lanes) of one head */
    float *query_shares; /* an item's (H L, lanes) after the other's: A of the query */
    float *item_shares; /* (tokens, share_stride): A of the items, (H L_q) a row */
    float *query_gates; /* (count, lanes) */
    float *item_gates; /* (tokens, LANES); its first number when it is finished */
};

INLINE int64_t share_stride(int64_t heads, int64_t length)
{
    return (heads * length + 15) / 16 * 16 + 2 * PANEL + 16;
}

/* One head: the query reads an item of `length` tokens. Its rows are `start` and those behind. */
INLINE void query_reads(const struct tile *tile, int64_t item, int64_t start, int64_t length,
                        float scale, float *shares)
{
    for (int64_t lane = 0; lane < tile->lanes; lane += LANES) {
        const float *logits = tile->products[0] + start * tile->lanes + lane;
        const float *opens = tile->products[1] + start * tile->lanes + lane;
        vector most = load(logits);
        for (int64_t j = 1; j < length; j++) most = larger(most, load(logits + j * tile->lanes));
        vector sum = {0}, gate = {0};
        for (int64_t j = 0; j < length; j++) {
            vector share = exponential((load(logits + j * tile->lanes) - most) * all(scale));
            store(shares + j * tile->lanes + lane, share);
            sum = sum + share;
            gate = gate + share * load(opens + j * tile->lanes);
        }
        vector inverse = all(1.0f) / sum;
        for (int64_t j = 0; j < length; j++) {
            float *at = shares + j * tile->lanes + lane;
            store(at, load(at) * inverse);
        }
        float *total = tile->query_gates + item * tile->lanes + lane;
        store(total, load(total) + gate * inverse);
    }
}

/* One head: the token of a row reads the query's L_q tokens. */
INLINE void row_reads(const struct tile *tile, int64_t row, int64_t length, float scale,
                      float *shares)
{
    const float *logits = tile->products[2] + row * tile->lanes;
    const float *opens = tile->products[3] + row * tile->lanes;
    integers places;
    for (int i = 0; i < LANES; i++) places[i] = i;
    const vector nothing = all(-3.0e38f); /* what stands on lanes behind the query's last token */
    vector most = nothing;
    for (int64_t lane = 0; lane < tile->lanes; lane += LANES) {
        integers there = places < (int32_t)(length - lane);
        most = larger(most, choose(there, load(logits + lane), nothing));
    }
    most = all(largest_lane(most));
    vector sum = {0}, gate = {0};
    for (int64_t lane = 0; lane < tile->lanes; lane += LANES) {
        integers there = places < (int32_t)(length - lane);
        vector share = exponential((load(logits + lane) - most) * all(scale));
        share = choose(there, share, (vector){0});
        store(shares + lane, share);
        sum = sum + share;
        gate = gate + share * load(opens + lane);
    }
    vector inverse = all(1.0f / sum_lanes(sum));
    for (int64_t lane = 0; lane < tile->lanes; lane += LANES)
        store(shares + lane, load(shares + lane) * inverse);
    float *total = tile->item_gates + row * LANES;
    store(total, load(total) + gate * inverse);
}

/* Fill shares and gates of a tile whose rows were copied. */
static void attend(const struct weights *weights, const struct packed_query *query,
                   const struct items *items, struct tile *tile)
{
    int64_t heads = weights->heads, head_width = weights->width / heads;
    int64_t depth = cells_of(head_width), stride = row_stride(weights->width);
    int64_t own_stride = share_stride(heads, query->length);
    float scale = 1.0f / __builtin_sqrtf((float)head_width);
    memset(tile->query_gates, 0, (size_t)(tile->count * tile->lanes) * 4);
    memset(tile->item_gates, 0, (size_t)(tile->tokens * LANES) * 4);
    for (int64_t head = 0; head < heads; head++) {
        for (int product = 0; product < PRODUCTS; product++) {
            const cell *panel = query->panels[product] + head * query->head_cells;
            for (int64_t lane = 0; lane < tile->lanes; lane += PANEL, panel += depth * PANEL)
                for (int64_t b = 0; b < blocks_of(tile->tokens); b++) {
                    int64_t row = block_start(tile->tokens, b);
                    const cell *at = tile->rows[product] + row * stride + head * depth;
                    block((int)(block_start(tile->tokens, b + 1) - row), depth,
                          (struct left){at, stride, 0}, panel, (struct ahead){(const char *)at, 0},
                          tile->products[product] + row * tile->lanes + lane, tile->lanes);
                }
        }
        int64_t row = 0;
        float *shares = tile->query_shares;
        for (int64_t item = 0; item < tile->count; item++) {
            int64_t length = items->lengths[item];
            query_reads(tile, item, row, length, scale, shares + head * length * tile->lanes);
            shares += heads * length * tile->lanes;
            row += length;
        }
        /* Lanes behind L_q are zero, and the next head writes over them. */
        for (row = 0; row < tile->tokens; row++)
            row_reads(tile, row, query->length, scale,
                      tile->item_shares + row * own_stride + head * query->length);
    }
    for (int64_t item = 0; item < tile->count; item++)
        for (int64_t lane = 0; lane < tile->lanes; lane += LANES) {
            float *gate = tile->query_gates + item * tile->lanes + lane;
            store(gate, logistic(load(gate) + load(query->gate_bias + lane)));
        }
    int64_t row = 0;
    for (int64_t item = 0; item < tile->count; item++)
        for (int64_t j = 0; j < items->lengths[item]; j++, row++) {
            float *gate = tile->item_gates + row * LANES;
            float opened = sum_lanes(load(gate)) + items->gate_bias[items->first[item] + j];
            store(gate, logistic(all(opened)));
        }
}
#endif
