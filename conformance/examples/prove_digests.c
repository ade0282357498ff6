/* Proves a C function on all 2^32 float32 inputs, without Python, from `lpref vectors export DIR --as digests --format e4m3`.

     gcc -std=c99 -Wall -O2 prove_digests.c -o prove_digests && ./prove_digests DIR/digests-e4m3-nearest_even-saturate.json

   A second argument limits the number of digests (2^20 inputs each). Exit code 0: all equal; 1: some differ; 2: no digests read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "e4m3_cast.h"

static uint32_t table[256];

static uint32_t crc32(const uint8_t *p, size_t n) {
    uint32_t c = 0xFFFFFFFF;
    while (n--) c = table[(c ^ *p++) & 0xFF] ^ c >> 8;
    return ~c;
}

int main(int argc, char **argv) {
    static char text[1 << 17];
    static uint8_t codes[1 << 20];
    FILE *file = argc > 1 ? fopen(argv[1], "r") : NULL;
    size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;
    char *next = length ? strstr(text, "\"crc32\": [") : NULL;
    long limit = argc > 2 ? atol(argv[2]) : 4096, done = 0, failed = 0;
    if (!next || !strstr(text, "\"inputs_per_digest\": 1048576,") || !strstr(text, "\"bytes_per_code\": 1,")) {
        fprintf(stderr, "usage: prove_digests digests-e4m3-nearest_even-saturate.json [COUNT]\n");
        return 2;
    }
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xEDB88320 ^ c >> 1 : c >> 1;
        table[i] = c;
    }
    next = strchr(next, '[');
    for (; done < limit && (next = strchr(next, '"')); done++, next += 10) { /* "xxxxxxxx" */
        for (uint32_t i = 0; i < sizeof codes; i++) codes[i] = e4m3_cast(((uint32_t)done << 20) + i);
        if (crc32(codes, sizeof codes) == strtoul(next + 1, NULL, 16)) continue;
        if (!failed++) printf("inputs 0x%08lx ... 0x%08lx: a code differs\n", done << 20, (done << 20) + 0xFFFFF);
    }
    printf("%ld of %ld digests differ\n", failed, done);
    return done ? failed != 0 : 2;
}
