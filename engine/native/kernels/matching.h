/* The matching MLP of (7), for many pairs at once: its weights are read once for all of them.

   The hidden features are cut into parts of PANEL. Any thread may take any parts; what a part says
   is kept by itself and added in order, so the score does not depend on who computed what. */
#ifndef HFICMA_MATCHING_H
#define HFICMA_MATCHING_H
#include "block.h"
#include "kernels.h"
#include "packed_query.h"

static int64_t means_stride(int64_t width) { return (2 * width + 15) / 16 * 16 + 16; }

static int64_t match_parts(int64_t width) { return panels_of(width); }

static int64_t match_scratch_bytes(int64_t width, int64_t count)
{
    return DEPTH_PER_CELL == 1 ? 64 : count * row_stride(2 * width) * 4;
}

static void match(const struct weights *weights, const float *means, int64_t count, int64_t from,
                  int64_t to, float *logits, void *scratch)
{
    int64_t width = weights->width, depth = cells_of(2 * width), parts = match_parts(width);
    int64_t step = means_stride(width);
    const cell *rows = (const cell *)means;
#ifdef BF16
    int64_t cell_step = row_stride(2 * width);
    for (int64_t row = 0; row < count; row++)
        for (int64_t k = 0; k < 2 * width; k += LANES)
            store_row((cell *)scratch + row * cell_step + k / 2,
                      load_part(means + row * step + k, 2 * width - k));
    rows = scratch, step = cell_step;
#else
    (void)scratch;
#endif
    for (int64_t part = from; part < to; part++) {
        const cell *panel = (const cell *)weights->hidden + part * depth * PANEL;
        int64_t column = part * PANEL, n = width - column;
        vector bias[2], output[2];
        for (int half = 0; half < 2; half++) {
            bias[half] = load_part(weights->hidden_bias + column + half * LANES, n - half * LANES);
            output[half] = load_part(weights->output + column + half * LANES, n - half * LANES);
        }
        for (int64_t b = 0; b < blocks_of(count); b++) {
            float sums[ROWS * PANEL];
            int64_t row = block_start(count, b), stop = block_start(count, b + 1);
            block((int)(stop - row), depth, (struct left){rows + row * step, step, 0}, panel,
                  (struct ahead){(const char *)panel, 0}, sums, PANEL);
            for (int64_t i = 0; i < stop - row; i++) {
                vector zero = {0}, total = zero;
                for (int half = 0; half < 2; half++)
                    total = total + output[half]
                        * larger(zero, load(sums + i * PANEL + half * LANES) + bias[half]);
                logits[(row + i) * parts + part] = sum_lanes(total);
            }
        }
    }
}

static void finish(const struct weights *weights, const float *logits, int64_t count, float *scores)
{
    int64_t parts = match_parts(weights->width);
    for (int64_t pair = 0; pair < count; pair++) {
        float logit = weights->output_bias;
        for (int64_t part = 0; part < parts; part++) logit += logits[pair * parts + part];
        vector score = logistic(all(logit));
        memcpy(scores + pair, &score, 4);
    }
}
#endif
