/* SPDX-License-Identifier: Apache-2.0
 *
 * edgekit runtime: executes a .ekm model file.
 *
 * The library allocates nothing, keeps no global state and calls no libc function but
 * memcpy, memmove and memset. The caller owns every byte: the file, the memory of an
 * instance, the inputs and outputs.
 *
 *     ek_model model;
 *     ek_status status = ek_open(&model, file, file_bytes, 0);       // checks everything, once
 *     size_t need = ek_memory_needed(&model, EK_KERNELS_SCALAR, 1);
 *     ek_instance *net;
 *     status = ek_create(&net, &model, &(ek_config){.kernels = EK_KERNELS_SCALAR}, memory, need);
 *     status = ek_bind_input(net, 0, image, sizeof image, EK_FORMAT_FLOAT);
 *     status = ek_bind_output(net, 0, scores, sizeof scores, EK_FORMAT_FLOAT);
 *     status = ek_run(net);                                          // as often as wanted
 *
 * Results are the same bits for every kernel set, thread count and processor.
 */
#ifndef EDGEKIT_H
#define EDGEKIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EK_VERSION_MAJOR 0
#define EK_VERSION_MINOR 1
#define EK_VERSION_PATCH 0

/* What the shared library exports; nothing else is visible in it. */
#ifndef EK_API
#if defined(EK_BUILD_SHARED) && defined(_WIN32)
#define EK_API __declspec(dllexport)
#elif defined(EK_BUILD_SHARED) && defined(__GNUC__)
#define EK_API __attribute__((visibility("default")))
#else
#define EK_API
#endif
#endif

/* Alignment that model bytes in memory and an instance's memory must have. */
#define EK_ALIGN 64

/* Threads that an instance may have; more are refused. */
#define EK_MAX_THREADS 1024u

/* ---- Status ------------------------------------------------------------------------------- */

/* Families of ten; values never change once released. */
typedef enum ek_status {
    EK_OK = 0,

    /* The file. */
    EK_ERROR_TRUNCATED = 10,   /* shorter than it says */
    EK_ERROR_MAGIC = 11,       /* not an .ekm file */
    EK_ERROR_VERSION = 12,     /* another major version of the format */
    EK_ERROR_FEATURE = 13,     /* needs a feature this reader lacks: ek_missing_features */
    EK_ERROR_CHECKSUM = 14,    /* damaged */
    EK_ERROR_HEADER = 15,      /* a header field is out of range */
    EK_ERROR_TENSOR = 16,      /* a tensor record is out of range */
    EK_ERROR_OPERATOR = 17,    /* an operator record is out of range, or its tensors do not fit it */
    EK_ERROR_LIFETIME = 18,    /* a tensor is read before it is written, or overlaps a live one */
    EK_ERROR_SCALE = 19,       /* a scale or multiplier is not finite or out of range */

    /* The caller. */
    EK_ERROR_ARGUMENT = 30,    /* a null pointer, an index or a format that does not exist */
    EK_ERROR_ALIGNMENT = 31,   /* memory is not aligned to EK_ALIGN */
    EK_ERROR_MEMORY = 32,      /* less memory than ek_memory_needed says */
    EK_ERROR_SIZE = 33,        /* an input or output buffer of the wrong size */
    EK_ERROR_UNBOUND = 34,     /* ek_run before every input and output was bound */

    /* The machine. */
    EK_ERROR_FLOAT_STATE = 50, /* not round-to-nearest-even, or the build contracts a*b+c */
    EK_ERROR_KERNELS = 51      /* no kernel set that was asked for is in this build */
} ek_status;

/* One line of English, without a newline. Never null. */
EK_API const char *ek_status_string(ek_status status);

/* ---- Kernel sets -------------------------------------------------------------------------- */

/* A word with one bit per kernel set: those that may be used. For each operator the best one of
 * them that supports it is taken, or one of them that the file says was measured to be faster.
 * EK_KERNELS_SCALAR is always part of it. */
typedef uint32_t ek_kernels;
#define EK_KERNELS_SCALAR       0x00000001u
#define EK_KERNELS_SSE41        0x00000002u
#define EK_KERNELS_AVX2         0x00000004u
#define EK_KERNELS_AVXVNNI      0x00000008u
#define EK_KERNELS_AVX512VNNI   0x00000010u
#define EK_KERNELS_AVX512VBMI   0x00000020u
#define EK_KERNELS_NEON         0x00000100u
#define EK_KERNELS_NEON_DOTPROD 0x00000200u
#define EK_KERNELS_NEON_I8MM    0x00000400u
#define EK_KERNELS_CORTEXM_DSP  0x00010000u
#define EK_KERNELS_CORTEXM_MVE  0x00020000u
#define EK_KERNELS_CORTEXM_V6M  0x00040000u
/* Copy weights into the instance's memory in the kernels' own order, where the file holds another. */
#define EK_REPACK               0x80000000u

/* The sets that this build contains. */
EK_API ek_kernels ek_kernels_built(void);

/* "scalar", "avx2"...; null for a bit that names no set. */
EK_API const char *ek_kernels_name(ek_kernels single_bit);

/* ---- Model -------------------------------------------------------------------------------- */

/* A checked view of a file; holds pointers into it and nothing to release. Fields are private.
 * The bytes must stay unchanged and in place while the model or an instance of it is in use. */
typedef struct ek_model {
    const uint8_t *bytes;
    uint32_t size;
    uint32_t op_count;
    uint32_t tensor_count;
    uint16_t input_count;
    uint16_t output_count;
    uint64_t missing_features;
    uint32_t error_offset;
    uint32_t reserved[5];
} ek_model;

/* ek_open: leave out the checksum of the weights, for models trusted to be intact. No table or
 * index is trusted for it: memory safety never rests on a checksum. */
#define EK_OPEN_SKIP_WEIGHTS_CHECKSUM 1u

/* Checks `size` bytes at `bytes` (aligned to EK_ALIGN) and the processor's floating-point state. On
 * failure the model must not be used but for ek_missing_features and ek_error_offset. */
EK_API ek_status ek_open(ek_model *model, const void *bytes, size_t size, uint32_t flags);

/* After EK_ERROR_FEATURE: the bits that are not known here. */
EK_API uint64_t ek_missing_features(const ek_model *model);

/* After another error of ek_open: the byte offset of the record that was refused. */
EK_API uint32_t ek_error_offset(const ek_model *model);

/* How a bound buffer is laid out. */
typedef enum ek_format {
    EK_FORMAT_FLOAT = 0, /* float32 in the model's own layout */
    EK_FORMAT_RAW = 1,   /* input only: 8-bit raw data that the file's table converts */
    EK_FORMAT_INT8 = 2   /* the quantized tensor itself; the file was made with quantized I/O */
} ek_format;

typedef struct ek_io_info {
    const char *name;
    size_t elements;
    int32_t rank;
    int32_t dims[6];      /* of the float32 or int8 array */
    int32_t raw_dims[6];  /* of the raw array; rank dimensions, all zero where there is none */
    ek_format format;     /* EK_FORMAT_FLOAT or EK_FORMAT_INT8: the declared interface */
    uint8_t raw_dtype;    /* 0 none, 1 int8, 2 uint8 */
    uint8_t reserved[3];
    float scale;          /* of the quantized tensor: real = scale * (q - zero_point) */
    int32_t zero_point;
} ek_io_info;

EK_API uint32_t ek_input_count(const ek_model *model);
EK_API uint32_t ek_output_count(const ek_model *model);
EK_API ek_status ek_input_info(const ek_model *model, uint32_t index, ek_io_info *info);
EK_API ek_status ek_output_info(const ek_model *model, uint32_t index, ek_io_info *info);

/* ---- Instance ----------------------------------------------------------------------------- */

typedef struct ek_instance ek_instance;

/* Callbacks return to the library: no C++ exception or longjmp may leave them. */

/* A task of a parallel loop; `thread` is below the configured thread count and no two tasks that
 * run at the same time have the same. */
typedef void (*ek_task)(void *argument, uint32_t index, uint32_t thread);

/* Runs task(argument, i, thread) for every i below `count` and returns when all are done. */
typedef void (*ek_parallel_for)(void *context, ek_task task, void *argument, uint32_t count);

/* Told before (`done` 0) and after (`done` 1) each operator. `data` is the first output's memory,
 * complete when `done` is 1 and valid only during the call. */
typedef struct ek_op_event {
    uint32_t op;           /* index in the file */
    uint32_t tensor;       /* index of the first output in the file */
    uint8_t opcode;
    uint8_t done;
    uint8_t chosen;        /* 1: the kernel is the file's choice, not the runtime's own */
    uint8_t reserved;
    const char *kernel;    /* e.g. "conv2d_avx2" */
    const void *data;
    size_t bytes;
} ek_op_event;
typedef void (*ek_on_op)(void *context, const ek_op_event *event);

/* Zero in every field but `kernels` is a sound default; zero there means scalar. */
typedef struct ek_config {
    ek_kernels kernels;            /* what the processor has: ek_cpu_kernels() in edgekit_cpu.h */
    uint32_t threads;              /* 0 and 1: no parallel_for needed; up to EK_MAX_THREADS */
    ek_parallel_for parallel_for;  /* edgekit_threads.h has one */
    void *parallel_context;
    ek_on_op on_op;
    void *on_op_context;
    uint32_t reserved[4];
} ek_config;

/* Bytes of memory that ek_create wants for exactly these kernels (with or without EK_REPACK) and
 * threads: prepared operators, arena, state, each thread's scratch, repacked weights. 0 if they
 * cannot be had. */
EK_API size_t ek_memory_needed(const ek_model *model, ek_kernels kernels, uint32_t threads);

/* The part of ek_memory_needed that is one thread's scratch. */
EK_API size_t ek_scratch_needed(const ek_model *model, ek_kernels kernels);

/* Prepares an instance in `memory` (aligned to EK_ALIGN). There is no counterpart to release it:
 * the memory is the caller's to reuse. */
EK_API ek_status ek_create(ek_instance **instance, const ek_model *model, const ek_config *config,
                           void *memory, size_t bytes);

/* Inputs are read and outputs written in place during ek_run; a buffer may be rebound any time
 * between runs. float32 buffers are aligned to 4. `bytes` must be exactly the tensor's size. */
EK_API ek_status ek_bind_input(ek_instance *instance, uint32_t index, const void *data, size_t bytes,
                               ek_format format);
EK_API ek_status ek_bind_output(ek_instance *instance, uint32_t index, void *data, size_t bytes,
                                ek_format format);

/* The first run after a bind also links the operators to what is bound. EK_ERROR_UNBOUND unless all
 * inputs and outputs are; EK_ERROR_ARGUMENT if an output shares memory with another buffer. */
EK_API ek_status ek_run(ek_instance *instance);

/* Runs the operators `first` to `end` - 1 of the file alone, as ek_op_event counts them; those
 * behind the last one are none. Calls that together name each operator once, in order, do what
 * ek_run does; until the last of them inputs, outputs and what is bound stay as they are.
 *
 * EK_ERROR_ARGUMENT also if `first` is above `end`. Otherwise the errors of ek_run, and the first
 * call after a bind links all operators, whichever it runs. */
EK_API ek_status ek_run_ops(ek_instance *instance, uint32_t first, uint32_t end);

/* Bytes that an instance keeps from one run to the next; 0 for a model of independent runs. */
EK_API size_t ek_state_bytes(const ek_model *model);

/* Puts the STATE region back to its initial values. */
EK_API void ek_reset(ek_instance *instance);

#ifdef __cplusplus
}
#endif
#endif /* EDGEKIT_H */
