/* Runs the vectors of `lpref vectors export DIR --as c-header --format e4m3` against a C function.

     gcc -std=c99 -Wall -O2 -I DIR run_vectors.c -o run_vectors && ./run_vectors

   Exit code 0: all passed; 1: some failed; 2: the header has no vectors for this cast. */
#include <stdio.h>
#include <string.h>
#include "e4m3_cast.h"
#include "lpref_vectors.h"

static int is_nan(const lpref_vectors *v, unsigned code) {
    for (size_t i = 0; i < v->nan_count; i++)
        if (v->nan[i] == code) return 1;
    return 0;
}

int main(void) {
    int found = 0, failed = 0;
    for (int k = 0; k < LPREF_VECTORS_COUNT; k++) {
        const lpref_vectors *v = &LPREF_VECTORS[k];
        if (strcmp(v->format, "e4m3") || strcmp(v->rounding, "nearest_even") || strcmp(v->overflow, "saturate")) continue;
        found = 1;
        for (size_t i = 0; i < v->count; i++) {
            unsigned got = e4m3_cast(v->in[i]), want = v->out[i];
            if (got == want || (is_nan(v, got) && is_nan(v, want))) continue;
            if (!failed++) printf("input 0x%08x: got 0x%02x, expected 0x%02x\n", (unsigned)v->in[i], got, want);
        }
        printf("%s revision %d, %s, %s: %d of %d differ\n", v->format, v->revision, v->rounding, v->overflow, failed, (int)v->count);
    }
    if (!found) fprintf(stderr, "no vectors for e4m3, nearest_even, saturate\n");
    return found ? failed != 0 : 2;
}
