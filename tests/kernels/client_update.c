/* Trains, differentiates and evaluates one model by the kernels, from numbers that are the same everywhere, and prints a
 * hash of the bits of all results: client_update FILL N EPOCHS BATCH SHAPE...
 *
 * FILL is the byte that memory holds before the kernels use it, which must not matter. SHAPE is as kernels.c reads it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t num_parameters(const int64_t *shape);
int64_t memory_bytes(const int64_t *shape, int64_t batch);
double update(const int64_t *shape, char *block, float *parameters, const float *images, const int64_t *labels,
              const int64_t *order, int64_t n, int64_t epochs, int64_t batch, float rate, float factor,
              const float *start, const float *added, const volatile int32_t *cancelled);
double gradient(const int64_t *shape, char *block, const float *parameters, const float *images, const int64_t *labels,
                const int64_t *order, int64_t n, float *to);
double evaluate(const int64_t *shape, char *block, const float *parameters, const float *images, const int64_t *labels,
                int64_t n, int64_t *counts);
void add_scaled(double *sum, const float *values, double share, int64_t n);
double squared_distance(const float *first, const float *second, int64_t n);

static uint64_t state = 1;

static uint32_t draw(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state >> 40; /* 24 bits */
}

/* Multiples of scale / 2^23 between -scale and scale, of which some are 0. */
static float *floats(int64_t count, float scale) {
    float *values = malloc(4 * count);
    for (int64_t i = 0; i < count; i++) {
        int32_t number = (int32_t)draw() - (1 << 23);
        values[i] = draw() % 8 ? number / 8388608.0f * scale : 0.0f;
    }
    return values;
}

static int64_t *integers(int64_t count, int64_t below) {
    int64_t *values = malloc(8 * count);
    for (int64_t i = 0; i < count; i++) values[i] = draw() % below;
    return values;
}

static uint64_t hash = 14695981039346656037u; /* FNV-1a */

static void add(const void *data, int64_t count) {
    for (int64_t i = 0; i < count; i++) hash = (hash ^ ((const uint8_t *)data)[i]) * 1099511628211u;
}

static char *memory(const int64_t *shape, int64_t batch, int fill) {
    int64_t size = memory_bytes(shape, batch);
    return memset(aligned_alloc(64, size), fill, size);
}

int main(int count, char **arguments) {
    if (count < 10) return 2;
    int fill = atoi(arguments[1]);
    int64_t n = atoll(arguments[2]), epochs = atoll(arguments[3]), batch = atoll(arguments[4]);
    int64_t *shape = malloc(8 * (count - 5));
    for (int i = 5; i < count; i++) shape[i - 5] = atoll(arguments[i]);
    int64_t size = shape[0] * shape[1] * shape[2], classes = shape[count - 6], P = num_parameters(shape);

    float *images = floats(n * size, 1.0f), *parameters = floats(P, 0.0625f), *added = floats(P, 0.0078125f);
    float *start = malloc(4 * P), *slopes = malloc(4 * P);
    memcpy(start, parameters, 4 * P);
    int64_t *labels = integers(n, classes), *order = integers(epochs * n, n);
    int64_t *counts = calloc(classes * classes, 8);
    double *total = calloc(P, 8), losses[4];
    int32_t cancelled = 0;

    char *block = memory(shape, batch, fill);
    losses[0] = update(shape, block, parameters, images, labels, order, n, epochs, batch, 0.125f, 0.5f, start, added,
                       &cancelled);
    losses[1] = update(shape, block, parameters, images, labels, order, n, 1, batch, 0.125f, 0.0f, 0, 0, &cancelled);
    free(block);
    add(parameters, 4 * P);
    block = memory(shape, n, fill);
    losses[2] = gradient(shape, block, parameters, images, labels, order, n, slopes);
    add(slopes, 4 * P);
    free(block);
    block = memory(shape, n, fill);
    losses[3] = evaluate(shape, block, parameters, images, labels, n, counts);
    free(block);
    add(losses, sizeof losses);
    add(counts, 8 * classes * classes);
    add_scaled(total, parameters, 0.3, P);
    add(total, 8 * P);
    double distance = squared_distance(parameters, start, P);
    add(&distance, 8);
    printf("%016" PRIx64 " %.9g %.9g\n", hash, losses[0] / (n * epochs), losses[3] / n);
    void *all[] = {shape, images, parameters, added, start, slopes, labels, order, counts, total};
    for (int i = 0; i < 10; i++) free(all[i]);
    return 0;
}
