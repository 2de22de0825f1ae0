/* SPDX-License-Identifier: Apache-2.0
 *
 * What the programs of this folder in C share: they end with a message on the first error.
 */
#ifndef EK_BENCHMARKS_PROGRAM_H
#define EK_BENCHMARKS_PROGRAM_H

#include <edgekit/edgekit.h>
#include <edgekit/edgekit_cpu.h>

#include "../csrc/platform/huge_pages.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline _Noreturn void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

static inline void check(ek_status status, const char *what)
{
    if (status != EK_OK)
        fail("%s: %s", what, ek_status_string(status));
}

/* Aligned and zeroed; never null. */
static inline void *allocate(size_t bytes)
{
    const size_t rounded = (bytes / EK_ALIGN + 1) * EK_ALIGN;
    void *memory = aligned_alloc(EK_ALIGN, rounded);
    if (memory == NULL)
        fail("no memory for %zu bytes", bytes);
    use_huge_pages(memory, rounded);
    return memset(memory, 0, rounded);
}

static inline size_t port_bytes(const ek_io_info *info)
{
    return info->elements * (info->format == EK_FORMAT_FLOAT ? sizeof(float) : 1);
}

static inline void open_model(ek_model *model, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0)
        fail("%s: cannot be read", path);
    const long size = ftell(file);
    rewind(file);
    void *bytes = allocate(size < 0 ? 0 : (size_t)size);
    if (size < 0 || fread(bytes, 1, (size_t)size, file) != (size_t)size)
        fail("%s: cannot be read", path);
    fclose(file);
    check(ek_open(model, bytes, (size_t)size, 0), path);
}

/* With the kernels of this processor; nothing is bound. */
static inline ek_instance *create_instance(const ek_model *model, ek_config config)
{
    config.kernels = ek_cpu_kernels() | EK_REPACK;
    const size_t bytes = ek_memory_needed(model, config.kernels, config.threads);
    ek_instance *instance;
    check(ek_create(&instance, model, &config, allocate(bytes), bytes), "instance");
    return instance;
}

#endif /* EK_BENCHMARKS_PROGRAM_H */
