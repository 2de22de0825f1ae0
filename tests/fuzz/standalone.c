/* SPDX-License-Identifier: Apache-2.0
 *
 * Stands in for libFuzzer where the compiler has none: runs the fuzzed path on the files that are
 * named.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* The mutator links to it and is not called here. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size)
{
    (void)data;
    (void)max_size;
    return size;
}

int main(int argc, char **argv)
{
    LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        FILE *stream = fopen(argv[i], "rb");
        if (stream == NULL) {
            perror(argv[i]);
            return 2;
        }
        uint8_t *data = malloc(1 << 20);
        const size_t size = fread(data, 1, 1 << 20, stream);
        fclose(stream);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    return 0;
}
